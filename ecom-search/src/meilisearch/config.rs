//! The address and the limits of a Meilisearch server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::{FieldCode, Result, ValidationErrors};
use url::Url;

use crate::remote::{Limits, ServerUrl, bad, check_index, check_secret, number};

/// Settings of a [`super::MeilisearchSearch`].
#[derive(Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct MeilisearchOptions {
    /// The address of the server, without the key.
    #[setters(skip)]
    pub(super) server: Url,
    /// An API key with the rights to documents, indexes, settings, tasks and searches; default: none, for a server
    /// without a master key.
    #[setters(into)]
    pub key: Option<String>,
    /// A file with certificates in PEM of authorities that are trusted besides the public ones.
    pub certificates: Option<PathBuf>,
    /// The beginning of the names of the indexes, default `products`. Shops that share a server need different ones.
    /// 1–100 characters `a`–`z`, `0`–`9`, `-` and `_`, beginning with a letter.
    #[setters(into)]
    pub index: String,
    /// The time limit of a search, 10 ms to 60 s, default 5 s. Every call fails with `Unavailable` after its limit.
    pub search_timeout: Duration,
    /// The time limit of a write and of the administration of indexes, 100 ms to 600 s, default 60 s. It includes the
    /// time until the server has carried the task out.
    pub write_timeout: Duration,
    /// The maximum number of concurrent searches, 1–1,024, default 64. Further ones wait, at most until their time
    /// limit.
    pub concurrent_searches: usize,
    /// The size from which documents are sent in another call, in bytes, 10 kB to 90 MB, default 20 MB. Searches see
    /// the documents of one call all at once. A larger document has a call of its own. The server must accept calls of
    /// this size (its setting `http-payload-size-limit`, 100 MB by default).
    pub bulk_bytes: usize,
}

impl fmt::Debug for MeilisearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeilisearchOptions")
            .field("key", &self.key.as_ref().map(|_| "…"))
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl MeilisearchOptions {
    /// Returns the options for a URL `meilisearch+http://:key@host` or `meilisearch+https://:key@host`. The key, a port
    /// (default 7700) and a path may be left out. Reserved characters are percent-encoded. Parameters:
    ///
    /// | Parameter | Bounds | Default | Meaning |
    /// |---|---|---|---|
    /// | `index` | 1–100 characters `a-z0-9_-` | `products` | [`Self::index`] |
    /// | `api_key` | | | the key, in place of the one before the host |
    /// | `certificates` | a path | | [`Self::certificates`] |
    /// | `search_timeout_ms` | 10–60,000 | 5,000 | [`Self::search_timeout`] |
    /// | `write_timeout_ms` | 100–600,000 | 60,000 | [`Self::write_timeout`] |
    /// | `concurrent_searches` | 1–1,024 | 64 | [`Self::concurrent_searches`] |
    ///
    /// # Errors
    /// `Validation` on field `search`, with a message that does not show the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let malformed =
            || bad(FieldCode::Malformed, "must be `meilisearch+http://<host>` or `meilisearch+https://<host>`");
        let address = url.strip_prefix("meilisearch+").ok_or_else(malformed)?;
        let ServerUrl { mut server, user, password: key, parameters } =
            ServerUrl::parse(address, 7700).ok_or_else(malformed)?;
        if user.is_some() {
            let message = "must have the key after a colon: `meilisearch+http://:<key>@<host>`";
            return Err(bad(FieldCode::Malformed, message));
        }
        if !server.path().ends_with('/') {
            server.set_path(&format!("{}/", server.path()));
        }
        let mut options = Self {
            server,
            key,
            certificates: None,
            index: "products".to_owned(),
            search_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(60),
            concurrent_searches: 64,
            bulk_bytes: 20_000_000,
        };
        for (name, value) in parameters {
            let number = || number(&name, &value);
            match name.as_str() {
                "index" => options.index = value,
                "api_key" if options.key.is_some() => {
                    return Err(bad(FieldCode::Inconsistent, "must have only one key"));
                }
                "api_key" => options.key = Some(value),
                "certificates" => options.certificates = Some(value.into()),
                "search_timeout_ms" => options.search_timeout = Duration::from_millis(number()?),
                "write_timeout_ms" => options.write_timeout = Duration::from_millis(number()?),
                "concurrent_searches" => options.concurrent_searches = usize::try_from(number()?).unwrap_or(usize::MAX),
                _ => {
                    return Err(bad(
                        FieldCode::Unknown,
                        "has an unknown parameter; the known ones are `index`, `api_key`, `certificates`, \
                         `search_timeout_ms`, `write_timeout_ms` and `concurrent_searches`",
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
        check_index(&self.index, &mut errors);
        let limits = Limits {
            search_timeout: self.search_timeout,
            write_timeout: self.write_timeout,
            concurrent_searches: self.concurrent_searches,
            bulk_bytes: self.bulk_bytes,
        };
        limits.check(&mut errors);
        check_secret(self.key.as_deref(), "a key", &mut errors);
        errors.into_result()
    }
}

#[cfg(test)]
mod tests {
    use ecom_core::Error;

    use super::*;

    #[test]
    fn urls_name_server_and_settings() {
        let options = MeilisearchOptions::from_url("meilisearch+http://localhost").unwrap();
        assert_eq!(options.server.as_str(), "http://localhost:7700/");
        assert_eq!((options.index.as_str(), options.key), ("products", None));
        let url = "meilisearch+https://:k%2Fey@search.example:443/behind/proxy?index=shop_1&search_timeout_ms=100\
                   &write_timeout_ms=2000&concurrent_searches=3&certificates=/etc/ca.pem";
        let options = MeilisearchOptions::from_url(url).unwrap();
        assert_eq!(options.server.as_str(), "https://search.example/behind/proxy/");
        assert_eq!((options.index.as_str(), options.key.as_deref()), ("shop_1", Some("k/ey")));
        assert_eq!((options.search_timeout.as_millis(), options.write_timeout.as_millis()), (100, 2_000));
        assert_eq!(options.certificates, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(options.concurrent_searches, 3);
        let options = MeilisearchOptions::from_url("meilisearch+http://h:80?api_key=a%3D").unwrap();
        assert_eq!((options.server.as_str(), options.key.as_deref()), ("http://h/", Some("a=")));
    }

    #[test]
    fn r17_bad_urls_are_refused_without_showing_them() {
        for bad in [
            "meilisearch://secret",
            "meilisearch+ftp://secret",
            "meilisearch+http://",
            "elasticsearch+http://secret",
            "meilisearch+http://secret?x=1",
            "meilisearch+http://secret?index=Secret",
            "meilisearch+http://secret?index=",
            "meilisearch+http://secret?search_timeout_ms=1",
            "meilisearch+http://secret?write_timeout_ms=1",
            "meilisearch+http://secret?concurrent_searches=0",
            "meilisearch+http://secret?concurrent_searches=secret",
            "meilisearch+http://secret?api_key=",
            "meilisearch+http://:secret@h?api_key=secret",
            "meilisearch+http://secret@h",
            "meilisearch+http://h?api_key=secret%0A",
            "meilisearch+http://secret#x",
        ] {
            let error = MeilisearchOptions::from_url(bad).unwrap_err();
            assert!(matches!(error, Error::Validation(_)), "{bad}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{bad}: {error:?}");
        }
    }

    #[test]
    fn nothing_shows_a_secret() {
        for url in ["meilisearch+http://:secret@h", "meilisearch+http://h?api_key=secret"] {
            let options = MeilisearchOptions::from_url(url).unwrap();
            assert!(!format!("{options:?}").contains("secret"), "{options:?}");
        }
    }
}
