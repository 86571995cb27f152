//! The sender of webhooks.

use std::time::Duration;

use async_trait::async_trait;
use derive_setters::Setters;
use ecom_core::Result;
use ecom_core::port::{WebhookAnswer, WebhookError, WebhookMessage, WebhookSender};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, Url};

use crate::client::{OutboundClient, OutboundOptions, Refusal};
use crate::retry_after::retry_after;

/// The settings of an [`HttpWebhookSender`].
#[derive(Debug, Clone, Default, Setters)]
#[non_exhaustive]
pub struct WebhookSenderOptions {
    /// Whether URLs with `http` are called. Messages are signed, but everybody on the way can read them. Default false.
    pub allow_http: bool,
    /// The settings of the client. Its redirects are ignored, because no redirect is followed.
    pub outbound: OutboundOptions,
}

/// Calls the receivers of webhooks. It refuses addresses that are not public, as the docs of [the crate](crate)
/// describe, and follows no redirect.
///
/// ```
/// use ecom_core::port::WebhookSender as _;
/// use ecom_outbound::{HttpWebhookSender, WebhookSenderOptions};
///
/// let sender = HttpWebhookSender::new(&WebhookSenderOptions::default())?;
/// assert_eq!(sender.refuses(&"https://example.com/hooks".parse()?), None);
/// assert!(sender.refuses(&"http://example.com/hooks".parse()?).is_some());
/// assert!(sender.refuses(&"https://169.254.169.254/".parse()?).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HttpWebhookSender {
    client: OutboundClient,
    allow_http: bool,
}

impl HttpWebhookSender {
    /// The most bytes of the body of an answer that are read.
    const EXCERPT: usize = 2_000;
    /// How long the body of an answer is read. A receiver that sends it slowly has accepted the message nevertheless.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Returns a sender. Nothing is called yet.
    ///
    /// # Errors
    /// `Internal` if the client cannot be made.
    pub fn new(options: &WebhookSenderOptions) -> Result<Self> {
        let outbound = options.outbound.clone().max_redirects(0_usize);
        Ok(Self { client: OutboundClient::new(&outbound)?, allow_http: options.allow_http })
    }

    /// Returns the beginning of the body of an answer as text.
    async fn excerpt(mut response: Response) -> Option<String> {
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < Self::EXCERPT {
                match response.chunk().await {
                    Ok(Some(part)) => {
                        let room = Self::EXCERPT - bytes.len();
                        bytes.extend_from_slice(&part[..part.len().min(room)]);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        };
        // What has arrived by then is enough.
        let _ = tokio::time::timeout(Self::PATIENCE, read).await;
        let text = String::from_utf8_lossy(&bytes);
        let text: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// Returns the text of a refusal, after the name of a field.
const fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::PrivateAddress => {
            "leads to an address of this machine or of a private network, or to a reserved one, which is not called \
             unless a setting allows it"
        }
        _ => "must begin with `https://`",
    }
}

#[async_trait]
impl WebhookSender for HttpWebhookSender {
    fn name(&self) -> &'static str {
        "http"
    }

    fn refuses(&self, url: &Url) -> Option<&'static str> {
        if url.scheme() != "https" && !self.allow_http {
            return Some("must begin with `https://`, unless a setting allows `http://`");
        }
        self.client.check(url).err().map(refused)
    }

    async fn send(&self, message: &WebhookMessage) -> Result<WebhookAnswer, WebhookError> {
        if self.refuses(&message.url).is_some() {
            return Err(WebhookError::new(
                "the URL of the webhook is refused: its scheme or its address is not allowed",
            ));
        }
        let request = self.client.post(&message.url).map_err(|refusal| WebhookError::new(refused(refusal)))?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", &message.signature)
            .body(message.body.clone());
        let response = request.send().await.map_err(unanswered)?;
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        Ok(WebhookAnswer { status, excerpt: Self::excerpt(response).await, retry_after })
    }
}

/// Returns the error of a message to which no answer has come.
fn unanswered(error: reqwest::Error) -> WebhookError {
    let context = if Refusal::of(&error).is_some() {
        "the URL leads to an address of this machine or of a private network, or to a reserved one, which is not called"
    } else if error.is_timeout() {
        "the connection to the receiver could not be opened in time"
    } else if error.is_connect() {
        "the connection to the receiver could not be opened"
    } else {
        "the connection to the receiver has broken off before its answer"
    };
    // The URL can contain a key.
    WebhookError::new(context).source(error.without_url())
}
