//! The address and the limits of a search server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::{FieldCode, Result, ValidationErrors};
use url::Url;

use crate::remote::{Limits, ServerUrl, bad, check_index, check_secret, number};

/// How calls are authenticated. Its `Debug` shows no secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// A user with a password.
    Basic {
        /// The name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// An API key, as Elasticsearch encodes it: id and key in Base64.
    ApiKey(String),
    /// A bearer token.
    Bearer(String),
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// Settings of a [`super::ElasticsearchSearch`].
#[derive(Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ElasticsearchOptions {
    /// The address of the server, without user and password.
    #[setters(skip)]
    pub(super) server: Url,
    /// Whether the server is an OpenSearch. Only the name of the provider depends on it.
    #[setters(skip)]
    pub(super) is_opensearch: bool,
    /// How calls are authenticated; default: not at all.
    pub authentication: Option<Authentication>,
    /// A file with certificates in PEM of authorities that are trusted besides the public ones.
    pub certificates: Option<PathBuf>,
    /// The name by which dashboards and other services read the index, default `products`: an alias. It is also the
    /// beginning of the names of the indices and of the alias of this adapter. Shops that share a server need different
    /// names. 1–100 characters `a`–`z`, `0`–`9`, `-` and `_`, beginning with a letter, and not ending with `-f` and
    /// digits.
    #[setters(into)]
    pub index: String,
    /// The number of primary shards of a new index, 1–64, default 1.
    pub shards: u16,
    /// The number of replicas of a new index, 0–16. Default: the default of the server.
    pub replicas: Option<u16>,
    /// The time limit of a search, 10 ms to 60 s, default 5 s. Every call fails with `Unavailable` after its limit.
    pub search_timeout: Duration,
    /// The time limit of a write and of the administration of indices, 100 ms to 600 s, default 60 s.
    pub write_timeout: Duration,
    /// The maximum number of concurrent searches, 1–1,024, default 64. Further ones wait, at most until their time
    /// limit.
    pub concurrent_searches: usize,
    /// The maximum number of documents in one call, 1–10,000, default 1,000.
    pub bulk_documents: usize,
    /// The size from which documents are sent in another call, in bytes, 10 kB to 90 MB, default 5 MB. A larger
    /// document has a call of its own.
    pub bulk_bytes: usize,
}

impl fmt::Debug for ElasticsearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchOptions")
            .field("authentication", &self.authentication)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl ElasticsearchOptions {
    /// Returns the options for a URL `elasticsearch+http://host`, `elasticsearch+https://host`, or the same with
    /// `opensearch`. It may contain a user and a password, a port (default 9200) and a path. Reserved characters are
    /// percent-encoded. Parameters:
    ///
    /// | Parameter | Bounds | Default | Meaning |
    /// |---|---|---|---|
    /// | `index` | 1–100 characters `a-z0-9_-` | `products` | [`Self::index`] |
    /// | `api_key` | | | an API key, in place of user and password |
    /// | `bearer` | | | a bearer token, in place of user and password |
    /// | `certificates` | a path | | [`Self::certificates`] |
    /// | `shards` | 1–64 | 1 | primary shards of a new index |
    /// | `replicas` | 0–16 | that of the server | replicas of a new index |
    /// | `search_timeout_ms` | 10–60,000 | 5,000 | [`Self::search_timeout`] |
    /// | `write_timeout_ms` | 100–600,000 | 60,000 | [`Self::write_timeout`] |
    /// | `concurrent_searches` | 1–1,024 | 64 | [`Self::concurrent_searches`] |
    ///
    /// # Errors
    /// `Validation` on field `search`, with a message that does not show the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let malformed = || {
            bad(
                FieldCode::Malformed,
                "must be `elasticsearch+http://<host>`, `elasticsearch+https://<host>`, `opensearch+http://<host>` or \
                 `opensearch+https://<host>`",
            )
        };
        let (product, address) = url.split_once('+').ok_or_else(malformed)?;
        let is_opensearch = match product {
            "elasticsearch" => false,
            "opensearch" => true,
            _ => return Err(malformed()),
        };
        let ServerUrl { server, user, password, parameters } = ServerUrl::parse(address, 9200).ok_or_else(malformed)?;
        let authentication = match (user, password) {
            (None, None) => None,
            (user, password) => {
                Some(Authentication::Basic { user: user.unwrap_or_default(), password: password.unwrap_or_default() })
            }
        };
        let mut options = Self {
            server,
            is_opensearch,
            authentication,
            certificates: None,
            index: "products".to_owned(),
            shards: 1,
            replicas: None,
            search_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(60),
            concurrent_searches: 64,
            bulk_documents: 1_000,
            bulk_bytes: 5_000_000,
        };
        for (name, value) in parameters {
            let number = || number(&name, &value);
            let millis = || number().map(Duration::from_millis);
            let small = || number().map(|n| u16::try_from(n).unwrap_or(u16::MAX));
            match name.as_str() {
                "index" => options.index = value,
                "api_key" => options.authenticate(Authentication::ApiKey(value))?,
                "bearer" => options.authenticate(Authentication::Bearer(value))?,
                "certificates" => options.certificates = Some(value.into()),
                "shards" => options.shards = small()?,
                "replicas" => options.replicas = Some(small()?),
                "search_timeout_ms" => options.search_timeout = millis()?,
                "write_timeout_ms" => options.write_timeout = millis()?,
                "concurrent_searches" => options.concurrent_searches = usize::try_from(number()?).unwrap_or(usize::MAX),
                _ => {
                    return Err(bad(
                        FieldCode::Unknown,
                        "has an unknown parameter; the known ones are `index`, `api_key`, `bearer`, `certificates`, \
                         `shards`, `replicas`, `search_timeout_ms`, `write_timeout_ms` and `concurrent_searches`",
                    ));
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    fn authenticate(&mut self, by: Authentication) -> Result<()> {
        if self.authentication.is_some() {
            let message = "must have only one of a user with a password, `api_key` and `bearer`";
            return Err(bad(FieldCode::Inconsistent, message));
        }
        self.authentication = Some(by);
        Ok(())
    }

    /// Checks that all settings are within their bounds.
    pub(super) fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        check_index(&self.index, &mut errors);
        // The names of this adapter's own aliases end so.
        if self.index.rsplit_once("-f").is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit())) {
            errors.out_of_bounds("index", "must not end with `-f` and digits");
        }
        if !(1..=64).contains(&self.shards) {
            errors.out_of_bounds("shards", "must be between 1 and 64");
        }
        if self.replicas.is_some_and(|n| n > 16) {
            errors.out_of_bounds("replicas", "must be between 0 and 16");
        }
        let limits = Limits {
            search_timeout: self.search_timeout,
            write_timeout: self.write_timeout,
            concurrent_searches: self.concurrent_searches,
            bulk_bytes: self.bulk_bytes,
        };
        limits.check(&mut errors);
        if !(1..=10_000).contains(&self.bulk_documents) {
            errors.out_of_bounds("bulk_documents", "must be between 1 and 10000");
        }
        let secret = match &self.authentication {
            Some(Authentication::ApiKey(secret) | Authentication::Bearer(secret)) => Some(secret.as_str()),
            _ => None,
        };
        check_secret(secret, "an API key or token", &mut errors);
        errors.into_result()
    }
}

