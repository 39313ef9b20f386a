//! The pages of the documentation: runs the commands of `console` blocks and compares their output.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::Home;

/// How long a read is repeated until its output matches: heartbeats need some time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Matches any text within a line: times, response times, random parts of names.
const ANY: char = '…';

/// A command after `$ `, and the lines that it writes.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) command: String,
    pub(crate) output: String,
}

/// All commands of a page. A line that ends with a backslash continues in the next one.
pub(crate) fn shown(page: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let (mut is_console, mut goes_on) = (false, false);
    for line in page.lines() {
        match (is_console, line) {
            (_, "```console") => is_console = true,
            (true, "```") => is_console = false,
            (true, line) if goes_on => shown.last_mut().unwrap().command += &format!("\n{line}"),
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => {
                    shown.push(Shown { command: command.to_owned(), output: String::new() });
                }
                None => shown.last_mut().unwrap().output += &format!("{line}\n"),
            },
            (false, _) => {}
        }
        goes_on = is_console && line.ends_with('\\');
    }
    shown
}

/// Runs the commands of a page, which must be at least `least`; `here` adapts each of them to this
/// test.
pub(crate) fn run(page: &str, least: usize, here: impl Fn(&str) -> String) {
    let shown = shown(page);
    assert!(shown.len() >= least, "the page shows only {shown:#?}");
    for Shown { command, output } in shown {
        let begin = Instant::now();
        loop {
            let mut shell = Command::new("sh");
            shell.args(["-euc", &here(&command)]).stdin(Stdio::null()).env("NO_PROXY", "*");
            let run = Home::run(&mut shell);
            assert_eq!(run.code, 0, "{command}: {run:?}");
            if is_like(run.out.trim_end(), output.trim_end()) {
                break;
            }
            let may_wait = only_reads(&command) && begin.elapsed() < PATIENCE;
            assert!(may_wait, "{command}\nthe page:\n{output}\nhere:\n{}", run.out);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether a command only reads, so that it can be repeated.
fn only_reads(command: &str) -> bool {
    let changes = ["-X ", " -d ", "docker stop", "docker start", "toggle", "SREM", "HSET"];
    !changes.iter().any(|word| command.contains(word))
}

/// Whether each line is the expected one, in which [`ANY`] stands for any text.
pub(crate) fn is_like(actual: &str, expected: &str) -> bool {
    let (actual, expected): (Vec<_>, Vec<_>) =
        (actual.lines().collect(), expected.lines().collect());
    actual.len() == expected.len() && actual.iter().zip(expected).all(|(is, like)| fits(is, like))
}

fn fits(line: &str, expected: &str) -> bool {
    let Some((start, rest)) = expected.split_once(ANY) else { return line == expected };
    let Some(line) = line.strip_prefix(start) else { return false };
    // The text after the placeholder must follow somewhere in the line.
    (0..=line.len()).any(|at| line.is_char_boundary(at) && fits(&line[at..], rest))
}
