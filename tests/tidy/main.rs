//! The house rules, as a test: what the pure folders never do, which way dependencies point, how
//! long functions and files may be, and which words are not ours. Each message names file, line,
//! rule and what to write instead.
//!
//! It reads sources as text, without comments and literals, and walks whatever exists.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod circles;
mod dependencies;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Roots of all crates, from the workspace.
const ROOTS: &[&str] = &["src", "crates", "tests", "examples", "server", "analysis", "fuzz"];
/// This file holds what it forbids.
const SELF: &str = "tests/tidy/main.rs";

/// Folders without effects. Of a crate its manifest shows most of that; this is about what the
/// standard library offers.
const PURE: &[&str] = &["crates/core/src", "crates/http1/src", "crates/sim/src", "src/simulate"];

/// Words that pure code never uses, and what to do instead. Tests of these folders may.
const IMPURE: &[(&[&str], &str)] = &[
    (&["async", "await", "tokio", "futures_util"], "return an `Action`, and take an `Event`"),
    (&["Instant", "SystemTime"], "take a `Moment` as an argument"),
    (&["thread_rng", "rand::rng", "rand::random"], "take a roll, or a generator that is seeded"),
    (
        &["Mutex", "RwLock", "Condvar", "atomic", "OnceLock", "LazyLock", "thread", "mpsc"],
        "own the data: one task calls this code",
    ),
    (
        &["fs", "File", "TcpStream", "TcpListener", "UdpSocket", "stdin", "stdout"],
        "return an `Action`",
    ),
    (&["env", "std::process"], "take a setting as an argument"),
    (&["tracing", "log", "println", "eprintln", "print", "eprint"], "return a `Note`"),
    (&["HashMap", "HashSet"], "use `BTreeMap` or `BTreeSet`: their order is no chance"),
    (&["serde", "serde_json"], "put a wire struct into `api`, `config` or `store`"),
];

/// Which modules of its crate, and which parts of the crates below, a module's code may name; its own
/// are always allowed. Tests are free. Between crates the manifests say who sees whom.
enum Arrows {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

const ARROWS: &[(&str, Arrows)] = &[
    ("crates/core/src/ring", Arrows::Only(&[])),
    ("crates/core/src/balance", Arrows::Only(&["ring"])),
    ("crates/core/src/fleet", Arrows::Only(&["ring"])),
    ("crates/core/src/roles", Arrows::Only(&["fleet", "ring"])),
    (
        "src/simulate",
        Arrows::Only(&[
            "ringmaster_core::balance",
            "ringmaster_core::fleet::victim",
            "ringmaster_core::ring",
        ]),
    ),
    (
        "src/driver",
        Arrows::Only(&["ringmaster_core::fleet::ids", "ringmaster_core::fleet::message"]),
    ),
    ("src/store", Arrows::Only(&["ringmaster_core"])),
    ("src/control", Arrows::Never(&["ringmaster_proxy", "api"])),
    ("src/api", Arrows::Never(&["ringmaster_core::fleet::supervisor", "driver"])),
];

/// Crates below whose paths are looked at, beside those of the own crate.
const CRATES: &[&str] = &["ringmaster_core", "ringmaster_proxy"];

/// Never, anywhere: in code, and in comments.
const UNFINISHED: &[(&str, &str)] = &[
    ("todo!", "finish it, or return an error that says what is missing"),
    ("unimplemented!", "finish it, or return an error that says what is missing"),
    ("dbg!", "remove it; the core reports notes, the shell logs"),
    ("#[ignore", "make it run, or remove it"),
];
const PROMISES: &[&str] = &["TODO", "FIXME", "XXX"];

/// Words that the lexicon replaces, in the crate that it is about.
const LEXICON: &[(&str, &str)] = &[
    ("vnode", "virtual server"),
    ("vnodes", "virtual servers"),
    ("bucket", "slot"),
    ("buckets", "slots"),
    ("cluster", "fleet"),
    ("blacklist", "ejected"),
    ("failover", "the next of the preference list"),
    ("whitelist", "admitted"),
];

#[test]
fn house_rules_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ROOTS {
        walk(&root.join(folder), &mut files);
    }
    assert!(files.len() > 30, "the walk found only {files:?}");
    files.sort();
    let mut broken = Vec::new();
    let mut sources = Vec::new();
    for file in &files {
        let path = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        let source = fs::read_to_string(file).unwrap();
        broken.extend(check(&path, &source));
        sources.push((path, source));
    }
    broken.extend(circles::circles(&sources));
    assert!(broken.is_empty(), "{} house rules broken:\n{}", broken.len(), broken.join("\n"));
}

