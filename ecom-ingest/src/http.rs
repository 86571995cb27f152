//! A URL, which is asked whether it has changed.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use derive_setters::Setters;
use ecom_core::catalog::FeedVersion;
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed};
use ecom_core::{FieldCode, Result};
use ecom_outbound::{OutboundClient, OutboundOptions, Refusal, retry_after};
use futures::{Stream, StreamExt as _};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use crate::spool::{Spool, too_large};

/// The settings of an [`HttpFeed`] and of a [`DummyJsonFeed`](crate::DummyJsonFeed).
#[derive(Clone, Setters)]
#[non_exhaustive]
pub struct HttpFeedOptions {
    /// The settings of the client.
    pub outbound: OutboundOptions,
    /// The time limit from the call until the headers of the response, including the connection and redirects. Default
    /// 30 s.
    pub response_timeout: Duration,
    /// The longest time between two parts of the response. Default 30 s.
    pub idle_timeout: Duration,
    /// The maximum number of bytes of the source, as they are transferred. The import of a larger source ends early.
    /// Default 4 GiB. [`ImportOptions::max_bytes`](ecom_core::catalog::ImportOptions) limits the bytes after
    /// decompression and has no default.
    pub max_bytes: u64,
    /// The headers of each request. If there are any, redirects to another host are refused.
    #[setters(skip)]
    headers: HeaderMap,
}

impl Default for HttpFeedOptions {
    fn default() -> Self {
        Self {
            outbound: OutboundOptions::default(),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            max_bytes: 4 << 30,
            headers: HeaderMap::new(),
        }
    }
}

impl HttpFeedOptions {
    /// Adds a header to each request, such as `Authorization`. With such a header, redirects to another host are
    /// refused, so that the other host does not learn its value.
    ///
    /// # Errors
    /// `Validation` on field `headers` if the name or the value is not valid in an HTTP header. The message does not
    /// show the value.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let malformed = |what: &str| {
            let message = format!("must have a {what} that is valid in an HTTP header");
            ecom_core::Error::invalid("headers", FieldCode::Malformed, message)
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed("name"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| malformed("value"))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl fmt::Debug for HttpFeedOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outbound, response_timeout, idle_timeout, max_bytes, headers } = self;
        f.debug_struct("HttpFeedOptions")
            .field("outbound", outbound)
            .field("response_timeout", response_timeout)
            .field("idle_timeout", idle_timeout)
            .field("max_bytes", max_bytes)
            // Their values are secret.
            .field("headers", &headers.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// A URL of `http` or `https`, which is imported when its content has changed.
///
/// The version is the `ETag` and the `Last-Modified` of the response. A server that supports `If-None-Match` or
/// `If-Modified-Since` sends the content only if it has changed. If a response has neither header, the content is first
/// written to a temporary file, and its SHA-256 is the version.
///
/// User and password of the URL are sent as basic authentication. The content may be compressed with gzip.
#[derive(Debug, Clone)]
pub struct HttpFeed {
    source: HttpSource,
}

impl HttpFeed {
    /// Returns the feed of a URL. Nothing is called yet.
    ///
    /// # Errors
    /// `Validation` on field `url` if it is not a URL of `http` or `https` or contains an address that is refused,
    /// `Internal` if the HTTP client cannot be made.
    pub fn new(url: &str, options: HttpFeedOptions) -> Result<Self> {
        Ok(Self { source: HttpSource::new(url, options)? })
    }
}

/// A URL with the client that calls it.
#[derive(Clone)]
pub(crate) struct HttpSource {
    client: OutboundClient,
    pub url: Url,
    pub options: HttpFeedOptions,
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL can contain a password.
        f.debug_struct("HttpSource")
            .field("location", &self.location())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl HttpSource {
    pub fn new(url: &str, options: HttpFeedOptions) -> Result<Self> {
        let mut outbound = options.outbound.clone();
        // Whatever was set last: another host must not get the headers.
        outbound.other_hosts &= options.headers.is_empty();
        let client = OutboundClient::new(&outbound)?;
        let malformed =
            |why: &str| ecom_core::Error::invalid("url", FieldCode::Malformed, format!("must be a URL: {why}"));
        let url: Url = url.parse().map_err(|_| malformed("it cannot be read as one"))?;
        client.check(&url).map_err(|refusal| malformed(&refusal_text(refusal)))?;
        Ok(Self { client, url, options })
    }

    pub fn location(&self) -> String {
        let mut shown = self.url.clone();
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        shown.set_fragment(None);
        shown.to_string()
    }

    /// Calls a URL of this source, and returns the response once it has its headers.
    pub async fn call(&self, url: &Url, conditions: HeaderMap) -> Result<Response, FeedError> {
        let request = self.client.get(url).map_err(|refusal| FeedError::new(refusal_text(refusal)))?;
        let request = request.headers(self.options.headers.clone()).headers(conditions);
        let sent = tokio::time::timeout(self.options.response_timeout, request.send());
        let response = match sent.await {
            Ok(sent) => sent.map_err(unreachable)?,
            Err(_) => {
                let seconds = self.options.response_timeout.as_secs_f64();
                return Err(FeedError::new(format!("the source has not answered within {seconds} s")));
            }
        };
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
            return Ok(response);
        }
        let asked = retry_after(response.headers());
        let hint = match status.as_u16() {
            401 | 403 => "; check the credentials of the feed",
            404 | 410 => "; check the URL of the feed",
            _ => "",
        };
        let message = format!("the source has answered with the status {}{hint}", status.as_u16());
        Err(FeedError::new(message).retry_after(asked))
    }

    /// Returns the body of a response, up to the limit. An error is the end of the stream.
    pub fn body(&self, response: Response) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + use<> {
        let limit = self.options.max_bytes;
        let parts = futures::stream::unfold(Some((response, 0_u64)), move |state| async move {
            let (mut response, before) = state?;
            match response.chunk().await {
                Ok(None) => None,
                Ok(Some(part)) => {
                    let bytes = before + part.len() as u64;
                    if bytes > limit {
                        return Some((Err(io::Error::other(too_large(limit))), None));
                    }
                    Some((Ok(part), Some((response, bytes))))
                }
                Err(error) => {
                    let message = "the connection has broken off before the end of the source";
                    let error = FeedError::new(message).source(error.without_url());
                    Some((Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)), None))
                }
            }
        });
        parts.boxed()
    }

    /// Adds the body of a response to a spool.
    pub async fn spool(&self, response: Response, spool: &mut Spool) -> Result<(), FeedError> {
        let mut body = self.body(response);
        while let Some(part) = self.next(&mut body).await? {
            spool.write(&part).await?;
        }
        Ok(())
    }

    /// Returns the next part of a body.
    pub async fn next(
        &self,
        body: &mut (impl Stream<Item = io::Result<Bytes>> + Unpin),
    ) -> Result<Option<Bytes>, FeedError> {
        let idle = self.options.idle_timeout;
        match tokio::time::timeout(idle, body.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(part))) => Ok(Some(part)),
            Ok(Some(Err(error))) => Err(match error.downcast::<FeedError>() {
                Ok(error) => error,
                Err(error) => FeedError::new("the source cannot be read further").source(error),
            }),
            Err(_) => {
                let seconds = idle.as_secs_f64();
                Err(FeedError::new(format!("the source has sent nothing for {seconds} s")))
            }
        }
    }
}

