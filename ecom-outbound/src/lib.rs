//! Calls of URLs that somebody else chooses, directly or by a redirect: [`OutboundClient`], and [`HttpWebhookSender`],
//! which calls the receivers of webhooks with it.
//!
//! Such a URL must not lead the process to services that only the process can reach: those on its own machine or in its
//! network, or the metadata service of its cloud (server-side request forgery). A check of the URL is not enough,
//! because a public name can lead to a private address, and to another address a moment later (DNS rebinding). So the
//! client checks addresses when it opens a connection: it resolves the name itself, removes the addresses that it must
//! not reach, and connects to one of the others without resolving the name again. Addresses that a URL contains, and
//! each redirect, are checked too. The client uses no proxy, because a proxy would resolve the names.
//!
//! Applications depend on the facade crate `ecom`, whose feature `webhooks` re-exports this crate.

mod client;
mod retry_after;
mod webhook;

pub use client::{OutboundClient, OutboundOptions, Refusal, is_public};
pub use retry_after::retry_after;
pub use webhook::{HttpWebhookSender, WebhookSenderOptions};
