//! Mails in the Internet Message Format (RFC 5322), which files contain and mail servers take.

use std::time::SystemTime;

use ecom_core::platform::{MailAddress, MailMessage};
use ecom_core::port::MailError;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};

/// Returns a mail in the Internet Message Format, with its plain text and, if it has one, its HTML.
pub(crate) fn message(mail: &MailMessage) -> Result<Message, MailError> {
    let refused = |error: lettre::error::Error| MailError::permanent("the mail cannot be encoded").source(error);
    let domain = mail.from.address().rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let builder = Message::builder()
        .message_id(Some(format!("<{}@{domain}>", mail.id)))
        .date(SystemTime::from(mail.date))
        .from(mailbox(&mail.from)?)
        .to(mailbox(&mail.to)?)
        .subject(mail.subject.clone());
    let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(mail.text.clone());
    let mut made = match &mail.html {
        None => builder.singlepart(text),
        Some(html) => {
            let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(html.clone());
            builder.multipart(MultiPart::alternative().singlepart(text).singlepart(html))
        }
    }
    .map_err(refused)?;
    // Keeps automatic responders from answering the mail (RFC 3834).
    let name = HeaderName::new_from_ascii_str("Auto-Submitted");
    made.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
    Ok(made)
}

fn mailbox(address: &MailAddress) -> Result<Mailbox, MailError> {
    let parsed: Result<Address, _> = address.address().parse();
    let parsed = parsed.map_err(|error| MailError::permanent("an address cannot be used for mails").source(error))?;
    Ok(Mailbox::new(address.name().map(str::to_owned), parsed))
}
