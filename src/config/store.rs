//! The store of the state, and the role of this process in the fleet.

use std::{fs, io::Read, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use super::{Access, Checked, DriverKind, Options, time, wrong};
use crate::{api::guard::is_place, store::redis::Address};

/// The largest certificate file, in bytes.
const CA_FILE_MAX: u64 = 1 << 20;
/// The longest timeout of a call: with more, a renewal would come after the lease has expired.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// What keeps the state.
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// A file in the state directory.
    File,
    /// A Redis that several processes share, with the file as a copy.
    Redis(Arc<Address>),
}

impl StoreKind {
    /// The address, without a password.
    pub fn describe(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Redis(address) => address.describe(),
        }
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It supervises, and carries traffic.
    #[default]
    Both,
    /// It supervises, or stands by.
    Supervisor,
    /// It carries traffic, and follows the store.
    Balancer,
}

impl Role {
    const ALL: [Role; 3] = [Self::Both, Self::Supervisor, Self::Balancer];

    /// The spelling in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Supervisor => "supervisor",
            Self::Balancer => "balancer",
        }
    }

    /// Whether it may hold the lease.
    pub fn supervises(self) -> bool {
        self != Self::Balancer
    }

    /// Whether it listens for traffic.
    pub fn carries_traffic(self) -> bool {
        self != Self::Supervisor
    }
}

pub(super) fn store_of(options: &Options) -> Checked<StoreKind> {
    let ca = options.store_ca.as_deref().filter(|path| !path.as_os_str().is_empty());
    let url = options.store.as_ref().map_or("", |url| url.0.trim());
    if matches!(url, "" | "file") {
        return match ca {
            Some(_) => wrong("store_ca", "is of use only where `store` is a Redis"),
            None => Ok(StoreKind::File),
        };
    }
    let address = Address::parse(url, ca.map(certificates).transpose()?);
    address.map_or_else(
        |error| wrong("store", error.to_string()),
        |address| Ok(StoreKind::Redis(Arc::new(address))),
    )
}

fn certificates(path: &Path) -> Checked<Vec<u8>> {
    let mut pem = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(CA_FILE_MAX + 1).read_to_end(&mut pem));
    match read {
        Err(error) => wrong("store_ca", format!("'{}' cannot be read: {error}", path.display())),
        Ok(_) if pem.len() as u64 > CA_FILE_MAX => {
            wrong("store_ca", format!("'{}' is too large for certificates", path.display()))
        }
        Ok(_) => Ok(pem),
    }
}

pub(super) fn timeout_of(options: &Options) -> Checked<Duration> {
    let default = Duration::from_millis(500);
    let timeout = time("store_timeout", options.store_timeout.as_ref(), default)?;
    match timeout > TIMEOUT_MAX {
        true => wrong("store_timeout", format!("must be {TIMEOUT_MAX:?} at most")),
        false => Ok(timeout),
    }
}

pub(super) fn role_of(options: &Options, store: &StoreKind, driver: DriverKind) -> Checked<Role> {
    let role = match options.role.as_deref() {
        None => Role::default(),
        Some(name) => match Role::ALL.into_iter().find(|role| role.name() == name) {
            Some(role) => role,
            None => {
                let known = Role::ALL.map(Role::name).join(", ");
                return wrong("role", format!("'{name}' is not one of {known}"));
            }
        },
    };
    let is_shared = matches!(store, StoreKind::Redis(_));
    if role != Role::Both && !is_shared {
        let why = format!("a {} meets the others in a store: set `store` to a Redis", role.name());
        return wrong("role", why);
    }
    if is_shared && driver == DriverKind::Process && role.supervises() {
        let why = "the replicas of the driver `process` end with one process of the fleet, and no other \
                   can take them over: choose docker or static, or `store = \"file\"`";
        return wrong("store", why);
    }
    Ok(role)
}

pub(super) fn advertise_of(
    options: &Options,
    store: &StoreKind,
    role: Role,
    admin: SocketAddr,
) -> Checked<Option<String>> {
    let given = options.advertise.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if let Some(text) = given {
        return match is_place(text) {
            true => Ok(Some(text.to_owned())),
            false => wrong("advertise", format!("'{text}' is not HOST:PORT")),
        };
    }
    let is_reached = !admin.ip().is_unspecified();
    if matches!(store, StoreKind::Redis(_)) && role.supervises() && !is_reached {
        let why = format!("{admin} is no address that others reach: name one, HOST:PORT");
        return wrong("advertise", why);
    }
    Ok(None)
}