fn refusal_text(refusal: Refusal) -> String {
    let hint = match refusal {
        Refusal::PrivateAddress => "; `allow` permits the addresses of a network",
        _ => "",
    };
    format!("the source is refused: {refusal}{hint}")
}

/// Returns the error of a call without a response.
fn unreachable(error: reqwest::Error) -> FeedError {
    let error = error.without_url();
    let message = match Refusal::of(&error) {
        Some(refusal) => refusal_text(refusal),
        None if error.is_timeout() => "the source could not be reached in time".to_owned(),
        None if error.is_connect() => "the source cannot be reached".to_owned(),
        None => "the source has not answered the call".to_owned(),
    };
    FeedError::new(message).source(error)
}

/// The version of a URL, as it is stored.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        Self { etag: text(ETAG), modified: text(LAST_MODIFIED), sha256: None }
    }

    /// Returns true if a response with the version `new` has the same content. The hash is not compared.
    fn is(&self, new: &Self) -> bool {
        match (&self.etag, &new.etag) {
            (Some(old), Some(new)) => old == new,
            (None, None) => self.modified.is_some() && self.modified == new.modified,
            _ => false,
        }
    }

    fn stored(&self) -> Option<FeedVersion> {
        FeedVersion::new(serde_json::to_string(self).unwrap_or_default())
    }
}

#[async_trait::async_trait]
impl ImportFeed for HttpFeed {
    fn location(&self) -> String {
        self.source.location()
    }

    fn identity(&self) -> String {
        format!("http {}", self.source.url)
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        let known: Version = known.and_then(|v| serde_json::from_str(v.as_str()).ok()).unwrap_or_default();
        let mut headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.modified)] {
            headers.extend(value.as_ref().and_then(|value| Some((name, HeaderValue::from_str(value).ok()?))));
        }
        let is_conditional = headers.len() > 1;
        let response = self.source.call(&self.source.url, headers).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            // It would be none if nothing is known.
            return if is_conditional {
                Ok(Fetched::Unchanged)
            } else {
                Err(FeedError::new("the source has answered with the status 304, which was not asked for"))
            };
        }
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && !["gzip", "x-gzip", "identity"]
                .iter()
                .any(|known| encoding.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
        {
            return Err(FeedError::new("the source is compressed in a way that was not asked for, which is not gzip"));
        }
        let mut version = Version::of(response.headers());
        // The server does not understand conditions, but its content has not changed.
        if known.is(&version) {
            return Ok(Fetched::Unchanged);
        }
        let limit = self.source.options.max_bytes;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        if version != Version::default() && version.stored().is_some() {
            let body = self.source.body(response);
            let content = FeedContent::from_stream(version.stored(), body, self.source.options.idle_timeout);
            return Ok(Fetched::Changed(content));
        }
        let mut spool = Spool::new(limit)?;
        self.source.spool(response, &mut spool).await?;
        let (file, hash) = spool.end().await?;
        version = Version { sha256: Some(hash), ..Version::default() };
        if version == known {
            return Ok(Fetched::Unchanged);
        }
        Ok(Fetched::Changed(FeedContent::from_reader(version.stored(), file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_location_nor_debug_shows_a_secret() {
        let options = HttpFeedOptions::default().header("X-Api-Key", "secret-1").unwrap();
        let feed = HttpFeed::new("https://shop:secret-2@example.com/a.csv?key=secret-3#secret-4", options).unwrap();
        assert_eq!(feed.location(), "https://example.com/a.csv");
        assert!(!format!("{feed:?}").contains("secret"), "{feed:?}");
        let refused = HttpFeedOptions::default().header("X-Api-Key", "secret\n").unwrap_err();
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }

    #[test]
    fn a_url_that_cannot_work_is_refused_at_once() {
        for url in ["products.csv", "ftp://example.com/a.csv", "http://127.0.0.1/a.csv", "http://[fe80::1]/"] {
            let refused = HttpFeed::new(url, HttpFeedOptions::default()).unwrap_err();
            assert!(refused.to_string().contains("url"), "{url}: {refused}");
        }
    }
}