/// A fuzz target without seeds, or one whose check no ordinary test plays, would rot.
#[test]
fn each_fuzz_target_has_a_corpus_and_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names_in = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join("fuzz").join(folder)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    };
    let targets = names_in("fuzz_targets");
    assert_eq!(names_in("corpus"), targets);
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("crates"), &mut files);
    let is_check = |path: &PathBuf| path.to_string_lossy().contains("fuzzing");
    let checks = files.iter().filter(|path| is_check(path));
    let checks: String = checks.map(|path| fs::read_to_string(path).unwrap()).collect();
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        assert!(checks.contains(&format!("(\"{name}\", ")), "no test replays {name}");
        let path = root.join("fuzz/fuzz_targets").join(&name).with_extension("rs");
        let target = fs::read_to_string(path).unwrap();
        assert!(target.contains(&format!("fuzzing::{name}(")), "{name} calls another check");
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// All broken rules of one file.
fn check(path: &str, source: &str) -> Vec<String> {
    if path == SELF {
        return Vec::new();
    }
    let code = without_comments_and_literals(source);
    let lines: Vec<&str> = code.lines().collect();
    let in_tests = test_lines(path, &lines);
    let mut broken = Vec::new();
    let mut report =
        |line: usize, what: String| broken.push(format!("{path}:{}: {what}", line + 1));
    purity(path, &lines, &in_tests, &mut report);
    arrows(path, &lines, &in_tests, &mut report);
    unfinished(source, &lines, &mut report);
    lexicon(path, source, &mut report);
    lengths(&lines, &in_tests, &mut report);
    broken
}

type Report<'a> = &'a mut dyn FnMut(usize, String);

/// The sources of a product's crate, by which rules speak of it; the rest of the path is the module.
fn source_of(path: &str) -> Option<(&str, &str)> {
    let is_product = path.starts_with("src/") || path.starts_with("crates/");
    let at = path.find("src/").filter(|_| is_product)? + "src/".len();
    Some(path.split_at(at))
}

/// The first part of a module's path: the folder or file under `src`.
fn module_of(path: &str) -> Option<&str> {
    let (_, inside) = source_of(path)?;
    inside.split('/').next().map(|first| first.trim_end_matches(".rs"))
}

