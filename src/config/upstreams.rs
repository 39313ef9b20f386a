//! The upstreams of the driver `static`: what they are called, and that no two are one.

use std::net::{IpAddr, SocketAddr};

use super::{Checked, DriverKind, Options, wrong};
use crate::driver::fixed::Upstream;

pub(super) fn upstreams_of(options: &Options, driver: DriverKind) -> Checked<Vec<Upstream>> {
    let texts: Vec<&String> = options.upstream.iter().flatten().filter(|t| !t.is_empty()).collect();
    if driver != DriverKind::Static && !texts.is_empty() {
        return wrong("upstream", "only the driver `static` takes upstreams");
    }
    let upstreams: Vec<Upstream> = texts
        .into_iter()
        .map(|text| text.parse::<Upstream>().or_else(|error| wrong("upstream", error.to_string())))
        .collect::<Checked<_>>()?;
    names_differ(&upstreams)?;
    let listeners: Vec<_> = upstreams.iter().map(|one| Some((host_of(one), one.port))).collect();
    differ(&upstreams, &listeners)?;
    Ok(upstreams)
}

fn names_differ(upstreams: &[Upstream]) -> Checked<()> {
    for (at, later) in upstreams.iter().enumerate() {
        let name = &later.name;
        let earlier = upstreams[..at].iter().find(|earlier| earlier.name.is_same_host(name));
        match earlier {
            Some(earlier) if &earlier.name == name => {
                return wrong("upstream", format!("'{name}' is named twice"));
            }
            Some(Upstream { name: other, .. }) => {
                let why = format!("'{other}' and '{name}' differ only in upper and lower case");
                return wrong("upstream", why);
            }
            None => {}
        }
    }
    Ok(())
}

/// A hostname or an address, in one way of writing.
fn host_of(upstream: &Upstream) -> String {
    let host = upstream.host.trim_end_matches('.').to_ascii_lowercase();
    host.parse::<IpAddr>().map_or(host, |address| address.to_canonical().to_string())
}

/// Checks that no two upstreams were found at one address; in their order, `None` where there is
/// none.
///
/// # Errors
/// The names of two that share one.
pub(super) fn addresses_differ(
    upstreams: &[Upstream],
    addresses: &[Option<SocketAddr>],
) -> Checked<()> {
    differ(upstreams, addresses)
}

fn differ<T: PartialEq>(upstreams: &[Upstream], places: &[Option<T>]) -> Checked<()> {
    for (at, place) in places.iter().enumerate().filter(|(_, place)| place.is_some()) {
        let Some(first) = places[..at].iter().position(|earlier| earlier == place) else {
            continue;
        };
        let (one, other) = (&upstreams[first], &upstreams[at]);
        let place = |upstream: &Upstream| format!("'{}' ({})", upstream.name, upstream.place());
        let why = format!(
            "{} and {} are at one address, and a replica has its own",
            place(one),
            place(other)
        );
        return wrong("upstream", why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(texts: &[&str]) -> Option<String> {
        let upstream = Some(texts.iter().map(|text| text.to_string()).collect());
        let options = Options { upstream, ..Options::default() };
        upstreams_of(&options, DriverKind::Static).err().map(|error| error.to_string())
    }

    #[test]
    fn no_two_are_one() {
        for (two, why) in [
            (["a=h:1", "a=h:2"], "'a' is named twice"),
            (["Up=h:1", "uP=h:2"], "'Up' and 'uP' differ only in upper and lower case"),
            (["a=h:1", "b=h:1,weight=2"], "'a' (h:1) and 'b' (h:1) are at one address"),
            (["a=Host:1", "b=hOst.:1"], "'a' (Host:1) and 'b' (hOst.:1) are at one address"),
            (["a=[::1]:1", "b=[0:0::1]:1"], "'a' ([::1]:1) and 'b' ([0:0::1]:1)"),
            (["a=10.0.0.1:1", "b=[::ffff:10.0.0.1]:1"], "are at one address"),
        ] {
            let said = refused(&two).unwrap();
            assert!(said.starts_with("`upstream`: ") && said.contains(why), "{two:?}: {said}");
        }
        assert_eq!(refused(&["a=h:1", "b=h:2", "c=g:1"]), None);
    }

    #[test]
    fn those_that_resolve_to_one_address_are_named() {
        let upstreams = ["a=one.lan:1", "b=two.lan:1", "c=x.lan:1", "d=y.lan:1"];
        let upstreams = upstreams.map(|text| text.parse::<Upstream>().unwrap());
        let at = |last: u8| Some(SocketAddr::from(([10, 0, 0, last], 1)));
        assert_eq!(addresses_differ(&upstreams, &[at(1), at(2), None, None]), Ok(()));
        let said = addresses_differ(&upstreams, &[at(1), None, at(2), at(1)]).unwrap_err();
        assert!(said.why.starts_with("'a' (one.lan:1) and 'd' (y.lan:1) are"), "{said}");
    }
}
