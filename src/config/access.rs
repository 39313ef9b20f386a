//! Who may change the fleet: tokens, host names, and the address of the admin port.

use std::{collections::BTreeSet, fs, io::Read, net::SocketAddr, path::Path};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Checked, ConfigError, MountGroup, Options, wrong};
use crate::api::guard::is_host_name;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Reads a value without quoting it in the error, because it may be a secret.
pub(super) fn hidden<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some).map_err(|_| {
        D::Error::custom("the value is not of the type that it must have (it is not shown here)")
    })
}

/// Who may use the admin port and the scaling API.
#[derive(Clone, Debug)]
pub struct Access {
    /// Required by the admin port, and by the scaling API on both ports.
    pub admin_token: Option<Secret>,
    /// Sufficient for `/metrics`.
    pub metrics_token: Option<Secret>,
    /// Host names that the admin port accepts, beside addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// The same for requests from browsers that change something on the traffic port.
    pub control_hosts: Vec<String>,
    /// Whether an admin port without a token may be reached from other machines.
    pub admin_open: bool,
    /// Whether `/rep` on the traffic port is shown without the token.
    pub public_rep: bool,
}

impl Access {
    /// A notice if other machines can change the fleet without a token.
    pub(super) fn notice(
        &self,
        listen: SocketAddr,
        mounts: &BTreeSet<MountGroup>,
    ) -> Option<String> {
        let is_open = self.admin_token.is_none() && !mounts.is_empty();
        (is_open && !listen.ip().to_canonical().is_loopback()).then(|| {
            let all = |part: fn(MountGroup) -> String| {
                mounts.iter().copied().map(part).collect::<Vec<_>>().join(" and ")
            };
            let powers = all(|group| group.power().into());
            let names = all(|group| format!("`{}`", group.name()));
            format!(
                "everyone who reaches {listen} can {powers}: `mounts` holds {names} and there is no `admin_token`; set one, or `mounts = []`"
            )
        })
    }
}

/// Reads and checks the access settings. `admin` is the address of the admin port.
pub(super) fn access_of(options: &Options, admin: SocketAddr) -> Checked<Access> {
    let admin_hosts = hosts("admin_hosts", options.admin_hosts.as_ref())?;
    let access = Access {
        admin_token: token("admin_token", options.admin_token.as_ref())?,
        metrics_token: token("metrics_token", options.metrics_token.as_ref())?,
        control_hosts: match &options.control_hosts {
            None => admin_hosts.clone(),
            some => hosts("control_hosts", some.as_ref())?,
        },
        admin_hosts,
        admin_open: options.admin_open.unwrap_or(false),
        public_rep: options.public_rep.unwrap_or(false),
    };
    let is_near = admin.ip().to_canonical().is_loopback();
    if is_near || access.admin_open || access.admin_token.is_some() {
        return Ok(access);
    }
    let why = format!(
        "{admin} is not loopback, and everyone who reaches it could command the fleet: set `admin_token_file`, or `admin_open = true` where something else keeps strangers away"
    );
    wrong("admin", why)
}

fn token(key: &'static str, token: Option<&Secret>) -> Checked<Option<Secret>> {
    match token.filter(|token| !token.0.is_empty()) {
        // Other characters cannot be sent in a header.
        Some(token) if !token.0.bytes().all(|byte| byte.is_ascii_graphic()) => {
            wrong(key, "must be of letters, digits and punctuation of ASCII, without spaces")
        }
        token => Ok(token.cloned()),
    }
}

fn hosts(key: &'static str, names: Option<&Vec<String>>) -> Checked<Vec<String>> {
    let names = names.into_iter().flatten().map(|name| name.trim());
    let named = names.filter(|name| !name.is_empty()).map(|name| match is_host_name(name) {
        true => Ok(name.trim_end_matches('.').to_owned()),
        false => wrong(key, format!("'{name}' is not a name like ring.example, without a port")),
    });
    named.collect()
}

