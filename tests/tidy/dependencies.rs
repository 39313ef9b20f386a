//! What the project depends on, by `deny.toml`: the part of `cargo deny check` that needs neither that
//! program, which takes longer to build than the project, nor its list of advisories from the network.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A list of strings, or the names of a list of tables.
fn strings(table: &toml::Table, section: &str, key: &str) -> Vec<String> {
    let list = table[section][key].as_array().unwrap();
    let name = |value: &toml::Value| match value {
        toml::Value::Table(table) => table["name"].as_str().unwrap().to_owned(),
        value => value.as_str().unwrap().to_owned(),
    };
    list.iter().map(name).collect()
}

/// The license of a package whose manifest names none.
fn clarified<'a>(rules: &'a toml::Table, name: &str) -> Option<&'a str> {
    let all = rules["licenses"]["clarify"].as_array().unwrap();
    all.iter().find(|one| one["crate"].as_str() == Some(name))?["expression"].as_str()
}

/// All packages of the lock file.
fn packages() -> Vec<Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn is_allowed(license: &str, allowed: &[Licensee]) -> bool {
    let expression = Expression::parse_mode(license, ParseMode::LAX);
    let expression = expression.unwrap_or_else(|error| panic!("{license}: {error}"));
    expression.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)))
}

#[test]
fn dependencies_are_those_that_may_be() {
    let rules: toml::Table = fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap();
    let allowed = strings(&rules, "licenses", "allow");
    let allowed: Vec<_> = allowed.iter().map(|name| Licensee::parse(name).unwrap()).collect();
    let denied = strings(&rules, "bans", "deny");
    let registries = strings(&rules, "sources", "allow-registry");
    let packages = packages();
    assert!(packages.len() > 100, "{}", packages.len());
    for package in &packages {
        let (name, version) = (package["name"].as_str().unwrap(), &package["version"]);
        assert!(!denied.iter().any(|denied| denied == name), "{name} is denied");
        let license = package["license"].as_str().or_else(|| clarified(&rules, name));
        let license = license.unwrap_or_else(|| panic!("{name} {version} names no license"));
        assert!(is_allowed(license, &allowed), "{name} {version}: {license} is not allowed");
        if let Some(source) = package["source"].as_str() {
            let url = source.strip_prefix("registry+");
            let is_known = url.is_some_and(|url| registries.iter().any(|known| known == url));
            assert!(is_known, "{name} {version} comes from {source}");
        }
    }
}

#[test]
fn a_license_is_allowed_if_one_of_its_alternatives_is() {
    let allowed = [Licensee::parse("MIT").unwrap(), Licensee::parse("ISC").unwrap()];
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "MIT AND ISC"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Apache-2.0"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
