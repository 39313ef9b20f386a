//! The APIs on the traffic port, in groups.

use std::collections::BTreeSet;

use ringmaster_proxy::Mounts;

use super::{Checked, Options, wrong};

/// A group of paths that are mounted on the traffic port together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountGroup {
    /// The scaling API.
    Scaling,
    /// Registered servers: their management, their statistics and the ring.
    Servers,
    /// The nodes of a key-value store.
    Nodes,
}

impl MountGroup {
    /// All groups, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Scaling, Self::Servers, Self::Nodes];

    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scaling => "scaling",
            Self::Servers => "servers",
            Self::Nodes => "nodes",
        }
    }

    /// The paths of the group; one that ends with `/` includes all below it.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Scaling => &["/rep", "/add", "/rm"],
            Self::Servers => &[
                "/api/servers",
                "/api/servers/",
                "/api/health",
                "/api/stats",
                "/api/metrics",
                "/api/route",
                "/api/lookup/",
                "/api/ring",
                "/manage/servers",
                "/manage/servers/",
                "/manage/drain/",
                "/manage/enable/",
                "/manage/reset",
            ],
            Self::Nodes => &["/node/add", "/node/remove"],
        }
    }

    /// What requests to these paths can do, as part of a sentence.
    pub(super) fn power(self) -> &'static str {
        match self {
            Self::Scaling => "scale the fleet",
            Self::Servers => "add and remove servers",
            Self::Nodes => "add and remove nodes",
        }
    }
}

/// The configured groups.
pub(super) fn mounts_of(options: &Options) -> Checked<BTreeSet<MountGroup>> {
    let Some(named) = &options.mounts else { return Ok([MountGroup::Scaling].into()) };
    let named = named.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let groups = named.map(|name| {
        let known = MountGroup::ALL.into_iter().find(|group| group.name() == name);
        known.map_or_else(|| unknown(name), Ok)
    });
    groups.collect()
}

fn unknown(name: &str) -> Checked<MountGroup> {
    let name: String = name.chars().take(80).collect();
    let known = MountGroup::ALL.map(MountGroup::name).join(", ");
    wrong("mounts", format!("'{name}' is not one of {known}"))
}

/// All paths of some groups.
pub(super) fn paths_of(groups: &BTreeSet<MountGroup>) -> Mounts {
    Mounts::new(groups.iter().flat_map(|group| group.paths()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(text: &str) -> Checked<Config> {
        Config::check(toml::from_str(text).unwrap(), true)
    }

    #[test]
    fn groups_are_mounted_by_name() {
        let held = |text: &str| {
            let config = check(text).unwrap();
            let paths = ["/rep", "/api/servers/a", "/manage/reset", "/node/add", "/api/unknown"];
            paths.map(|path| config.proxy.mounts.holds(path))
        };
        assert_eq!(held(""), [true, false, false, false, false]);
        assert_eq!(held("mounts = []"), [false; 5]);
        assert_eq!(held("mounts = [\"\"]"), [false; 5], "an empty environment variable");
        assert_eq!(held("mounts = [\"servers\"]"), [false, true, true, false, false]);
        assert_eq!(held("mounts = [\"nodes\", \" scaling\"]"), [true, false, false, true, false]);
    }

    #[test]
    fn every_path_of_a_group_is_mounted_unchanged() {
        for group in MountGroup::ALL {
            let mounts = paths_of(&[group].into());
            for path in group.paths() {
                let one = if path.ends_with('/') { format!("{path}x") } else { (*path).into() };
                assert!(mounts.holds(&one), "{one}");
                for other in MountGroup::ALL.into_iter().filter(|other| *other != group) {
                    assert!(!paths_of(&[other].into()).holds(&one), "{one} {other:?}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_group_is_refused_with_the_known_ones() {
        let refused = check("mounts = [\"scaling\", \"server\"]").unwrap_err().to_string();
        assert_eq!(refused, "`mounts`: 'server' is not one of scaling, servers, nodes");
    }
}