fn is_in(folder: &str, path: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn purity(path: &str, lines: &[&str], in_tests: &[bool], report: Report<'_>) {
    let Some(pure) = PURE.iter().find(|pure| is_in(pure, path)) else { return };
    for (index, line) in lines.iter().enumerate().filter(|(index, _)| !in_tests[*index]) {
        for (words, instead) in IMPURE {
            for word in words.iter().filter(|word| has_word(line, word)) {
                report(index, format!("`{word}` in `{pure}`, which is pure: {instead}"));
            }
        }
    }
}

fn arrows(path: &str, lines: &[&str], in_tests: &[bool], report: Report<'_>) {
    let Some(module) = module_of(path) else { return };
    let Some((_, arrows)) = ARROWS.iter().find(|(from, _)| is_in(from, path)) else { return };
    let text: String = lines
        .iter()
        .zip(in_tests)
        .map(|(line, in_tests)| if *in_tests { "\n".to_owned() } else { format!("{line}\n") })
        .collect();
    for (line, used) in crate_paths(path, &text) {
        let is_under = |part: &&str| used == **part || used.starts_with(&format!("{part}::"));
        // Naming a whole part is naming everything in it.
        let is_above = |part: &&str| part.starts_with(&format!("{used}::"));
        let allowed = match arrows {
            Arrows::Only(parts) => is_under(&module) || parts.iter().any(is_under),
            Arrows::Never(parts) => !parts.iter().any(|p| is_under(p) || is_above(p)),
        };
        if !allowed {
            let may = match arrows {
                Arrows::Only([]) => "nothing else of ours".to_owned(),
                Arrows::Only(parts) => format!("only {}", parts.join(", ")),
                Arrows::Never(parts) => format!("anything but {}", parts.join(", ")),
            };
            report(
                line,
                format!(
                    "`{module}` uses `{used}`: it may see {may}; pass a value in, or move the code"
                ),
            );
        }
    }
}

fn unfinished(source: &str, code: &[&str], report: Report<'_>) {
    for (index, line) in code.iter().enumerate() {
        for (word, instead) in UNFINISHED.iter().filter(|(word, _)| line.contains(word)) {
            report(index, format!("`{word}`: {instead}"));
        }
    }
    for (index, line) in source.lines().enumerate() {
        for word in PROMISES.iter().filter(|word| has_word(line, word)) {
            report(index, format!("`{word}`: do it now, or write an issue"));
        }
    }
}

fn lexicon(path: &str, source: &str, report: Report<'_>) {
    if module_of(path).is_none() {
        return;
    }
    for (index, line) in source.lines().enumerate() {
        let line = line.to_lowercase();
        for (word, ours) in LEXICON.iter().filter(|(word, _)| has_word(&line, word)) {
            report(index, format!("'{word}' is not our word: say '{ours}'"));
        }
    }
}

fn lengths(lines: &[&str], in_tests: &[bool], report: Report<'_>) {
    let own = in_tests.iter().filter(|in_tests| !**in_tests).count();
    if own > FILE_LINES_MAX {
        report(
            0,
            format!(
                "{own} lines without tests, at most {FILE_LINES_MAX}: split it by what it does"
            ),
        );
    }
    for (first, last, name) in functions(lines) {
        let length = last - first + 1;
        if length > FUNCTION_LINES_MAX {
            report(
                first,
                format!(
                    "`fn {name}` has {length} lines, at most {FUNCTION_LINES_MAX}: name its parts"
                ),
            );
        }
    }
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word, or a path of words, stands for itself in a line.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_word_part) && !after.starts_with(is_word_part)
    })
}

/// The source with comments, strings and characters blanked out; lines stay where they are.
fn without_comments_and_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip_from(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment or literal that starts here ends.
fn skip_from(chars: &[char], at: usize) -> Option<usize> {
    let next = |offset: usize| chars.get(at + offset).copied();
    match chars[at] {
        '/' if next(1) == Some('/') => {
            Some(chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n))
        }
        '/' if next(1) == Some('*') => Some(end_of_block_comment(chars, at)),
        '"' => Some(end_of_string(chars, at + 1)),
        'r' if !at.checked_sub(1).is_some_and(|before| is_word_part(chars[before])) => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            (next(hashes + 1) == Some('"')).then(|| end_of_raw(chars, at + hashes + 2, hashes))
        }
        // A character, as opposed to a lifetime.
        '\'' if next(1) == Some('\\') => {
            let quote = chars[at + 3..].iter().position(|&c| c == '\'')?;
            Some(at + 3 + quote + 1)
        }
        '\'' if next(2) == Some('\'') => Some(at + 3),
        _ => None,
    }
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (at, depth) = (at + 2, depth + 1),
            ('*', '/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw(chars: &[char], start: usize, hashes: usize) -> usize {
    let closes = |at: usize| {
        chars[at] == '"' && (1..=hashes).all(|offset| chars.get(at + offset) == Some(&'#'))
    };
    (start..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + hashes + 1)
}

/// The line on which the block that opens at or after a line closes; `None` if a `;` comes first.
fn end_of_block(lines: &[&str], from: usize, column: usize) -> Option<usize> {
    let (mut depth, mut nesting) = (0, 0);
    for (index, line) in lines.iter().enumerate().skip(from) {
        let skipped = if index == from { column } else { 0 };
        for c in line[skipped..].chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(index),
                '}' => depth -= 1,
                '(' | '[' => nesting += 1,
                ')' | ']' => nesting -= 1,
                ';' if depth == 0 && nesting == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// Which lines are test code: whole files of tests, and what follows `#[cfg(test)]`.
fn test_lines(path: &str, lines: &[&str]) -> Vec<bool> {
    let is_test_file = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let mut in_tests = vec![is_test_file; lines.len()];
    for (index, line) in lines.iter().enumerate() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            continue;
        }
        let after = (index + 1).min(lines.len() - 1);
        let end = end_of_block(lines, after, 0).unwrap_or(after);
        in_tests[index..=end].fill(true);
    }
    in_tests
}