#[cfg(test)]
mod tests {
    use ecom_core::Error;

    use super::*;

    #[test]
    fn urls_name_server_and_settings() {
        let options = ElasticsearchOptions::from_url("elasticsearch+http://localhost").unwrap();
        assert_eq!(options.server.as_str(), "http://localhost:9200/");
        assert_eq!((options.index.as_str(), options.authentication), ("products", None));
        let url = "opensearch+https://us%40er:p%2Fw@search.example:443/behind/proxy?index=shop_1&shards=3&replicas=0\
                   &search_timeout_ms=100&write_timeout_ms=2000&concurrent_searches=3&certificates=/etc/ca.pem";
        let options = ElasticsearchOptions::from_url(url).unwrap();
        assert_eq!(options.server.as_str(), "https://search.example/behind/proxy");
        let basic = Authentication::Basic { user: "us@er".to_owned(), password: "p/w".to_owned() };
        assert_eq!(options.authentication, Some(basic));
        assert_eq!((options.index.as_str(), options.shards, options.replicas), ("shop_1", 3, Some(0)));
        assert_eq!((options.search_timeout.as_millis(), options.write_timeout.as_millis()), (100, 2_000));
        assert_eq!(options.certificates, Some(PathBuf::from("/etc/ca.pem")));
        assert!(options.is_opensearch);
        let key = ElasticsearchOptions::from_url("elasticsearch+http://h:80?api_key=a%3D%3D").unwrap();
        assert_eq!(key.authentication, Some(Authentication::ApiKey("a==".to_owned())));
        assert_eq!(key.server.as_str(), "http://h/");
    }

    #[test]
    fn r17_bad_urls_are_refused_without_showing_them() {
        for bad in [
            "elasticsearch://secret",
            "elasticsearch+ftp://secret",
            "elasticsearch+http://",
            "solr+http://secret",
            "elasticsearch+http://secret?x=1",
            "elasticsearch+http://secret?index=Secret",
            "elasticsearch+http://secret?index=",
            "elasticsearch+http://secret?index=secret-f1",
            "elasticsearch+http://secret?index=1secret",
            "elasticsearch+http://secret?shards=0",
            "elasticsearch+http://secret?shards=secret",
            "elasticsearch+http://secret?replicas=17",
            "elasticsearch+http://secret?search_timeout_ms=1",
            "elasticsearch+http://secret?write_timeout_ms=1",
            "elasticsearch+http://secret?concurrent_searches=0",
            "elasticsearch+http://secret?api_key=",
            "elasticsearch+http://u:secret@h?api_key=secret",
            "elasticsearch+http://h?bearer=secret%0A",
            "elasticsearch+http://secret#x",
        ] {
            let error = ElasticsearchOptions::from_url(bad).unwrap_err();
            assert!(matches!(error, Error::Validation(_)), "{bad}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{bad}: {error:?}");
        }
    }

    #[test]
    fn nothing_shows_a_secret() {
        for url in ["elasticsearch+http://secret:secret@h", "elasticsearch+http://h?api_key=secret"] {
            let options = ElasticsearchOptions::from_url(url).unwrap();
            assert!(!format!("{options:?}").contains("secret"), "{options:?}");
        }
    }
}
