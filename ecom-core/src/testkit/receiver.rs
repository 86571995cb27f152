//! A receiver of webhooks for tests, which keeps the messages.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use url::Url;

use crate::port::webhook_sender::{WebhookAnswer, WebhookError, WebhookMessage, WebhookSender};

/// What a [`Receiver`] does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers with this status.
    Status(u16),
    /// The connection breaks off.
    Broken,
    /// It takes the message, and never answers.
    Silent,
}

/// The function with which a [`Receiver`] decides what it does with a message.
type Decide = Box<dyn Fn(&WebhookMessage) -> Answer + Send + Sync>;

/// A sender of webhooks whose messages go nowhere. It refuses URLs with `http`, and those of the host `refused.test`.
pub struct Receiver {
    decide: Mutex<Decide>,
    messages: Mutex<Vec<(WebhookMessage, Answer)>>,
}

impl Receiver {
    /// Returns a receiver that accepts every message.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { decide: Mutex::new(Box::new(|_| Answer::Status(200))), messages: Mutex::default() })
    }

    /// Sets what it does with the next messages.
    pub fn decides(&self, decide: impl Fn(&WebhookMessage) -> Answer + Send + Sync + 'static) {
        *self.decide.lock() = Box::new(decide);
    }

    /// Returns all messages that have come, with what it did with each.
    pub fn messages(&self) -> Vec<(WebhookMessage, Answer)> {
        self.messages.lock().clone()
    }

    /// Returns the messages that it has accepted, or has taken without an answer.
    pub fn taken(&self) -> Vec<WebhookMessage> {
        let is_taken = |answer: &Answer| matches!(answer, Answer::Silent | Answer::Status(200..300));
        let taken = self.messages().into_iter().filter(|(_, answer)| is_taken(answer));
        taken.map(|(message, _)| message).collect()
    }

    /// Returns the body of a message.
    pub fn body(message: &WebhookMessage) -> Value {
        serde_json::from_str(&message.body).unwrap_or_default()
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[async_trait]
impl WebhookSender for Receiver {
    fn name(&self) -> &'static str {
        "receiver"
    }

    fn refuses(&self, url: &Url) -> Option<&'static str> {
        let is_refused = url.scheme() != "https" || url.host_str() == Some("refused.test");
        is_refused.then_some("must begin with `https://`, and not lead to the host of the test")
    }

    async fn send(&self, message: &WebhookMessage) -> Result<WebhookAnswer, WebhookError> {
        let answer = (*self.decide.lock())(message);
        self.messages.lock().push((message.clone(), answer));
        match answer {
            Answer::Status(status) => {
                Ok(WebhookAnswer { status, excerpt: Some(format!("status {status}")), retry_after: None })
            }
            Answer::Broken => Err(WebhookError::new("the connection has broken off")),
            Answer::Silent => std::future::pending().await,
        }
    }
}