/// First and last line, and name, of every function with a body.
fn functions(lines: &[&str]) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        for (at, _) in line.match_indices("fn ") {
            let name: String = line[at + 3..].chars().take_while(|c| is_word_part(*c)).collect();
            if name.is_empty() || line[..at].ends_with(is_word_part) {
                continue;
            }
            if let Some(end) = end_of_block(lines, index, at) {
                found.push((index, end, name));
            }
        }
    }
    found
}

/// Every path into this crate that a text names, from its root: in `use` trees and in place.
fn crate_paths(path: &str, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let here = module_path(path);
    let mut at = 0;
    while let Some(offset) = text[at..].find(|c: char| c.is_alphabetic() || c == '_') {
        let start = at + offset;
        let word = word_at(text, start);
        at = start + word.len();
        let is_start = !text[..start].ends_with("::");
        let is_ours = word == "crate" || word == "super" || CRATES.contains(&word);
        if !is_start || !is_ours {
            continue;
        }
        let line = text[..start].matches('\n').count();
        for tree in leaves(&text[start..]) {
            if let Some(full) = from_root(&here, &tree).filter(|full| !full.is_empty()) {
                found.push((line, full));
            }
        }
    }
    found
}

fn word_at(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    &rest[..rest.find(|c| !is_word_part(c)).unwrap_or(rest.len())]
}

fn module_path(path: &str) -> Vec<String> {
    let inside = source_of(path).map_or(path, |(_, inside)| inside).trim_end_matches(".rs");
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// `a::{b, c::{d, e}}` becomes `a::b`, `a::c::d`, `a::c::e`; ends where the path does.
fn leaves(text: &str) -> Vec<String> {
    let mut prefix = String::new();
    let mut rest = text;
    loop {
        let word = word_at(rest, 0);
        prefix.push_str(word);
        rest = &rest[word.len()..];
        let Some(after) = rest.strip_prefix("::") else { return vec![prefix] };
        rest = after;
        if let Some(inside) = rest.strip_prefix('{') {
            let parts = split_tree(inside).into_iter().flat_map(|part| leaves(part.trim()));
            return parts.map(|part| format!("{prefix}::{part}")).collect();
        }
        if !rest.starts_with(is_word_part) {
            return vec![prefix];
        }
        prefix.push_str("::");
    }
}

/// The parts of `a, b::{c, d}, e}` up to its closing brace.
fn split_tree(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[from..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A path that starts with `crate` or some `super`, from the root of the crate; one of another crate
/// as it is.
fn from_root(here: &[String], path: &str) -> Option<String> {
    if CRATES.iter().any(|name| word_at(path, 0) == *name) {
        return Some(path.to_owned());
    }
    let mut base = here.to_vec();
    let mut parts = path.split("::").peekable();
    if parts.peek() == Some(&"crate") {
        base.clear();
        parts.next();
    }
    while parts.peek() == Some(&"super") {
        base.pop()?;
        parts.next();
    }
    base.extend(parts.map(str::to_owned));
    Some(base.join("::"))
}

/// What each rule says of a bad file, and that it says nothing of a good one.
#[test]
fn each_rule_finds_what_it_is_for() {
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(70));
    let large = "const A: u8 = 0;\n".repeat(501);
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "crates/core/src/fleet/a.rs",
            "fn f() {\n    let t = Instant::now();\n}",
            &[":2: `Instant`", "Moment"],
        ),
        ("crates/core/src/ring/a.rs", "use std::collections::HashMap;", &["`HashMap`", "BTreeMap"]),
        ("crates/core/src/balance/a.rs", "async fn f() {}", &["`async`", "Action"]),
        ("crates/sim/src/a.rs", "fn f() { tracing::info!(); }", &["`tracing`", "Note"]),
        ("crates/core/src/fleet/a.rs", "#[derive(serde::Serialize)]\nstruct A;", &[":1: `serde`"]),
        ("crates/core/src/fleet/a.rs", "fn f() -> f64 { rand::random() }", &["`rand::random`"]),
        (
            "crates/core/src/ring/a.rs",
            "use crate::fleet::ids::Moment;",
            &["`ring` uses `fleet::ids::Moment`"],
        ),
        (
            "crates/core/src/fleet/a.rs",
            "\nuse crate::{\n    ring::Ring,\n    sim::World,\n};",
            &[":2:", "`sim::World`"],
        ),
        ("crates/core/src/fleet/mod.rs", "use super::control::Handle;", &["`control::Handle`"]),
        (
            "src/driver/a.rs",
            "use ringmaster_core::fleet::{ids::Handle, plan::plan};",
            &["`ringmaster_core::fleet::plan::plan`"],
        ),
        (
            "src/api/a.rs",
            "fn f(s: &ringmaster_core::fleet::supervisor::Supervisor) {}",
            &["`ringmaster_core::fleet::supervisor"],
        ),
        ("src/api/a.rs", "use ringmaster_core::fleet;", &["`ringmaster_core::fleet`"]),
        (
            "src/control/a.rs",
            "use ringmaster_proxy::Workers;",
            &["anything but ringmaster_proxy, api"],
        ),
        ("server/src/a.rs", "fn f() { todo!() }", &["`todo!`"]),
        ("analysis/src/a.rs", "// FIXME: later\nfn f() {}", &[":1: `FIXME`"]),
        ("tests/a.rs", "#[test]\n#[ignore]\nfn f() {}", &[":2: `#[ignore`"]),
        (
            "crates/core/src/ring/a.rs",
            "/// One vnode.\nfn f() {}",
            &[":1: 'vnode'", "'virtual server'"],
        ),
        ("server/src/a.rs", &long, &[":1: `fn long` has 72 lines", "at most 70"]),
        ("crates/proxy/src/a.rs", &large, &["501 lines without tests"]),
    ];
    for (path, source, expected) in cases {
        let broken = check(path, source);
        assert_eq!(broken.len(), 1, "{path}: {source}\n{broken:?}");
        assert!(broken[0].starts_with(path), "{broken:?}");
        for part in *expected {
            assert!(broken[0].contains(part), "{part} is not in {broken:?}");
        }
    }
}

