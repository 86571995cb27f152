//! The contract of [`Mailer`](crate::port::Mailer).

use std::collections::HashSet;
use std::fmt::Debug;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::platform::mail::{MailAddress, MailMessage, MailText};
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;
use crate::testkit::{MailerFixture, ReceivedMail};

suite! {
    /// Runs the suite of [`Mailer`](crate::port::Mailer). Takes the path of an `async fn() -> MailerFixture`; see
    /// [`testkit`](crate::testkit).
    mailer_suite, mailer: fixture => &fixture, __mailer_tests: [
        a_mail_arrives_with_all_that_it_has,
        a_mail_without_html_arrives,
        texts_of_all_kinds_arrive_unchanged,
        a_name_adds_neither_a_header_nor_a_receiver,
        each_of_many_mails_at_once_arrives_once,
        a_large_mail_arrives,
        a_refusal_says_whether_it_is_permanent,
        it_has_a_name_and_closes,
    ]
}

fn address(address: &str, name: Option<&str>) -> MailAddress {
    succeeds(MailAddress::new(address, name), "`MailAddress::new`")
}

fn text(subject: &str, text: &str, html: Option<&str>) -> MailText {
    MailText { subject: subject.to_owned(), text: text.to_owned(), html: html.map(str::to_owned) }
}

fn mail(n: u128, to: MailAddress, text: MailText) -> MailMessage {
    let from = address("shop@example.com", Some("Tea Shop"));
    let date = Timestamp::from_timestamp(1_767_323_045, 0).unwrap_or_default();
    succeeds(MailMessage::new(Uuid::from_u128(n), from, to, text, date), "`MailMessage::new`")
}

fn ada() -> MailAddress {
    address("ada@example.com", Some("Ada Lovelace"))
}

async fn send(f: &MailerFixture, mail: &MailMessage) {
    step("`send`");
    succeeds(f.mailer.send(mail).await, "`send`");
}

/// Returns the mail that has arrived, of which there must be one.
async fn arrived(f: &MailerFixture, about: &str) -> ReceivedMail {
    let mut mails = (f.received)().await;
    same(mails.len(), 1, "A mail that was sent arrives once.", about);
    mails.remove(0)
}

/// Mail servers write the ends of lines in their own way, and add one at the end.
fn lines(text: impl AsRef<str>) -> Vec<String> {
    text.as_ref().trim_end().lines().map(str::to_owned).collect()
}

fn equal(received: &ReceivedMail, sent: &MailMessage, about: impl Debug) {
    let about = format!("{about:?}");
    let contract = "A mail arrives with the sender, the receiver, the subject and the texts that were sent.";
    same(&received.from, sent.from.address(), contract, &about);
    same(received.to.clone(), vec![sent.to.address().to_owned()], contract, &about);
    same(received.to_name.as_deref(), sent.to.name(), contract, &about);
    same(&received.subject, &sent.subject, contract, &about);
    same(lines(&received.text), lines(&sent.text), contract, &about);
    same(received.html.as_ref().map(lines), sent.html.as_ref().map(lines), contract, about);
}

/// A mail has both texts.
pub async fn a_mail_arrives_with_all_that_it_has(f: &MailerFixture) {
    let mail = mail(1, ada(), text("Hello", "Hello Ada,\n\nwelcome.\n", Some("<p>Hello <b>Ada</b></p>")));
    send(f, &mail).await;
    equal(&arrived(f, "a mail with two texts").await, &mail, "a mail with two texts");
}

/// A mail of plain text.
pub async fn a_mail_without_html_arrives(f: &MailerFixture) {
    let mail = mail(1, address("ada@example.com", None), text("Hello", "Hello.", None));
    send(f, &mail).await;
    equal(&arrived(f, "a mail of plain text").await, &mail, "a mail of plain text");
}

