//! The fields in which a request says who its client is. Applications believe them, so only a proxy
//! that is trusted may send them; those of others do not reach a replica.

/// Names that say where a request comes from, beside all that begin or end with these.
const NAMES: [&str; 6] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "forwarded",
    "forwarded-for",
    "x-original-forwarded-for",
    "x-real-ip",
];
/// As in `True-Client-IP` and `X-Client-IP`.
const SUFFIX: &str = "-client-ip";
const PREFIX: &str = "x-forwarded";

/// Whether a field of this name (in lower case) says who the client is. An underscore counts as a
/// hyphen: CGI and its descendants cannot tell `X_Real_IP` from `X-Real-IP`.
pub(crate) fn is_claim(name: &str) -> bool {
    let bytes = name.as_bytes();
    // Most names end here.
    if !matches!(bytes.first(), Some(b'c' | b'f' | b't' | b'x')) {
        return false;
    }
    match bytes.split_at_checked(PREFIX.len()) {
        Some((begin, rest)) if folds_to(begin, PREFIX) => {
            matches!(rest.first(), None | Some(b'-' | b'_'))
        }
        _ => {
            let end = bytes.len().saturating_sub(SUFFIX.len());
            folds_to(&bytes[end..], SUFFIX) || NAMES.iter().any(|known| folds_to(bytes, known))
        }
    }
}

fn folds_to(name: &[u8], known: &str) -> bool {
    let fold = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
    name.len() == known.len() && name.iter().map(fold).eq(known.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_known_by_name_and_by_prefix() {
        let clients = ["true-client-ip", "x-client-ip", "fastly-client-ip", "x-a-client-ip"];
        for claim in NAMES.into_iter().chain(clients) {
            assert!(is_claim(claim) && is_claim(&claim.replace('-', "_")), "{claim}");
        }
        for rest in ["", "-for", "-proto", "-host", "-port", "-prefix", "-server", "-ssl", "-user"]
        {
            let claim = format!("{PREFIX}{rest}");
            assert!(is_claim(&claim) && is_claim(&claim.replace('-', "_")), "{claim}");
        }
        for other in
            ["", "x", "x-forwardedfor", "x-forward", "x-real-ips", "host", "true", "cookie"]
        {
            assert!(!is_claim(other), "{other}");
        }
    }
}
