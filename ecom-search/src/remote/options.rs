//! The settings that the adapters of search servers share.

use std::path::Path;
use std::time::Duration;

use ecom_core::{Error, FieldCode, Result, ValidationErrors};
use url::Url;

/// The field that errors of the settings name.
pub(crate) const FIELD: &str = "search";

/// Returns a validation error for a URL. `message` must not contain the URL, which may have a password.
pub(crate) fn bad(code: FieldCode, message: impl Into<String>) -> Error {
    Error::invalid(FIELD, code, message)
}

/// The parts of the URL of a search server.
pub(crate) struct ServerUrl {
    /// The address, without credentials and parameters.
    pub(crate) server: Url,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) parameters: Vec<(String, String)>,
}

impl ServerUrl {
    /// Reads an address that begins with `http://` or `https://`. Without a port, it gets `default_port`. Returns `None`
    /// if it is malformed.
    pub(crate) fn parse(address: &str, default_port: u16) -> Option<Self> {
        let mut server = Url::parse(address).ok()?;
        if !matches!(server.scheme(), "http" | "https") || !server.has_host() || server.fragment().is_some() {
            return None;
        }
        if server.port().is_none() {
            // A port that is the default of the scheme is not kept, so it must be read from the text.
            let authority = address.split("://").nth(1).unwrap_or("").split(['/', '?']).next().unwrap_or("");
            let is_default_port = authority.ends_with(":80") || authority.ends_with(":443");
            if !is_default_port {
                server.set_port(Some(default_port)).ok()?;
            }
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().map(String::from).ok();
        let user = match server.username() {
            "" => None,
            user => Some(decoded(user)?),
        };
        let password = match server.password() {
            Some(password) => Some(decoded(password)?),
            None => None,
        };
        server.set_username("").and_then(|()| server.set_password(None)).ok()?;
        let parameters = server.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        server.set_query(None);
        Some(Self { server, user, password, parameters })
    }
}

/// Returns the whole number that a parameter has.
///
/// # Errors
/// `Validation` if the value is not a whole number.
pub(crate) fn number(name: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| bad(FieldCode::Malformed, format!("must have a whole number as parameter `{name}`")))
}

/// Checks the name of an index, from which the names on the server are made.
pub(crate) fn check_index(name: &str, errors: &mut ValidationErrors) {
    let is_plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if !(1..=100).contains(&name.len())
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.bytes().all(is_plain)
    {
        let message = "must have 1 to 100 characters `a`–`z`, `0`–`9`, `-` and `_`, beginning with a letter";
        errors.out_of_bounds("index", message);
    }
}

/// Checks a secret that is sent in a header. `what` names it in the message.
pub(crate) fn check_secret(secret: Option<&str>, what: &str, errors: &mut ValidationErrors) {
    if secret.is_some_and(|text| text.is_empty() || text.chars().any(|c| !c.is_ascii_graphic())) {
        errors.push(FIELD, FieldCode::Malformed, format!("must have {what} of visible ASCII characters"));
    }
}

/// Limits of calls, whose bounds are the same for all servers.
pub(crate) struct Limits {
    pub(crate) search_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) concurrent_searches: usize,
    pub(crate) bulk_bytes: usize,
}

impl Limits {
    /// Checks that all limits are within their bounds.
    pub(crate) fn check(&self, errors: &mut ValidationErrors) {
        if !(10..=60_000).contains(&self.search_timeout.as_millis()) {
            errors.out_of_bounds("search_timeout_ms", "must be between 10 and 60000");
        }
        if !(100..=600_000).contains(&self.write_timeout.as_millis()) {
            errors.out_of_bounds("write_timeout_ms", "must be between 100 and 600000");
        }
        if !(1..=1024).contains(&self.concurrent_searches) {
            errors.out_of_bounds("concurrent_searches", "must be between 1 and 1024");
        }
        if !(10_000..=90_000_000).contains(&self.bulk_bytes) {
            errors.out_of_bounds("bulk_bytes", "must be between 10000 and 90000000");
        }
    }
}

/// Reads a file of certificates in PEM with `parse`, which returns `None` if it contains none.
///
/// # Errors
/// `Validation` if the file cannot be read or has no certificate. The message does not show the path.
pub(crate) fn certificates<T>(path: &Path, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
    let pem = std::fs::read(path).map_err(|e| {
        tracing::debug!(error = %e, "the certificates of the search server cannot be read");
        let message = format!("must name a file of certificates that can be read ({})", e.kind());
        bad(FieldCode::OutOfBounds, message)
    })?;
    parse(&pem).ok_or_else(|| bad(FieldCode::OutOfBounds, "must name a file with at least one certificate in PEM"))
}
