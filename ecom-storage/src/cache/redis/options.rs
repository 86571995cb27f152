//! The settings of a cache on Redis, which can be read from a URL.

use std::fmt;
use std::time::Duration;

use ecom_core::{Error, FieldCode, Result};
use redis::{ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};
use url::Url;

/// The default prefix of all keys and channels.
pub const DEFAULT_PREFIX: &str = "ecom:";
/// The default time limit of a call to Redis.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);
/// The default time for which a reader waits for the load of another process.
pub const DEFAULT_LOAD_WAIT: Duration = Duration::from_millis(150);
/// The default number of encoded bytes whose values a process keeps decoded: 16 MiB.
pub const DEFAULT_DECODED_BYTES: u64 = 16 << 20;

const FIELD: &str = "cache";

/// Settings of a [`RedisCache`](super::RedisCache).
#[derive(Clone)]
pub struct RedisOptions {
    pub(super) server: ConnectionInfo,
    /// The prefix of all keys and channels: 1 to 100 visible ASCII characters.
    pub prefix: String,
    /// Separates shops that share a server and a prefix, for example the identity of the cached database.
    pub namespace: String,
    /// The time limit of a call. After a call that takes longer, reads bypass Redis until it answers again.
    pub timeout: Duration,
    /// The time for which a reader that misses waits for another process that is loading the same value.
    pub load_wait: Duration,
    /// The number of encoded bytes that this process keeps together with the values that it decoded from them; 0 for
    /// none. Every read still queries Redis. If Redis returns the same bytes again, they are not decoded again.
    pub decoded_bytes: u64,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The server is left out: its URL may contain a password.
        f.debug_struct("RedisOptions")
            .field("prefix", &self.prefix)
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("load_wait", &self.load_wait)
            .field("decoded_bytes", &self.decoded_bytes)
            .finish_non_exhaustive()
    }
}

fn refused(code: FieldCode, message: impl Into<String>) -> Error {
    Error::invalid(FIELD, code, message)
}

/// Reads a whole number from a parameter, within bounds.
fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64> {
    text.parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| {
        refused(
            FieldCode::OutOfBounds,
            format!("must have a whole number from {least} to {most} as the value of the parameter `{name}`"),
        )
    })
}

impl RedisOptions {
    /// Reads `redis://[user:password@]host[:port][/database]`, or `rediss://…` with TLS, with the parameters `prefix`
    /// (`ecom:`), `timeout_ms` (100; 1 to 60000), `load_wait_ms` (150; 0 to 10000) and `decoded_mib` (16; 0 to 65536).
    ///
    /// # Errors
    /// `Validation` on field `cache`, with a message that does not show the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let (mut options, rest) = Self::split(url)?;
        for (name, value) in rest {
            match name.as_str() {
                "decoded_mib" => options.decoded_bytes = number(&name, &value, 0, 65_536)? << 20,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(options)
    }

    /// Returns the options, and the parameters of the URL that this function does not know.
    pub(in crate::cache) fn split(url: &str) -> Result<(Self, Vec<(String, String)>)> {
        let malformed = || {
            refused(
                FieldCode::Malformed,
                "must have the form `redis://user:password@host:port/database`, or `rediss://…` with TLS; special \
                 characters in a password must be percent-encoded",
            )
        };
        let mut url = Url::parse(url).map_err(|_| malformed())?;
        if !matches!(url.scheme(), "redis" | "rediss") || url.host_str().is_none_or(str::is_empty) {
            return Err(malformed());
        }
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        if url.fragment().is_some() {
            return Err(malformed());
        }
        let server = url.into_connection_info().map_err(|_| malformed())?;
        let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let mut options = Self {
            server: server.set_redis_settings(settings),
            prefix: DEFAULT_PREFIX.to_owned(),
            namespace: String::new(),
            timeout: DEFAULT_TIMEOUT,
            load_wait: DEFAULT_LOAD_WAIT,
            decoded_bytes: DEFAULT_DECODED_BYTES,
        };
        let mut rest = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "prefix" if (1..=100).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_graphic()) => {
                    options.prefix = value;
                }
                "prefix" => {
                    let message = "must have 1 to 100 visible ASCII characters as the value of the parameter `prefix`";
                    return Err(refused(FieldCode::OutOfBounds, message));
                }
                "timeout_ms" => options.timeout = Duration::from_millis(number(&name, &value, 1, 60_000)?),
                "load_wait_ms" => options.load_wait = Duration::from_millis(number(&name, &value, 0, 10_000)?),
                _ => rest.push((name, value)),
            }
        }
        Ok((options, rest))
    }

    /// Returns a client of the server.
    pub(crate) fn client(&self) -> redis::RedisResult<redis::Client> {
        if self.tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // rustls panics if a program contains several providers and has not chosen one. An error means that another
            // thread has just installed one.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        redis::Client::open(self.server.clone())
    }

    /// Returns the beginning of the names of keys of one kind.
    pub(crate) fn root(&self, kind: &str) -> String {
        let namespace = &self.namespace;
        let colon = if namespace.is_empty() { "" } else { ":" };
        format!("{}{{{namespace}{colon}{kind}}}:", self.prefix)
    }

    /// Returns whether the connection is encrypted.
    pub(super) fn tls(&self) -> bool {
        matches!(self.server.addr(), redis::ConnectionAddr::TcpTls { .. })
    }
}

/// Returns the error for an unknown parameter.
pub(in crate::cache) fn unknown(name: &str) -> Error {
    let what = crate::parameter_shown(name);
    let known =
        "`prefix`, `timeout_ms`, `load_wait_ms`, `decoded_mib` (only without tiers) and `memory_mib` (only with tiers)";
    refused(FieldCode::Unknown, format!("has the unknown parameter `{what}`; the known ones are {known}"))
}

/// Reads the size of the tier in process, in MiB, and returns it in bytes.
#[cfg(feature = "memory")]
pub(in crate::cache) fn memory_mib(text: &str) -> Result<u64> {
    Ok(number("memory_mib", text, 1, 1_048_576)? << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_all_options() {
        let options = RedisOptions::from_url(
            "redis://u:p%40ss@h:7000/3?prefix=shop:&timeout_ms=250&load_wait_ms=0&decoded_mib=2",
        )
        .unwrap();
        assert_eq!(options.server.redis_settings().db(), 3);
        assert_eq!(options.server.redis_settings().password(), Some("p@ss"));
        assert_eq!(options.prefix, "shop:");
        assert_eq!((options.timeout, options.load_wait), (Duration::from_millis(250), Duration::ZERO));
        assert_eq!(options.decoded_bytes, 2 * 1024 * 1024);
        assert!(!options.tls());
        assert!(RedisOptions::from_url("rediss://h").unwrap().tls());
        assert!(!format!("{options:?}").contains("p@ss"));
    }

    #[test]
    fn a_bad_url_is_named_and_not_shown() {
        for url in [
            "redis://",
            "redis:hunter2",
            "http://hunter2@h",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/database",
            "redis://:hunter2@h#hunter2",
            "redis://:hunter2@h?hunter2=1",
            "redis://h?prefix=",
            "redis://h?prefix=a%20b",
            "redis://h?timeout_ms=0",
            "redis://h?timeout_ms=hunter2",
            "redis://h?load_wait_ms=10001",
            "redis://h?memory_mib=5",
        ] {
            let error = RedisOptions::from_url(url).unwrap_err();
            let Error::Validation(fields) = &error else { panic!("{url}: {error:?}") };
            assert_eq!(fields.0[0].field, "cache", "{url}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
