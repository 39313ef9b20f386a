//! Which paths on the traffic port are ours, and not for replicas.

/// Paths that go to the control router: exact ones, and all below a prefix.
///
/// Only the text of a path counts, as the client sent it. An encoded, doubled or dotted spelling is
/// another path, and goes to a replica: what a filter before us has let pass as one thing must not
/// become another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    exact: Vec<Box<str>>,
    /// They end with `/`.
    prefixes: Vec<Box<str>>,
    /// The bytes that stand behind the first `/`, as a set: most requests are told apart by it.
    firsts: [u64; 4],
}

impl Mounts {
    /// These paths: one that ends with `/` is a prefix, every other one is exact.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut mounts = Self::default();
        for path in paths {
            if let Some(first) = path.as_bytes().get(1) {
                mounts.firsts[usize::from(first / 64)] |= 1 << (first % 64);
            }
            let of_kind = match path.ends_with('/') {
                true => &mut mounts.prefixes,
                false => &mut mounts.exact,
            };
            of_kind.push(path.into());
        }
        mounts
    }

    /// Whether a path is one of these, or lies below one of the prefixes.
    #[inline]
    pub fn holds(&self, path: &str) -> bool {
        let Some(first) = path.as_bytes().get(1) else { return false };
        self.firsts[usize::from(first / 64)] & 1 << (first % 64) != 0 && self.search(path)
    }

    fn search(&self, path: &str) -> bool {
        let is_exact = self.exact.iter().any(|exact| **exact == *path);
        is_exact
            || self.prefixes.iter().any(|prefix| path.strip_prefix(&**prefix).is_some_and(is_plain))
    }
}

/// Whether the rest of a path names something, and nothing that a filter could take for another
/// place: no segment is empty or made of dots, encoded or not, and no slash is hidden.
fn is_plain(rest: &str) -> bool {
    let is_plain = |segment: &str| {
        let bare = segment.replace("%2e", ".").replace("%2E", ".");
        let hides_slash = ["%2f", "%2F", "%5c", "%5C", "\\"].iter().any(|it| segment.contains(it));
        !matches!(&*bare, "" | "." | "..") && !hides_slash
    };
    rest.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts() -> Mounts {
        Mounts::new([
            "/rep",
            "/rm",
            "/api/servers",
            "/api/servers/",
            "/api/lookup/",
            "/manage/reset",
        ])
    }

    #[test]
    fn exact_paths_and_what_lies_below_a_prefix_are_ours() {
        for ours in [
            "/rep",
            "/rm",
            "/api/servers",
            "/api/servers/a",
            "/api/servers/10.0.0.1-9001/weight",
            "/api/lookup/user%20123",
            "/api/lookup/...",
            "/manage/reset",
        ] {
            assert!(mounts().holds(ours), "{ours}");
            assert!(!Mounts::default().holds(ours), "{ours}");
        }
    }

    #[test]
    fn every_other_spelling_is_for_a_replica() {
        for other in [
            "",
            "/",
            "*",
            "rep",
            "//rep",
            "/rep/",
            "/Rep",
            "/reps",
            "/re",
            "/%72ep",
            "/r%65p",
            "/./rep",
            "/x/../rep",
            "/api",
            "/api/",
            "/api/unknown",
            "/api/server",
            "/api/serversx",
            "/api/servers/",
            "/api/servers//a",
            "/api/servers/a/",
            "/api/servers/a//weight",
            "/api/servers/.",
            "/api/servers/../stats",
            "/api/servers/%2e%2E/stats",
            "/api/servers/.%2e",
            "/api/servers/a%2Fweight",
            "/api/servers/a%5c..",
            "/api/lookup",
            "/api/lookup/",
            "/API/servers/a",
            "/manage/reset/",
            "/manage/",
            "/rep\u{e9}",
            "/\u{e9}",
        ] {
            assert!(!mounts().holds(other), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_is_passed_over_for_its_first_byte(paths in proptest::collection::vec("/[a-zé%]{1,3}", 0..5), path in "/[a-zé%]{1,3}") {
            let held = Mounts::new(paths.iter().map(String::as_str)).holds(&path);
            proptest::prop_assert_eq!(held, paths.contains(&path));
        }
    }
}
