//! The location and the limits of an index.

use std::path::PathBuf;

use derive_setters::Setters;
use ecom_core::{Error, FieldCode, Result, ValidationErrors};

/// Where an index is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// The index is stored in this directory, which is created if it does not exist.
    Directory(PathBuf),
    /// The index is stored in memory, and is lost when it is closed.
    Memory,
}

/// Settings of a [`super::TantivySearch`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct TantivyOptions {
    /// Where the index is stored.
    pub location: Location,
    /// The memory of the writer, in bytes: 15 MB to 1 GB, default 50 MB. During a rebuild there are two writers.
    pub writer_memory: usize,
    /// The maximum number of concurrent searches, 1–1,024. Further ones wait. Default: the number of cores, but at
    /// least 2.
    pub concurrent_searches: usize,
}

const MB: usize = 1_000_000;

impl TantivyOptions {
    /// Returns the default settings for an index in a directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::at(Location::Directory(path.into()))
    }

    /// Returns the default settings for an index in memory.
    pub fn memory() -> Self {
        Self::at(Location::Memory)
    }

    fn at(location: Location) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { location, writer_memory: 50 * MB, concurrent_searches: cores.max(2) }
    }

    /// Returns the options for a URL: `tantivy://index` and `tantivy://./index` (relative),
    /// `tantivy:///var/lib/shop/index` (absolute), `tantivy://memory` or `tantivy::memory:` (in memory; a directory of
    /// that name is `tantivy://./memory`). Reserved characters of the path are percent-encoded. Parameters:
    /// `writer_memory_mb` (15–1000, default 50), `concurrent_searches` (1–1,024, default: the number of cores, but at
    /// least 2).
    ///
    /// # Errors
    /// `Validation` on field `search`, with a message that does not show the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let bad = |code, message: &str| Error::invalid("search", code, message);
        let rest = url
            .strip_prefix("tantivy:")
            .ok_or_else(|| bad(FieldCode::Malformed, "must start with `tantivy://` or be `tantivy::memory:`"))?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = if matches!(place, ":memory:" | "//memory" | "//:memory:") {
            Self::memory()
        } else {
            let path = place
                .strip_prefix("//")
                .filter(|p| !p.is_empty())
                .ok_or_else(|| bad(FieldCode::Malformed, "must name a directory: `tantivy://<directory>`"))?;
            let path = percent_encoding::percent_decode_str(path)
                .decode_utf8()
                .ok()
                .filter(|p| !p.contains('\0'))
                .ok_or_else(|| bad(FieldCode::Malformed, "must name a directory in UTF-8 without NUL characters"))?;
            Self::directory(path.into_owned())
        };
        for pair in parameters.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                value.parse::<usize>().map_err(|_| bad(FieldCode::Malformed, "must have whole numbers as parameters"))
            };
            match name {
                "writer_memory_mb" => options.writer_memory = number()?.saturating_mul(MB),
                "concurrent_searches" => options.concurrent_searches = number()?,
                _ => {
                    return Err(bad(
                        FieldCode::Unknown,
                        "has an unknown parameter; the known ones are `writer_memory_mb` and `concurrent_searches`",
                    ));
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    /// Checks that all settings are within their bounds.
    pub(super) fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if !(15 * MB..=1000 * MB).contains(&self.writer_memory) {
            errors.out_of_bounds("writer_memory_mb", "must be between 15 and 1000");
        }
        if !(1..=1024).contains(&self.concurrent_searches) {
            errors.out_of_bounds("concurrent_searches", "must be between 1 and 1024");
        }
        errors.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(url: &str) -> PathBuf {
        match TantivyOptions::from_url(url).unwrap().location {
            Location::Directory(d) => d,
            Location::Memory => panic!("{url} is no directory"),
        }
    }

    #[test]
    fn urls_name_directories_or_memory() {
        assert_eq!(directory("tantivy://data/index"), PathBuf::from("data/index"));
        assert_eq!(directory("tantivy://./memory"), PathBuf::from("./memory"));
        assert_eq!(directory("tantivy:///var/lib/my%20shop"), PathBuf::from("/var/lib/my shop"));
        for memory in ["tantivy::memory:", "tantivy://memory", "tantivy://:memory:?writer_memory_mb=20"] {
            assert_eq!(TantivyOptions::from_url(memory).unwrap().location, Location::Memory, "{memory}");
        }
        let tuned = TantivyOptions::from_url("tantivy://x?writer_memory_mb=20&concurrent_searches=3").unwrap();
        assert_eq!((tuned.writer_memory, tuned.concurrent_searches), (20 * MB, 3));
    }

    #[test]
    fn r17_bad_urls_are_refused_without_showing_them() {
        for bad in [
            "meilisearch://secret",
            "tantivy:",
            "tantivy://",
            "tantivy:secret",
            "tantivy://secret?x=1",
            "tantivy://secret?writer_memory_mb=1",
            "tantivy://secret?writer_memory_mb=x",
            "tantivy://secret?concurrent_searches=0",
            "tantivy://secret%00",
        ] {
            let error = TantivyOptions::from_url(bad).unwrap_err();
            assert!(matches!(error, Error::Validation(_)), "{bad}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{bad}: {error:?}");
        }
    }
}
