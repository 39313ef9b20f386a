//! Proves that a lease record was written by a process with the fleet's admin token, and not only by
//! one with access to the store: the token is sent to no other address.

use std::fmt::Write;

use ring::hmac;
use ringmaster_core::roles::ids::Holder;

/// Keeps these tags apart from those of any other use of the same token.
const PURPOSE: &str = "ringmaster lease record 1";

/// What a lease record of this holder carries: HMAC-SHA-256 of fleet, process and admin address,
/// keyed with the admin token, in hexadecimal.
pub fn authenticator(fleet: &str, holder: &Holder, key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &message(fleet, holder));
    tag.as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a lease record carries what [`authenticator`] makes of it with this key.
pub fn is_authentic(fleet: &str, holder: &Holder, key: &[u8]) -> bool {
    let Some(tag) = holder.authenticator.as_deref().and_then(bytes_of) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::verify(&key, &message(fleet, holder), &tag).is_ok()
}

/// With the length of each part, so that no two records have the same text.
fn message(fleet: &str, holder: &Holder) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [PURPOSE, fleet, &holder.id.0, &holder.admin] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part.as_bytes());
    }
    message
}

fn bytes_of(hexadecimal: &str) -> Option<Vec<u8>> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use ringmaster_core::roles::ids::ProcessId;

    use super::*;

    fn holder(id: &str, admin: &str, authenticator: Option<&str>) -> Holder {
        Holder {
            id: ProcessId(id.into()),
            admin: admin.into(),
            authenticator: authenticator.map(Into::into),
        }
    }

    #[test]
    fn only_the_same_record_and_key_are_authentic() {
        let tag = authenticator("fleet", &holder("a/1", "a:9", None), b"token");
        let is_valid = |fleet: &str, id: &str, admin: &str, tag: Option<&str>, key: &[u8]| {
            is_authentic(fleet, &holder(id, admin, tag), key)
        };
        assert!(is_valid("fleet", "a/1", "a:9", Some(&tag), b"token"));
        assert!(!is_valid("fleet", "a/1", "evil:9", Some(&tag), b"token"));
        assert!(!is_valid("fleet", "a/2", "a:9", Some(&tag), b"token"));
        assert!(!is_valid("other", "a/1", "a:9", Some(&tag), b"token"));
        assert!(!is_valid("fleet", "a/1", "a:9", Some(&tag), b"tokeN"));
        // A part that moves from one field to the next is another record.
        assert!(!is_valid("fleet", "a/1a", ":9", Some(&tag), b"token"));
        for wrong in [None, Some(""), Some("zz"), Some(&tag[..62]), Some(&tag[..63]), Some("ä")] {
            assert!(!is_valid("fleet", "a/1", "a:9", wrong, b"token"), "{wrong:?}");
        }
    }
}
