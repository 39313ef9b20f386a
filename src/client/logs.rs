//! The logs and endings of replicas on a terminal.

use std::fmt::Write;

use reqwest::Method;
use serde_json::Value;

use super::{ask, segment, show};
use crate::cli::Logs;

/// Log lines of the last ending that the status shows.
const STATUS_LINES: usize = 3;

/// Shows the last lines of a replica, after those of its instances that ended.
///
/// # Errors
/// The balancer cannot be reached, or knows no replica of this name.
pub async fn logs(logs: &Logs, as_json: bool) -> anyhow::Result<String> {
    let mut path = format!("/api/logs/{}", segment(&logs.name)?);
    if let Some(lines) = logs.lines {
        let _ = write!(path, "?lines={lines}");
    }
    let response = ask(&logs.client, Method::GET, &path, None).await?;
    show(as_json, &response, draw)
}

fn draw(response: &Value) -> String {
    let mut text = String::new();
    for ending in response["endings"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "--- {} {}", name(ending), describe_ending(ending));
        put_lines(&mut text, &ending["lines"], usize::MAX, "");
    }
    let instance = &response["instance"];
    if instance.is_object() {
        let _ = writeln!(text, "--- {}, {}", name(instance), text_of(&instance["phase"]));
        match instance["error"].as_str() {
            Some(why) => text.push_str(&format!("no log: {why}\n")),
            None => put_lines(&mut text, &instance["lines"], usize::MAX, ""),
        }
    }
    if text.is_empty() {
        text.push_str("nothing runs, and nothing is kept\n");
    }
    text
}

/// The trouble of a replica and its last ending; nothing for one without either.
pub(super) fn trouble(text: &mut String, replica: &Value) {
    let failures = replica["failures"].as_u64().unwrap_or(0);
    if failures > 0 {
        let _ = write!(text, "  failed {failures} times in a row");
        if let Some(wait) = replica["next_try_in_ms"].as_u64() {
            let _ = write!(text, ", next try in {:.1} s", wait as f64 / 1_000.0);
        }
        text.push('\n');
    }
    if let Some(why) = replica["last_error"]["message"].as_str() {
        let _ = writeln!(text, "  last error at {}: {why}", time(&replica["last_error"]));
    }
    let ending = &replica["last_ending"];
    if ending.is_object() {
        let _ = writeln!(text, "  {} {}", name(ending), describe_ending(ending));
        put_lines(text, &ending["lines"], STATUS_LINES, "    ");
    }
}

fn describe_ending(ending: &Value) -> String {
    let mut text = format!("ended at {}", time(ending));
    match ending["exit_code"].as_i64() {
        Some(code) => text.push_str(&format!(", exit code {code}")),
        None => text.push_str(", exit code unknown"),
    }
    if let Some(signal) = ending["signal"].as_str() {
        text.push_str(&format!(" ({signal})"));
    }
    if ending["out_of_memory"] == true {
        text.push_str(", out of memory");
    }
    text
}

fn put_lines(text: &mut String, lines: &Value, most: usize, indent: &str) {
    let lines: Vec<&str> =
        lines.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for line in &lines[lines.len().saturating_sub(most)..] {
        let _ = writeln!(text, "{indent}{line}");
    }
}

fn name(value: &Value) -> String {
    format!("{} (incarnation {})", text_of(&value["name"]), value["incarnation"])
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The time of day in UTC, to the millisecond.
fn time(value: &Value) -> String {
    let Some(time_us) = value["time_us"].as_u64() else { return "?".to_owned() };
    let (seconds, millis) = (time_us / 1_000_000, time_us / 1_000 % 1_000);
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03} UTC", seconds % 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ending() -> Value {
        json!({
            "name": "server_1", "incarnation": 1, "time_us": 1_700_000_000_123_456u64,
            "exit_code": 137, "signal": "SIGKILL", "out_of_memory": true,
            "lines": ["one", "two", "three", "four"],
        })
    }

    #[test]
    fn endings_come_before_the_running_instance() {
        let running = json!({
            "name": "server_7", "incarnation": 2, "phase": "admitted", "lines": ["hello"],
        });
        let text = draw(&json!({ "replica": 1, "instance": running, "endings": [ending()] }));
        assert_eq!(
            text,
            "--- server_1 (incarnation 1) ended at 22:13:20.123 UTC, exit code 137 (SIGKILL), out of memory\n\
             one\ntwo\nthree\nfour\n\
             --- server_7 (incarnation 2), admitted\nhello\n"
        );
        let starting = json!({ "name": "S5", "incarnation": 1, "phase": "starting", "lines": [],
            "error": "'S5' has not started yet" });
        let text = draw(&json!({ "replica": 1, "instance": starting, "endings": [] }));
        assert!(text.ends_with("starting\nno log: 'S5' has not started yet\n"), "{text}");
        let nothing = draw(&json!({ "replica": 1, "instance": null, "endings": [] }));
        assert_eq!(nothing, "nothing runs, and nothing is kept\n");
    }

    #[test]
    fn a_healthy_replica_has_no_trouble() {
        let mut text = String::new();
        trouble(&mut text, &json!({ "failures": 0 }));
        assert_eq!(text, "");
        let replica = json!({
            "failures": 3, "next_try_in_ms": 1_250, "last_ending": ending(),
            "last_error": { "time_us": 61_000_000u64, "message": "it ended: exit code 1" },
        });
        trouble(&mut text, &replica);
        assert_eq!(
            text,
            "  failed 3 times in a row, next try in 1.2 s\n  \
               last error at 00:01:01.000 UTC: it ended: exit code 1\n  \
               server_1 (incarnation 1) ended at 22:13:20.123 UTC, exit code 137 (SIGKILL), out of memory\n    \
                 two\n    three\n    four\n"
        );
    }
}