#[test]
fn what_is_allowed_passes() {
    let shouting = "// Instant::now() in a comment, \"HashMap\" in words.\nconst A: &str = \"tokio { todo! }\";\nconst B: &str = r#\"async \" fn\"#;\nconst C: char = '\"';\nfn f<'a>(a: &'a str) -> &'a str { a }\n/* serde /* nested */ still */";
    let tested = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::collections::HashSet;\n    use crate::driver::Driver;\n}\n";
    let cases: &[(&str, &str)] = &[
        ("crates/core/src/fleet/a.rs", shouting),
        ("crates/core/src/ring/a.rs", tested),
        ("crates/sim/src/tests.rs", "fn f() { std::thread::spawn(|| std::env::var(\"A\")); }"),
        (
            "crates/core/src/fleet/supervisor/mod.rs",
            "use super::{ids::Moment, plan::plan};\nuse crate::ring::Ring;",
        ),
        (
            "crates/core/src/fleet/supervisor/a.rs",
            "use super::super::observed;\nuse super::Supervisor;",
        ),
        (
            "src/driver/mod.rs",
            "use ringmaster_core::fleet::{\n    ids::{Handle, InstanceId},\n    message::*,\n};",
        ),
        (
            "src/control/mod.rs",
            "use ringmaster_core::fleet::supervisor::Supervisor;\nuse std::collections::HashMap;",
        ),
        (
            "crates/proxy/src/mod.rs",
            "use ringmaster_core::{balance, fleet::table::RoutingTable};\nasync fn f() {}",
        ),
        (
            "crates/core/src/fleet/a.rs",
            "trait A { fn without_body(&self) -> [u8; 2]; }\nfn instant() {}",
        ),
    ];
    for (path, source) in cases {
        let broken = check(path, source);
        assert!(broken.is_empty(), "{broken:?}");
    }
}
