//! A plain reference mailer in memory, with a place for each bug.

use std::sync::Arc;

use async_trait::async_trait;
use ecom_core::platform::MailMessage;
use ecom_core::port::{MailError, Mailer};
use ecom_core::testkit::{MailerFixture, ReceivedMail};
use parking_lot::Mutex;

use self::MailerMutant as M;

crate::runner::mutants! {
    /// A bug of a mailer.
    MailerMutant {
        LosesMails: "`send` of a second mail at the same time loses the first one" default,
        SendsTwice: "`send` sends each mail twice" default,
        NoHtml: "the HTML is left out" default,
        HtmlAsText: "a mail without HTML gets its text as HTML" default,
        NoName: "the name of the receiver is left out" default,
        SubjectIsAscii: "the subject loses characters that are not ASCII" default,
        TextIsLatin: "the text loses characters that are not Latin" default,
        DotsAreEaten: "a dot at the beginning of a line is left out" default,
        LongLinesAreCut: "a line of a text is cut off after 200 characters" default,
        LargeMailsAreCut: "a text is cut off after 64 KiB" default,
        SenderIsReceiver: "the sender and the receiver change places" default,
        AllIsPermanent: "an address that is refused at the moment is refused for good" default,
        NothingIsPermanent: "an address that is refused for good is refused at the moment" default,
        RefusedArrives: "a mail that is refused arrives" default,
        ClosesItself: "after a refusal, nothing is sent any more" default,
    }
}

#[derive(Debug)]
struct Reference {
    mutant: Option<M>,
    mails: Arc<Mutex<Vec<ReceivedMail>>>,
    refused: Mutex<bool>,
}

/// A mailer that has sent nothing, with a bug or without.
pub(crate) fn mailer_fixture(mutant: Option<M>) -> MailerFixture {
    let mails: Arc<Mutex<Vec<ReceivedMail>>> = Arc::default();
    let mailer = Reference { mutant, mails: mails.clone(), refused: Mutex::default() };
    let mut fixture = MailerFixture::new(mailer, move || {
        let mails = mails.lock().clone();
        async move { mails }
    });
    fixture.refused = Some("refused@example.com".to_owned());
    fixture.busy = Some("busy@example.com".to_owned());
    fixture
}

fn lines(text: &str, change: impl Fn(&str) -> String) -> String {
    text.split('\n').map(change).collect::<Vec<_>>().join("\n")
}

#[async_trait]
impl Mailer for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    async fn send(&self, mail: &MailMessage) -> Result<(), MailError> {
        let is = |mutant| self.mutant == Some(mutant);
        let mut received = ReceivedMail {
            from: mail.from.address().to_owned(),
            to: vec![mail.to.address().to_owned()],
            to_name: mail.to.name().map(str::to_owned),
            subject: mail.subject.clone(),
            text: mail.text.clone(),
            html: mail.html.clone(),
            headers: vec!["from".to_owned(), "to".to_owned(), "subject".to_owned()],
        };
        match self.mutant {
            Some(M::NoHtml) => received.html = None,
            Some(M::HtmlAsText) => received.html = received.html.or_else(|| Some(mail.text.clone())),
            Some(M::NoName) => received.to_name = None,
            Some(M::SubjectIsAscii) => received.subject.retain(|c| c.is_ascii()),
            Some(M::TextIsLatin) => received.text.retain(|c| c < '\u{100}'),
            Some(M::DotsAreEaten) => {
                received.text = lines(&mail.text, |line| line.strip_prefix('.').unwrap_or(line).to_owned());
            }
            Some(M::LongLinesAreCut) => received.text = lines(&mail.text, |line| line.chars().take(200).collect()),
            Some(M::LargeMailsAreCut) => received.text = mail.text.chars().take(65_536).collect(),
            Some(M::SenderIsReceiver) => {
                received = ReceivedMail { from: received.to[0].clone(), to: vec![received.from], ..received };
            }
            _ => {}
        }
        let refusal = match mail.to.address().split('@').next() {
            Some("refused") => Some(!is(M::NothingIsPermanent)),
            Some("busy") => Some(is(M::AllIsPermanent)),
            _ => None,
        };
        if refusal.is_none() || is(M::RefusedArrives) {
            let mut mails = self.mails.lock();
            if is(M::LosesMails) {
                mails.clear();
            }
            if is(M::SendsTwice) {
                mails.push(received.clone());
            }
            if !(is(M::ClosesItself) && *self.refused.lock()) {
                mails.push(received);
            }
        }
        let Some(is_permanent) = refusal else { return Ok(()) };
        *self.refused.lock() = true;
        Err(if is_permanent { MailError::permanent("refused") } else { MailError::temporary("busy") })
    }

    async fn close(&self) {}
}
