//! The mailer, which sends mails, and the templates from which they are made.

use std::fmt;

use crate::domain::platform::mail::{MailContent, MailMessage, MailText};
use crate::error::BoxError;

/// The error of a mail that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("{context}{}", code.map(|code| format!(" (reply {code})")).unwrap_or_default())]
pub struct MailError {
    /// A description of the failure, which contains no address, no text of the mail and no secret.
    pub context: &'static str,
    /// True if another attempt to send the same mail would fail too, for example because the address does not exist.
    pub is_permanent: bool,
    /// The reply code of the mail server (RFC 5321, 4.2), if it has replied.
    pub code: Option<u16>,
    /// The error of the client library.
    #[source]
    pub source: Option<BoxError>,
}

impl MailError {
    /// Returns the error of a mail that can be sent later.
    pub const fn temporary(context: &'static str) -> Self {
        Self { context, is_permanent: false, code: None, source: None }
    }

    /// Returns the error of a mail for which another attempt would fail too.
    pub const fn permanent(context: &'static str) -> Self {
        Self { context, is_permanent: true, code: None, source: None }
    }

    /// Adds the reply code of a mail server.
    #[must_use]
    pub const fn code(mut self, code: Option<u16>) -> Self {
        self.code = code;
        self
    }

    /// Adds the error of the client library.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

port! {
    /// A mailer. An implementation runs `ecom_core::mailer_suite!` (feature `testkit`).
    ///
    /// Calls may come from several tasks at once. A call that is dropped may or may not have sent its mail.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait Mailer / ForwardMailer(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages: `log`, `file`, `smtp` …
        fn name(&self) -> &'static str;

        /// Sends a mail to its receiver, and returns once somebody else is responsible for it, such as a mail server.
        /// The call ends within a time limit of the adapter.
        ///
        /// # Errors
        /// A permanent error if the mail can never be sent, such as one to an address that the mail server refuses for
        /// good; else a temporary one. After a temporary error the mail may have been sent nevertheless.
        async fn send(&self, mail: &MailMessage) -> Result<(), MailError>;

        /// Ends connections and background work.
        async fn close(&self);
    }
}

/// The templates of mails, which an application can replace. They do no I/O.
pub trait MailTemplates: Send + Sync + fmt::Debug {
    /// Returns the texts of a mail. HTML must escape what the content contains.
    ///
    /// # Errors
    /// A permanent error if a template cannot be rendered. The job of the mail fails, and an operator can run it again.
    fn render(&self, content: &MailContent) -> Result<MailText, MailError>;
}