/// Characters and lines that mails encode or that mail servers treat specially.
pub async fn texts_of_all_kinds_arrive_unchanged(f: &MailerFixture) {
    let long = format!("https://shop.example/reset-password?token={}", "aB3-_".repeat(60));
    let body = format!("Grüße, こんにちは 👋\n.\n..\nFrom here\n\n{long}\n=3D =C3=A9 \u{a0}\n-- \nend");
    let html = format!("<a href=\"{long}\">Größe &amp; Farbe</a>\n.\n");
    let subject = format!("{} – 質問 \"?= =?utf-8?q?x?=", "Zürich ".repeat(20));
    let mail =
        mail(1, address("zoe@example.com", Some("Zoë \"Q\" O'Neil, Jr. <x> 例")), text(&subject, &body, Some(&html)));
    send(f, &mail).await;
    equal(&arrived(f, "a mail of many kinds of characters").await, &mail, "many kinds of characters");
}

/// The user chooses its name.
pub async fn a_name_adds_neither_a_header_nor_a_receiver(f: &MailerFixture) {
    let name = "Ada\r\nBcc: eve@example.com\r\nX-Evil: 1\r\n\r\nbody";
    let subject = "Hello\r\nBcc: eve@example.com\r\n\r\nbody";
    let mail = mail(1, address("ada@example.com", Some(name)), text(subject, "Hello.", None));
    send(f, &mail).await;
    let received = arrived(f, "a name with lines of headers").await;
    equal(&received, &mail, "a name with lines of headers");
    let contract = "Neither a name nor a subject adds a header or a receiver.";
    for header in ["bcc", "x-evil"] {
        holds(!received.headers.iter().any(|name| name == header), contract, format_args!("{:?}", received.headers));
    }
}

/// Several tasks send at the same time.
pub async fn each_of_many_mails_at_once_arrives_once(f: &MailerFixture) {
    let sends = (0..30_u128).map(|n| {
        let to = address(&format!("user{n}@example.com"), None);
        let mail = mail(n, to, text(&format!("Mail {n}"), "Hello.", Some("<p>Hello")));
        async move { f.mailer.send(&mail).await }
    });
    step("`send` of 30 mails at once");
    for sent in futures::future::join_all(sends).await {
        succeeds(sent, "`send`, 30 at once");
    }
    let mails = (f.received)().await;
    let to: HashSet<_> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    same((mails.len(), to.len()), (30, 30), "Each mail arrives once.", "30 mails at once");
}

/// A mail of a quarter of a megabyte.
pub async fn a_large_mail_arrives(f: &MailerFixture) {
    let body = "0123456789 abcdefghij ü\n".repeat(10_000);
    let mail = mail(1, ada(), text("Hello", &body, None));
    send(f, &mail).await;
    let received = arrived(f, "a large mail").await;
    let is_whole = lines(&received.text) == lines(&body);
    holds(is_whole, "A mail arrives with the text that was sent.", format_args!("{} bytes", received.text.len()));
}

/// Addresses that the mailer refuses, if there are any.
pub async fn a_refusal_says_whether_it_is_permanent(f: &MailerFixture) {
    for (refused, is_permanent) in [(&f.refused, true), (&f.busy, false)] {
        let Some(refused) = refused else { continue };
        let sent = f.mailer.send(&mail(1, address(refused, None), text("Hello", "Hello.", None))).await;
        let contract = "A refusal is permanent if the mail can never be sent, and else temporary.";
        match sent {
            Ok(()) => holds(false, contract, format_args!("{refused} is not refused")),
            Err(error) => same(error.is_permanent, is_permanent, contract, format_args!("{refused}: {error:?}")),
        }
    }
    same((f.received)().await.len(), 0, "A mail that was refused does not arrive.", "refused mails");
    // The mailer goes on.
    let mail = mail(2, ada(), text("Hello", "Hello.", None));
    send(f, &mail).await;
    equal(&arrived(f, "a mail after others were refused").await, &mail, "after others were refused");
}

/// The mailer has a name, and it closes after it has sent mails and before.
pub async fn it_has_a_name_and_closes(f: &MailerFixture) {
    holds(!f.mailer.name().is_empty(), "`name` returns a name that is not empty.", "`name` is empty");
    step("`close`");
    f.mailer.close().await;
}
