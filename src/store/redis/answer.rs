//! What the store's answers mean.

use redis::Value;
use ringmaster_core::roles::ids::{Fence, Version};

use crate::store::StoreError;

/// What a script of writing has answered.
pub(super) fn counted(answer: Result<Value, StoreError>) -> Result<(), StoreError> {
    let fields = texts(answer?);
    let mut words = fields.iter().map(|field| field.as_deref().map(String::from_utf8_lossy));
    let (word, what) = (words.next().flatten(), words.next().flatten());
    let what = what.as_deref().unwrap_or_default();
    let why = match word.as_deref() {
        Some("ok") => return Ok(()),
        Some("free") => "the lease has ended, or the store was emptied".to_owned(),
        Some("fenced") => format!("another supervisor has the lease since (fence {what})"),
        Some("older") => format!("a later write is there (number {what})"),
        Some("back") => format!("generation {what} is committed there already"),
        Some("type") => format!("'{what}' is of another type"),
        Some("newer") => format!("what is there is of a newer program (version {what})"),
        _ => "its answer is not understood".to_owned(),
    };
    Err(StoreError::Refused(why))
}

/// The parts of an answer that are texts.
pub(super) fn texts(value: Value) -> Vec<Option<Vec<u8>>> {
    let text = |value| match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        other => vec![text(other)],
    }
}

pub(super) fn number_of(text: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

/// The largest number that the scripts can hold exactly. No fence of ours comes near: they begin with
/// the milliseconds since 1970.
pub(super) const EXACT_MAX: u64 = (1 << 53) - 1;

/// A fence that a script can have written.
pub(super) fn fence_of(text: Option<&[u8]>) -> Option<Fence> {
    number_of(text).filter(|fence| *fence <= EXACT_MAX).map(Fence)
}

/// `None`: there is none, or none that a script can have written.
pub(super) fn version_of(fence: Option<&[u8]>, number: Option<&[u8]>) -> Option<Version> {
    let number = number_of(number).filter(|number| *number <= EXACT_MAX)?;
    Some(Version { fence: fence_of(fence)?, number })
}
