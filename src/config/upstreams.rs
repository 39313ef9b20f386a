//! The registered servers of the configuration, with different names and addresses.

use std::net::SocketAddr;

use ringmaster_core::fleet::{
    ids::ReplicaName,
    server::{Registration, Server, Source},
};

use super::{Checked, Options, wrong};

pub(super) fn upstreams_of(options: &Options) -> Checked<Vec<Registration>> {
    let texts = options.upstream.iter().flatten().filter(|text| !text.is_empty());
    let upstreams: Vec<Registration> = texts
        .map(|text| parse(text))
        .collect::<Result<_, _>>()
        .or_else(|why| wrong("upstream", why))?;
    names_differ(&upstreams)?;
    places_differ(&upstreams)?;
    Ok(upstreams)
}

/// Checks that no upstream has the name of one of the initial `replicas`: `server_1`, `server_2`, …
pub(super) fn differ_from_replicas(upstreams: &[Registration], replicas: usize) -> Checked<()> {
    let is_ours = |name: &ReplicaName| {
        let numbers = 1..=u32::try_from(replicas).unwrap_or(u32::MAX);
        numbers.into_iter().any(|number| ReplicaName::numbered(number).is_same_host(name))
    };
    match upstreams.iter().find(|upstream| is_ours(&upstream.name)) {
        None => Ok(()),
        Some(Registration { name, .. }) => {
            wrong("upstream", format!("'{name}' is the name of a replica that is started here"))
        }
    }
}

/// `NAME=HOST:PORT[,weight=W]`.
fn parse(text: &str) -> Result<Registration, String> {
    parts_of(text).map_err(|reason| {
        let text: String = text.chars().take(120).collect();
        format!("'{text}' is not NAME=HOST:PORT[,weight=W]: {reason}")
    })
}

fn parts_of(text: &str) -> Result<Registration, String> {
    let (name, rest) = text.split_once('=').ok_or("there is no '='")?;
    let name = ReplicaName::new(name).map_err(|error| error.to_string())?;
    let mut parts = rest.split(',');
    let server = server_of(parts.next().unwrap_or_default())?;
    let mut weight = None;
    for option in parts {
        let value = option
            .strip_prefix("weight=")
            .ok_or_else(|| format!("'{option}' is not an option; there is only weight=W"))?;
        if weight.is_some() {
            return Err("the weight is given twice".into());
        }
        let parsed = value.parse::<u32>().ok().filter(|weight| *weight > 0);
        weight = Some(parsed.ok_or_else(|| format!("the weight '{value}' is not 1 or more"))?);
    }
    Ok(Registration { name, weight: weight.unwrap_or(1), server })
}

fn server_of(text: &str) -> Result<Server, String> {
    let (host, port) = text.rsplit_once(':').ok_or("there is no ':' before the port")?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address is written in brackets: [::1]:5000".into());
    }
    let number = port.parse::<u16>().ok().filter(|number| *number > 0);
    let number =
        number.ok_or_else(|| format!("the port '{port}' is not a number from 1 to 65535"))?;
    Server::new(host, number, Source::Operator).map_err(|error| error.to_string())
}

fn names_differ(upstreams: &[Registration]) -> Checked<()> {
    for (at, later) in upstreams.iter().enumerate() {
        let name = &later.name;
        let earlier = upstreams[..at].iter().find(|earlier| earlier.name.is_same_host(name));
        match earlier {
            Some(earlier) if &earlier.name == name => {
                return wrong("upstream", format!("'{name}' is named twice"));
            }
            Some(Registration { name: other, .. }) => {
                let why = format!("'{other}' and '{name}' differ only in upper and lower case");
                return wrong("upstream", why);
            }
            None => {}
        }
    }
    Ok(())
}

fn places_differ(upstreams: &[Registration]) -> Checked<()> {
    for (at, other) in upstreams.iter().enumerate() {
        let is_same = |one: &&Registration| one.server.is_same_place(&other.server);
        if let Some(one) = upstreams[..at].iter().find(is_same) {
            return at_one_address(one, other);
        }
    }
    Ok(())
}

/// Checks that no two upstreams have the same address. `addresses` are in the order of `upstreams`,
/// with `None` where the lookup failed.
///
/// # Errors
/// The names of two upstreams that share one.
pub(super) fn addresses_differ(
    upstreams: &[Registration],
    addresses: &[Option<SocketAddr>],
) -> Checked<()> {
    for (at, address) in addresses.iter().enumerate().filter(|(_, address)| address.is_some()) {
        if let Some(first) = addresses[..at].iter().position(|earlier| earlier == address) {
            return at_one_address(&upstreams[first], &upstreams[at]);
        }
    }
    Ok(())
}