/// The largest token file, in bytes: larger than any token.
const TOKEN_FILE_MAX: u64 = 4_096;

/// Reads the token in a file, which holds nothing else.
///
/// # Errors
/// The file cannot be read, or is empty or too large.
pub fn token_from(path: &Path) -> Result<Secret, ConfigError> {
    let wrong = |why: String| ConfigError {
        key: "admin_token_file",
        why: format!("'{}' {why}", path.display()),
    };
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match text.trim() {
        "" => Err(wrong("is empty".into())),
        _ if text.len() as u64 > TOKEN_FILE_MAX => Err(wrong("is too long for a token".into())),
        token => Ok(Secret(token.to_owned())),
    }
}

impl Options {
    /// The settings with the token of `admin_token_file` as their `admin_token`.
    ///
    /// # Errors
    /// The file holds no token, or there is an `admin_token` as well.
    pub fn with_token_of_file(mut self) -> Result<Self, ConfigError> {
        let Some(path) = self.admin_token_file.as_deref().filter(|p| !p.as_os_str().is_empty())
        else {
            return Ok(self);
        };
        if self.admin_token.as_ref().is_some_and(|token| !token.0.is_empty()) {
            return wrong("admin_token_file", "give either this or `admin_token`, not both");
        }
        self.admin_token = Some(token_from(path)?);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(text: &str) -> Checked<Config> {
        Config::check(toml::from_str(text).unwrap(), true)
    }

    #[test]
    fn an_admin_port_for_other_machines_needs_a_token_or_an_explicit_setting() {
        for near in ["127.0.0.1:9090", "127.1.2.3:1", "[::1]:9090", "[::ffff:127.0.0.1]:9090"] {
            assert!(check(&format!("admin = \"{near}\"")).is_ok(), "{near}");
        }
        for far in ["0.0.0.0:9090", "[::]:9090", "10.0.0.1:9090"] {
            let refused = check(&format!("admin = \"{far}\"")).unwrap_err().to_string();
            assert!(
                refused.starts_with("`admin`: ") && refused.contains("admin_open"),
                "{refused}"
            );
            for more in ["admin_open = true", "admin_token = \"x\""] {
                assert!(check(&format!("admin = \"{far}\"\n{more}")).is_ok(), "{far} {more}");
            }
            for less in ["admin_open = false", "admin_token = \"\"", "metrics_token = \"x\""] {
                assert!(check(&format!("admin = \"{far}\"\n{less}")).is_err(), "{far} {less}");
            }
        }
    }

    #[test]
    fn a_notice_says_that_other_machines_can_scale_the_fleet() {
        let notice = |text: &str| {
            let notices = check(text).unwrap().notices;
            notices.iter().filter(|notice| notice.contains("can scale the fleet")).count()
        };
        assert_eq!(notice(""), 1);
        assert_eq!(notice("listen = \"[::]:5000\"\nadmin_open = true"), 1);
        for safe in ["admin_token = \"x\"", "mounts = []", "listen = \"127.0.0.1:5000\""] {
            assert_eq!(notice(safe), 0, "{safe}");
        }
        let notices = |text: &str| check(text).unwrap().notices.join("\n");
        for (group, power) in
            [("servers", "add and remove servers"), ("nodes", "add and remove nodes")]
        {
            let notice = notices(&format!("mounts = [\"{group}\"]"));
            let expected = format!("can {power}: `mounts` holds `{group}` and there is no");
            assert!(notice.contains(&expected), "{notice}");
        }
        let both = notices("mounts = [\"servers\", \"scaling\"]");
        assert!(both.contains("scale the fleet and add and remove servers"), "{both}");
    }

    #[test]
    fn admin_hosts_are_also_those_of_the_traffic_port_by_default() {
        let hosts = |text: &str| {
            let access = check(text).unwrap().access;
            (access.admin_hosts.join(" "), access.control_hosts.join(" "))
        };
        assert_eq!(hosts(""), (String::new(), String::new()));
        let both = "admin_hosts = [\"ring.example.\", \"keeper\"]";
        let names = "ring.example keeper".to_owned();
        assert_eq!(hosts(both), (names.clone(), names.clone()));
        let own = format!("{both}\ncontrol_hosts = [\"api.example\"]");
        assert_eq!(hosts(&own), (names.clone(), "api.example".into()));
        assert_eq!(hosts(&format!("{both}\ncontrol_hosts = []")), (names, String::new()));
        for key in ["admin_hosts", "control_hosts"] {
            for odd in ["a:9090", "http://a", "*", "a b", "a/b"] {
                let refused = check(&format!("{key} = [\"{odd}\"]")).unwrap_err();
                assert_eq!(refused.key, key, "{odd}");
            }
        }
    }

    #[test]
    fn the_minimum_of_replicas_must_fit_the_initial_fleet() {
        assert_eq!(check("replicas_min = 3").unwrap().limits.replicas_min, 3);
        let notices = check("replicas_min = 4").unwrap().notices;
        assert!(notices.iter().any(|notice| notice.starts_with("`replicas_min` (4) is more")));
        assert!(check("replicas = 4\nreplicas_min = 4").is_ok());
    }

    #[test]
    fn secrets_are_in_no_message_and_no_debug_output() {
        let shown = |text: &str| match toml::from_str::<Options>(text) {
            Err(error) => error.message().to_owned(),
            Ok(options) => {
                let read = format!("{options:?}");
                match Config::check(options, true) {
                    Ok(config) => format!("{read} {config:?}"),
                    Err(error) => format!("{read} {error}"),
                }
            }
        };
        let cases = [
            "admin_token = \"s3cret\"",
            "admin_token = \"s3cret s3cret\"",
            "admin_token = [\"s3cret\"]",
            "metrics_token = \"s3cret\"",
            "metrics_token = {s3cret = 1}",
            "hash_key = \"s3cret\"",
            "hash = \"siphash\"\nhash_key = \"s3cret\"",
            "env = [\"A=s3cret\"]",
            "env = [\"s3cret\"]",
            "env = \"A=s3cret\"",
            "env = [[\"s3cret\"]]",
        ];
        for text in cases {
            let shown = shown(text);
            assert!(!shown.contains("s3cret"), "{text}: {shown}");
        }
        let numbers = ["admin_token = 7353", "hash_key = 7353", "env = [7353]", "env = 7353"];
        for text in numbers {
            let shown = shown(text);
            assert!(!shown.contains("7353") && shown.contains("not shown"), "{text}: {shown}");
        }
    }

    #[test]
    fn a_token_is_read_from_a_file() {
        let dir = std::env::temp_dir().join(format!("ringmaster-access-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let read = |name: &str, held: &[u8]| {
            let path = dir.join(name);
            fs::write(&path, held).unwrap();
            let options = Options { admin_token_file: Some(path), ..Options::default() };
            options.with_token_of_file().map(|options| options.admin_token.unwrap().0)
        };
        let found = [
            read("plain", b"s3cret"),
            read("line", b" s3cret\r\n"),
            read("empty", b" \n"),
            read("long", &[b'x'; 5_000]),
            read("binary", b"s3cret\xff"),
        ];
        let missing = Options { admin_token_file: Some(dir.join("no")), ..Options::default() };
        let missing = missing.with_token_of_file().map(|_| String::new());
        let both = Options {
            admin_token_file: Some(dir.join("plain")),
            admin_token: Some("other".into()),
            ..Options::default()
        };
        let both = both.with_token_of_file().map(|_| String::new());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found[..2], [Ok("s3cret".to_owned()), Ok("s3cret".to_owned())]);
        for refused in found[2..].iter().chain([&missing, &both]) {
            let error = refused.clone().unwrap_err();
            assert_eq!(error.key, "admin_token_file");
            assert!(!error.why.contains("s3cret"), "{error}");
        }
    }
}
