//! Reads mails in the format of the internet.

use ecom_core::testkit::ReceivedMail;
use mail_parser::{Address, MessageParser};

/// Returns a mail that was delivered to these receivers, or to those that it names.
pub fn parsed(bytes: &[u8], delivered: Option<(String, Vec<String>)>) -> ReceivedMail {
    let mail = MessageParser::default().parse(bytes).unwrap();
    let one = |address: Option<&Address<'_>>| address.and_then(|a| a.first()).unwrap().clone().into_owned();
    let (from, to) = (one(mail.from()), one(mail.to()));
    let named = (from.address().unwrap().to_owned(), vec![to.address().unwrap().to_owned()]);
    let (from, receivers) = delivered.unwrap_or(named);
    assert!(mail.message_id().is_some_and(|id| id.ends_with("@example.com")), "{:?}", mail.message_id());
    assert_eq!(mail.date().unwrap().to_timestamp(), 1_767_323_045);
    assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    let html = mail.html_bodies().find(|part| part.is_text_html());
    ReceivedMail {
        from,
        to: receivers,
        to_name: to.name().map(str::to_owned),
        subject: mail.subject().unwrap().to_owned(),
        text: mail.body_text(0).unwrap().into_owned(),
        html: html.and_then(|part| part.text_contents().map(str::to_owned)),
        headers: mail.headers().iter().map(|header| header.name().to_ascii_lowercase()).collect(),
    }
}
