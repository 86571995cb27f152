//! Keeps decoded values in this process, beside the bytes that they were decoded from.
//!
//! Every read still queries Redis. If Redis returns bytes that were decoded before, the read returns the decoded value,
//! with the values that are attached to it. So this module never returns a value that is older than the one in Redis;
//! it only avoids that a value is decoded and rendered again.

use std::sync::Arc;

use ecom_core::port::{CacheKey, CacheValue};
use foldhash::fast::RandomState;

/// The size of an entry besides its bytes: the key, counters and the decoded value's own fields.
const OVERHEAD: usize = 512;

struct Entry {
    bytes: Box<[u8]>,
    value: CacheValue,
}

pub(super) struct Decoded {
    entries: Option<moka::sync::Cache<CacheKey, Arc<Entry>, RandomState>>,
}

impl std::fmt::Debug for Decoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoded")
    }
}

impl Decoded {
    /// Keeps values of about `bytes` encoded bytes in all, or none if `bytes` is 0.
    pub(super) fn new(bytes: u64) -> Self {
        let entries = (bytes > 0).then(|| {
            moka::sync::Cache::builder()
                .max_capacity(bytes)
                .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes.len() + OVERHEAD).unwrap_or(u32::MAX))
                .build_with_hasher(RandomState::default())
        });
        Self { entries }
    }

    /// Returns the value of these bytes, or `None` if `decode` cannot read them.
    pub(super) fn get_or_decode(
        &self,
        key: &CacheKey,
        bytes: &[u8],
        decode: fn(&[u8]) -> Option<CacheValue>,
    ) -> Option<CacheValue> {
        let Some(entries) = &self.entries else { return decode(bytes) };
        if let Some(entry) = entries.get(key)
            && *entry.bytes == *bytes
        {
            return Some(entry.value.clone());
        }
        let value = decode(bytes)?;
        entries.insert(*key, Arc::new(Entry { bytes: bytes.into(), value: value.clone() }));
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<CacheValue> {
        Some(Arc::new(String::from_utf8(bytes.to_vec()).ok()?))
    }

    #[test]
    fn r15_other_bytes_are_another_value() {
        let decoded = Decoded::new(1 << 20);
        let get = |bytes: &[u8]| decoded.get_or_decode(&CacheKey::CategoryTree, bytes, text);
        let one = get(b"one").unwrap();
        assert!(Arc::ptr_eq(&one, &get(b"one").unwrap()), "the same bytes are decoded once");
        assert_eq!(*get(b"two").unwrap().downcast::<String>().unwrap(), "two");
        assert_eq!(*get(b"one").unwrap().downcast::<String>().unwrap(), "one");
        assert!(get(b"\xff").is_none());
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let decoded = Decoded::new(0);
        let get = || decoded.get_or_decode(&CacheKey::CategoryTree, b"one", text).unwrap();
        assert!(!Arc::ptr_eq(&get(), &get()));
    }
}
