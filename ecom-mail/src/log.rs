//! The mailer that writes to the log.

use async_trait::async_trait;
use ecom_core::platform::MailMessage;
use ecom_core::port::{MailError, Mailer};

/// A mailer for development, which writes mails to the log and sends none: `log:`.
///
/// The id and the subject of a mail are logged at the level `info`, its addresses and texts at `debug`. The texts have
/// the links that verify an address or set a password, so they must not be in a log that others can read. To see the
/// links, log the target `ecom_mail` at `debug`, for example with `ECOM_LOG=info,ecom_mail=debug`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn send(&self, mail: &MailMessage) -> Result<(), MailError> {
        let MailMessage { id, from, to, subject, text, html, .. } = mail;
        tracing::info!(%id, subject, "a mail is not sent; the level debug of ecom_mail logs its text");
        tracing::debug!(%id, %from, %to, subject, text, html, "the text of a mail");
        Ok(())
    }

    async fn close(&self) {}
}
