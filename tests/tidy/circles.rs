//! No folder holds files that use each other in a circle, over however many others: each layer can be
//! read without those above it.

use std::collections::{BTreeMap, BTreeSet};

use super::{crate_paths, module_path, source_of, test_lines, without_comments_and_literals};

/// Folders that have a circle still: the path through hyper, which goes when the one on our own codec
/// has taken its place.
const NOT_YET: &[&str] = &["crates/proxy/src/"];

/// By folder, the files and folders in it, each with the others that it uses.
type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Each circle in a sentence.
pub(super) fn circles(files: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, uses) in uses(files) {
        let reached_from = |start: &String| {
            let mut reached = BTreeSet::new();
            let mut left = vec![start];
            while let Some(one) = left.pop() {
                let others = uses.get(one).into_iter().flatten();
                left.extend(others.filter(|other| reached.insert((*other).clone())));
            }
            reached
        };
        let in_circle = |one: &&String| reached_from(one).contains(*one);
        let circle: Vec<&str> = uses.keys().filter(in_circle).map(String::as_str).collect();
        if !circle.is_empty() && !NOT_YET.contains(&folder.as_str()) {
            let names = circle.join(", ");
            found.push(format!("{folder}: {names} use each other: move what both need below both"));
        }
    }
    found
}

fn uses(files: &[(String, String)]) -> Uses {
    let mut uses = Uses::new();
    for (path, source) in files {
        let Some((root, _)) = source_of(path) else { continue };
        let code = without_comments_and_literals(source);
        let lines: Vec<&str> = code.lines().collect();
        let own = lines.iter().zip(test_lines(path, &lines));
        let own: Vec<&str> = own.map(|(line, is_test)| if is_test { "" } else { line }).collect();
        let here = module_path(path);
        for (_, used) in crate_paths(path, &own.join("\n")) {
            let used: Vec<&str> = used.split("::").collect();
            let common = here.iter().zip(&used).take_while(|(a, b)| a == b).count();
            // A folder's own file, `mod.rs`, shows what is in it: it is no file beside the others.
            if let (Some(from), Some(to)) = (here.get(common), used.get(common)) {
                let folder = format!("{root}{}", here[..common].join("/"));
                let others = uses.entry(folder).or_default().entry(from.clone()).or_default();
                others.insert((*to).to_owned());
            }
        }
    }
    uses
}

#[test]
fn a_circle_in_any_folder_is_found_and_tests_make_none() {
    let file = |path: &str, source: &str| (path.to_owned(), source.to_owned());
    let free = [
        file("crates/x/src/lib.rs", "mod a;\npub use a::A;"),
        file("crates/x/src/a/mod.rs", "use crate::b::B;\nuse super::c;"),
        file("crates/x/src/a/one.rs", "use super::two::Two;\nuse super::Shown;"),
        file("crates/x/src/a/two.rs", "use crate::c::C;"),
        file("crates/x/src/b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
        file("crates/x/src/c.rs", "fn f() -> crate::d::D {}"),
        file("crates/y/src/c.rs", "use crate::a::A;"),
        file("src/b.rs", "use crate::a::A;"),
    ];
    assert_eq!(circles(&free), [""; 0]);
    let whole = [&free[..], &[file("crates/x/src/d.rs", "use crate::a::inner::A;")]].concat();
    let found = circles(&whole);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("crates/x/src/: a, c, d use each other"), "{found:?}");
    let deep = [&free[..], &[file("crates/x/src/a/two/deep.rs", "use super::super::one::One;")]];
    let found = circles(&deep.concat());
    assert!(found[0].starts_with("crates/x/src/a: one, two use each other"), "{found:?}");
}
