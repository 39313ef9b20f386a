//! The key-value store: in memory, bounded in keys and in bytes.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// The store is full; its content is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) max_keys: usize,
    pub(crate) max_bytes: usize,
}

/// Values are kept as the received JSON text, so that they are returned unchanged
/// (numbers keep their digits) and their cost in memory is their length.
#[derive(Debug)]
pub(crate) struct Store {
    values: HashMap<String, Box<RawValue>>,
    /// Bytes of all keys and values together.
    bytes: usize,
    limits: Full,
}

impl Store {
    pub(crate) fn new(max_keys: usize, max_bytes: usize) -> Store {
        Store { values: HashMap::new(), bytes: 0, limits: Full { max_keys, max_bytes } }
    }

    /// Inserts or replaces. A replacement may always shrink the store, even a full one.
    pub(crate) fn set(&mut self, key: String, value: Box<RawValue>) -> Result<(), Full> {
        let freed = self.values.get(&key).map(|old| key.len() + old.get().len());
        let added = key.len() + value.get().len();
        let bytes = self.bytes - freed.unwrap_or(0) + added;
        let one_too_many = freed.is_none() && self.values.len() >= self.limits.max_keys;
        if one_too_many || (bytes > self.limits.max_bytes && bytes > self.bytes) {
            return Err(self.limits);
        }
        self.values.insert(key, value);
        self.bytes = bytes;
        Ok(())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&RawValue> {
        self.values.get(key).map(AsRef::as_ref)
    }

    pub(crate) fn delete(&mut self, key: &str) -> Option<Box<RawValue>> {
        let value = self.values.remove(key)?;
        self.bytes -= key.len() + value.get().len();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn what_was_set_comes_back_until_it_is_deleted() {
        let mut store = Store::new(2, 100);
        store.set("a".to_owned(), raw("1.50")).unwrap();
        assert_eq!(store.get("a").map(RawValue::get), Some("1.50"));
        assert_eq!(store.delete("a").map(|value| value.get().to_owned()), Some("1.50".to_owned()));
        assert!(store.get("a").is_none());
        assert!(store.delete("a").is_none());
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn keys_and_bytes_are_bounded_and_a_refusal_changes_nothing() {
        let full = Full { max_keys: 2, max_bytes: 10 };
        let mut store = Store::new(2, 10);
        store.set("a".to_owned(), raw("1")).unwrap();
        store.set("b".to_owned(), raw("2")).unwrap();
        assert_eq!(store.set("c".to_owned(), raw("3")), Err(full), "a third key");
        assert_eq!(store.set("a".to_owned(), raw("12345678")), Err(full), "an eleventh byte");
        assert_eq!(store.get("a").map(RawValue::get), Some("1"));
        store.set("a".to_owned(), raw("1234567")).unwrap();
        assert_eq!(store.bytes, 10);
        store.set("a".to_owned(), raw("0")).unwrap();
        assert_eq!(store.bytes, 4);
    }
}