fn at_one_address(one: &Registration, other: &Registration) -> Checked<()> {
    let place = |one: &Registration| format!("'{}' ({})", one.name, one.server.place());
    let (one, other) = (place(one), place(other));
    wrong("upstream", format!("{one} and {other} are at one address, and a replica has its own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(texts: &[&str]) -> Option<String> {
        let upstream = Some(texts.iter().map(|text| text.to_string()).collect());
        let options = Options { upstream, ..Options::default() };
        upstreams_of(&options).err().map(|error| error.to_string())
    }

    #[test]
    fn upstreams_have_different_names_and_addresses() {
        for (two, why) in [
            (["a=h:1", "a=h:2"], "'a' is named twice"),
            (["Up=h:1", "uP=h:2"], "'Up' and 'uP' differ only in upper and lower case"),
            (["a=h:1", "b=h:1,weight=2"], "'a' (h:1) and 'b' (h:1) are at one address"),
            (["a=Host:1", "b=hOst.:1"], "'a' (Host:1) and 'b' (hOst.:1) are at one address"),
            (["a=[::1]:1", "b=[0:0::1]:1"], "'a' ([::1]:1) and 'b' ([0:0::1]:1)"),
            (["a=10.0.0.1:1", "b=[::ffff:10.0.0.1]:1"], "are at one address"),
        ] {
            let message = refused(&two).unwrap();
            assert!(
                message.starts_with("`upstream`: ") && message.contains(why),
                "{two:?}: {message}"
            );
        }
        assert_eq!(refused(&["a=h:1", "b=h:2", "c=g:1"]), None);
    }

    #[test]
    fn an_upstream_cannot_have_the_name_of_a_replica() {
        let upstreams = vec![parse("Server_3=h:1").unwrap()];
        assert_eq!(differ_from_replicas(&upstreams, 2), Ok(()));
        let error = differ_from_replicas(&upstreams, 3).unwrap_err().to_string();
        assert!(error.starts_with("`upstream`: 'Server_3' is the name of a replica"), "{error}");
    }

    #[test]
    fn upstreams_that_resolve_to_one_address_are_named() {
        let upstreams = ["a=one.lan:1", "b=two.lan:1", "c=x.lan:1", "d=y.lan:1"];
        let upstreams = upstreams.map(|text| parse(text).unwrap());
        let at = |last: u8| Some(SocketAddr::from(([10, 0, 0, last], 1)));
        assert_eq!(addresses_differ(&upstreams, &[at(1), at(2), None, None]), Ok(()));
        let error = addresses_differ(&upstreams, &[at(1), None, at(2), at(1)]).unwrap_err();
        assert!(error.why.starts_with("'a' (one.lan:1) and 'd' (y.lan:1) are"), "{error}");
    }

    fn upstream(text: &str) -> Registration {
        parse(text).unwrap()
    }

    #[test]
    fn upstreams_are_parsed() {
        let plain = upstream("server1=10.0.0.1:5001");
        assert_eq!(plain.name.as_str(), "server1");
        assert_eq!((&*plain.server.host, plain.server.port), ("10.0.0.1", 5001));
        assert_eq!(plain.weight, 1);
        assert_eq!(plain.server.place(), "10.0.0.1:5001");
        assert_eq!(upstream("x=host:1").name.as_str(), "x");
        let six = upstream("S6=[fd00::1]:80,weight=7");
        assert_eq!((&*six.server.host, six.server.port, six.weight), ("fd00::1", 80, 7));
        assert_eq!(six.server.place(), "[fd00::1]:80");
        assert_eq!(&*upstream("db=my_host.lan:1").server.host, "my_host.lan");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, reason) in [
            ("server1", "there is no '='"),
            ("-x=h:1", "not a valid name"),
            ("server1=host", "there is no ':'"),
            ("server1=host:", "the port ''"),
            ("server1=host:0", "the port '0'"),
            ("server1=host:65536", "the port '65536'"),
            ("server1=:80", "the host"),
            ("server1=a b:80", "the host"),
            ("server1=::1:80", "in brackets"),
            ("server1=[x]:80", "not an IPv6"),
            ("server1=h:80,weight=0", "the weight '0'"),
            ("server1=h:80,weight=-1", "the weight '-1'"),
            ("server1=h:80,weight=1,weight=2", "twice"),
            ("server1=h:80,color=red", "'color=red' is not an option"),
            ("server1=h:80,", "'' is not an option"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(error.contains(text), "{error}");
        }
    }
}
