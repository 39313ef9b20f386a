//! What must hold for any state file: it is our own, but a disk may damage it. Called by a fuzz
//! target in `fuzz/` and, with the seeds that are kept there, by a test.

use serde_json::value::RawValue;

use super::codec::{
    Envelope, StateFile, Unreadable, VERSION, checksum, desired_of, read_envelope, text_of,
};

/// A state file. Whatever is accepted is written and read as the same. What is no whole file is
/// taken for the state inside one, whose checksum is right: a fuzzer would not find that by itself.
pub fn state(data: &[u8]) {
    match read_envelope(data) {
        Ok(file) => accepted(file),
        Err(Unreadable::Newer(version)) => assert!(version > VERSION),
        Err(Unreadable::Corrupt(why)) => assert!(!why.is_empty()),
    }
    let Ok(inner) = serde_json::from_slice::<Box<RawValue>>(data) else { return };
    let envelope = Envelope { version: VERSION, checksum: checksum(inner.get()), state: inner };
    let text = serde_json::to_vec(&envelope).expect("it is made of JSON");
    match read_envelope(&text) {
        Ok(file) => accepted(file),
        Err(Unreadable::Newer(version)) => panic!("{version} is the version of this program"),
        Err(Unreadable::Corrupt(why)) => assert_ne!(why, "its checksum is wrong"),
    }
}

fn accepted(file: StateFile) {
    let fleet = file.fleet.clone();
    let Ok(desired) = desired_of(file) else { return };
    let text = text_of(&fleet, &desired).expect("what was read can be written");
    let Ok(file) = read_envelope(&text) else { panic!("cannot be read again: {desired:?}") };
    assert_eq!(file.fleet, fleet);
    assert_eq!(desired_of(file).as_ref(), Ok(&desired));
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn every_seed_and_what_is_like_it_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        super::replay::replay(&corpus, &[("state", super::state)]);
    }
}
