//! Keeps the compressed bodies of public lists, so that each list is compressed only once.
//!
//! An entry is found by the bytes of the uncompressed body. When a product changes, its lists get other bodies, so an
//! entry is never out of date.

use std::fmt;
use std::hash::BuildHasher as _;
use std::io::Write as _;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use foldhash::fast::RandomState;
use moka::sync::Cache;

use super::GZIP;
use crate::dto::WholeList;

/// How long a list is kept if nobody requests it.
const IDLE: Duration = Duration::from_secs(300);
/// The memory of an entry besides its bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// The compressed lists of a router.
pub(crate) struct Compressed {
    /// The entries, by the hash of the body.
    lists: Cache<u64, List, RandomState>,
    hasher: RandomState,
}

#[derive(Clone)]
struct List {
    /// The body, because other bodies may have the same hash.
    plain: Bytes,
    gzip: Bytes,
}

impl fmt::Debug for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressed").finish_non_exhaustive()
    }
}

impl Compressed {
    /// Returns a place for at most `max_bytes` bytes of lists. Those that are requested least often make room.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let hasher = RandomState::default();
        let lists = Cache::builder()
            .name("compressed lists")
            .max_capacity(max_bytes)
            .weigher(|_: &u64, list: &List| {
                u32::try_from(list.plain.len() + list.gzip.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
            })
            .time_to_idle(IDLE)
            .build_with_hasher(hasher.clone());
        Self { lists, hasher }
    }

    /// Compresses the body of a response if it is a public list. Other responses are left as they are.
    pub(crate) fn apply(&self, mut response: Response) -> Response {
        let Some(WholeList(plain)) = response.extensions_mut().remove() else { return response };
        let headers = response.headers();
        let is_public = headers.get(CACHE_CONTROL).is_some_and(|value| value.as_bytes().starts_with(b"public"));
        // The response of HEAD has no body.
        let is_whole = response.body().size_hint().exact() == Some(plain.len() as u64);
        if !is_public || !is_whole || headers.contains_key(CONTENT_ENCODING) {
            return response;
        }
        let Some(gzip) = self.gzip(self.hasher.hash_one(&plain[..]), &plain) else { return response };
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, GZIP);
        headers.remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(gzip);
        response
    }

    /// Returns the compressed form of a body with this hash.
    fn gzip(&self, hash: u64, plain: &Bytes) -> Option<Bytes> {
        if let Some(list) = self.lists.get(&hash).filter(|list| list.plain == *plain) {
            return Some(list.gzip);
        }
        let gzip = compress(plain)?;
        self.lists.insert(hash, List { plain: plain.clone(), gzip: gzip.clone() });
        Some(gzip)
    }
}

/// Compresses bytes at the fastest level. Returns `None` if that fails, but writes to memory do not fail.
fn compress(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    Some(encoder.finish().ok()?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn list(word: &str) -> Bytes {
        word.repeat(1_000).into()
    }

    fn unzipped(gzip: &Bytes) -> Bytes {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
        plain.into()
    }

    #[test]
    fn a_list_is_compressed_once() {
        let compressed = Compressed::new(1 << 20);
        let first = compressed.gzip(7, &list("tea")).unwrap();
        let again = compressed.gzip(7, &list("tea")).unwrap();
        assert_eq!((first.as_ptr(), unzipped(&first)), (again.as_ptr(), list("tea")));
        let other = compressed.gzip(8, &list("pot")).unwrap();
        assert_eq!(unzipped(&other), list("pot"));
    }

    #[test]
    fn r15_lists_with_the_same_hash_are_told_apart() {
        let compressed = Compressed::new(1 << 20);
        for word in ["tea", "pot", "tea"] {
            assert_eq!(unzipped(&compressed.gzip(7, &list(word)).unwrap()), list(word));
        }
    }

    #[test]
    fn only_whole_public_lists_are_compressed() {
        let compressed = Compressed::new(1 << 20);
        let answer = |control: &'static str, body: Bytes, is_list: bool| {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CACHE_CONTROL, control.parse().unwrap());
            if is_list {
                response.extensions_mut().insert(WholeList(list("tea")));
            }
            compressed.apply(response).headers().contains_key(CONTENT_ENCODING)
        };
        assert!(answer("public, no-cache", list("tea"), true));
        assert!(!answer("private, no-store", list("tea"), true), "it may have personal data");
        assert!(!answer("public, no-cache", Bytes::new(), true), "the response of HEAD");
        assert!(!answer("public, no-cache", list("tea"), false));
        compressed.lists.run_pending_tasks();
        assert_eq!(compressed.lists.entry_count(), 1);
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        for limit in [0, 10_000] {
            let compressed = Compressed::new(limit);
            for hash in 0..50 {
                compressed.gzip(hash, &list(&format!("{hash:04}"))).unwrap();
            }
            compressed.lists.run_pending_tasks();
            let size = compressed.lists.weighted_size();
            assert!(size <= limit, "{size}");
            assert_eq!(compressed.lists.entry_count() > 0, limit > 0);
        }
    }
}
