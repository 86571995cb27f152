//! The sender of webhooks, which makes the calls.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::error::BoxError;

/// A message to the receiver of a webhook: a POST with a JSON body and the headers of the Standard Webhooks
/// specification. Its `Debug` shows neither the URL, which can contain a key, nor the body.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookMessage {
    /// The URL of the receiver.
    pub url: Url,
    /// The header `webhook-id`: the id of the message, which is the same in every attempt.
    pub id: String,
    /// The header `webhook-timestamp`: the time of the attempt, in seconds since 1970.
    pub timestamp: i64,
    /// The header `webhook-signature`.
    pub signature: String,
    /// The body, of the type `application/json`.
    pub body: String,
}

impl WebhookMessage {
    /// Returns a message.
    pub const fn new(url: Url, id: String, timestamp: i64, signature: String, body: String) -> Self {
        Self { url, id, timestamp, signature, body }
    }
}

impl fmt::Debug for WebhookMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookMessage").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The answer of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The beginning of the body as text, of some hundred characters; `None` if there is none.
    pub excerpt: Option<String>,
    /// The time for which the receiver asks not to be called again (`Retry-After`). The shop ignores it after a
    /// success, and otherwise waits for at most a day.
    pub retry_after: Option<Duration>,
}

/// The error of a message that got no answer.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct WebhookError {
    /// A description of the failure, which contains no part of the URL and no secret. The delivery log shows it.
    pub context: &'static str,
    /// The error of the client library.
    #[source]
    pub source: Option<BoxError>,
}

impl WebhookError {
    /// Returns an error.
    pub const fn new(context: &'static str) -> Self {
        Self { context, source: None }
    }

    /// Adds the error of the client library.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

port! {
    /// A sender of webhooks.
    ///
    /// Calls may come from several tasks at once. A call that is dropped may or may not have sent its message.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait WebhookSender / ForwardWebhookSender(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages, such as `http`.
        fn name(&self) -> &'static str;

        /// Returns why the sender does not call a URL, as the end of a sentence that begins with the name of a field;
        /// `None` if it does. Nothing is called: a name is resolved, and its addresses are checked, when a message is
        /// sent.
        fn refuses(&self, url: &Url) -> Option<&'static str>;

        /// Sends a message, and returns the answer, whatever its status is. It follows no redirect. The shop drops the
        /// call at its time limit ([`ShopConfig::webhook_timeout`](crate::config::ShopConfig::webhook_timeout)).
        ///
        /// # Errors
        /// A [`WebhookError`] if there is no answer.
        async fn send(&self, message: &WebhookMessage) -> Result<WebhookAnswer, WebhookError>;
    }
}