/// Requires a token for a balancer's admin port that other machines reach. A balancer forwards commands
/// with the supervisor's token, and cannot recognise requests of replicas, because it has no engine.
pub(super) fn may_pass_on(role: Role, admin: SocketAddr, access: &Access) -> Checked<()> {
    let is_near = admin.ip().to_canonical().is_loopback();
    if role != Role::Balancer || is_near || access.admin_token.is_some() {
        return Ok(());
    }
    let why = "cannot be for a balancer, which passes commands on and does not know the replicas from \
               others: set `admin_token_file`, or an `admin` on loopback";
    wrong("admin_open", why)
}

pub(super) fn backends_of(options: &Options, store: &StoreKind) -> Checked<bool> {
    match (options.backends.unwrap_or(false), store) {
        (true, StoreKind::File) => wrong("backends", "are listed in a Redis: set `store`"),
        (backends, _) => Ok(backends),
    }
}

pub(super) fn may_stop_replicas(options: &Options, store: &StoreKind) -> Checked<()> {
    match (options.stop_replicas_on_exit, store) {
        (Some(true), StoreKind::Redis(_)) => {
            let why =
                "the replicas belong to all processes that share the store, not to one of them";
            wrong("stop_replicas_on_exit", why)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(text: &str) -> Result<Config, String> {
        let options: Options = toml::from_str(text).unwrap();
        Config::check(options, true).map_err(|error| error.to_string())
    }

    #[test]
    fn a_store_and_a_role_are_read() {
        let config = check("").unwrap();
        assert!(matches!(config.store, StoreKind::File));
        assert_eq!((config.role, config.store.describe()), (Role::Both, "file"));
        assert_eq!(config.store_timeout, Duration::from_millis(500));
        let config = check("store = \"redis://:s3cret@h:1\"\nrole = \"balancer\"").unwrap();
        assert_eq!((config.role, config.store.describe()), (Role::Balancer, "redis at h:1/0"));
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }

    #[test]
    fn an_open_balancer_needs_a_token() {
        let open = "store = \"redis://h\"\nadmin = \"0.0.0.0:1\"\nadmin_open = true\n";
        let balancer = format!("{open}role = \"balancer\"\n");
        let message = check(&balancer).unwrap_err();
        assert!(message.starts_with("`admin_open`: cannot be for a balancer"), "{message}");
        check(&format!("{balancer}admin_token = \"t\"")).unwrap();
        check(&format!("{open}advertise = \"h:1\"")).unwrap();
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let redis = "store = \"redis://:s3cret@h\"\n";
        let with = |line: &str| format!("{redis}{line}");
        for (text, why) in [
            ("store = \"http://:s3cret@h\"".to_owned(), "`store`: must begin with one of redis://"),
            ("backends = true".to_owned(), "`backends`: are listed in a Redis"),
            ("role = \"balancer\"".to_owned(), "`role`: a balancer meets the others in a store"),
            (with("role = \"boss\""), "`role`: 'boss' is not one of both, supervisor, balancer"),
            (with("driver = \"process\""), "`store`: the replicas of the driver `process` end"),
            (with("stop_replicas_on_exit = true"), "`stop_replicas_on_exit`: the replicas belong"),
            (with("store_timeout = \"3s\""), "`store_timeout`: must be 2s at most"),
            (with("store_ca = \"/nowhere\""), "`store_ca`: '/nowhere' cannot be read"),
            ("store_ca = \"/nowhere\"".to_owned(), "`store_ca`: is of use only"),
            (with("advertise = \"h\""), "`advertise`: 'h' is not HOST:PORT"),
            (with("advertise = \"h:0\""), "`advertise`: 'h:0' is not HOST:PORT"),
            (with("advertise = \"a b:1\""), "`advertise`: 'a b:1' is not HOST:PORT"),
            (
                with("admin = \"0.0.0.0:1\"\nadmin_open = true"),
                "`advertise`: 0.0.0.0:1 is no address",
            ),
        ] {
            let message = check(&text).unwrap_err();
            assert!(message.starts_with(why) && !message.contains("s3cret"), "{text}: {message}");
        }
    }
}
