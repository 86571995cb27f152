//! The mailer of mail servers keeps the contract of its port on a real one, with TLS and without.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

mod support;

use std::time::Duration;

use ecom_core::platform::{MailMessage, MailText};
use ecom_core::port::{MailError, Mailer as _};
use ecom_core::testkit::MailerFixture;
use ecom_mail::{SmtpMailer, SmtpOptions};
use test_servers::Server;

use self::support::parsed;

async fn fixture(tls: &str, with_login: bool) -> MailerFixture {
    let server = Server::smtp(tls, with_login).await;
    let mailer = SmtpMailer::open(SmtpOptions::from_url(&server.url()).unwrap()).unwrap();
    let directory = server.directory().to_owned();
    let received = move || {
        let mails = test_servers::mails(&directory);
        let mails = mails.into_iter().map(|(from, to, bytes)| parsed(&bytes, Some((from, to)))).collect();
        async move { mails }
    };
    let mut fixture = MailerFixture::new(mailer, received).guard(server);
    fixture.refused = Some("refused@example.com".to_owned());
    fixture.busy = Some("busy@example.com".to_owned());
    fixture
}

async fn plain() -> MailerFixture {
    fixture("none", false).await
}

async fn starttls() -> MailerFixture {
    fixture("starttls", true).await
}

async fn implicit() -> MailerFixture {
    fixture("implicit", true).await
}

mod in_clear {
    ecom_core::mailer_suite!(crate::plain);
}

mod with_starttls {
    ecom_core::mailer_suite!(crate::starttls);
}

mod with_tls {
    ecom_core::mailer_suite!(crate::implicit);
}

fn mail() -> MailMessage {
    let texts = MailText { subject: "Hello".into(), text: "Hello.".into(), html: None };
    let (from, to) = ("shop@example.com".parse().unwrap(), "ada@example.com".parse().unwrap());
    let date = chrono::DateTime::from_timestamp(1_767_323_045, 0).unwrap();
    MailMessage::new(uuid::Uuid::from_u128(7), from, to, texts, date).unwrap()
}

async fn send(url: &str) -> Result<(), MailError> {
    SmtpMailer::open(SmtpOptions::from_url(url).unwrap()).unwrap().send(&mail()).await
}

#[tokio::test]
async fn wrong_settings_are_temporary_errors_without_secrets() {
    let server = Server::smtp("starttls", true).await;
    let url = server.url();
    let wrong = send(&url.replace("hunter2%40smtp", "wrong")).await.unwrap_err();
    assert!(!wrong.is_permanent && wrong.code == Some(535), "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("hunter2") && !format!("{wrong:?}").contains("wrong@"), "{wrong:?}");
    // The authority of the certificate is not known without the parameter.
    let unknown = send(url.split('?').next().unwrap()).await.unwrap_err();
    assert!(!unknown.is_permanent, "{unknown:?}");
    // A server without TLS gets neither the password nor the mail.
    let plain = Server::smtp("none", true).await;
    let stripped = send(&url.replace(&server.port().to_string(), &plain.port().to_string())).await.unwrap_err();
    assert!(!stripped.is_permanent, "{stripped:?}");
    assert!(server.mails().is_empty() && plain.mails().is_empty());
    send(&url).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_or_hangs_is_a_temporary_error_and_mails_go_on_afterwards() {
    let mut server = Server::smtp("none", false).await;
    let mut options = SmtpOptions::from_url(&server.url()).unwrap();
    options.timeout = Duration::from_secs(1);
    let mailer = SmtpMailer::open(options).unwrap();
    mailer.send(&mail()).await.unwrap();
    server.stop().await;
    let away = mailer.send(&mail()).await.unwrap_err();
    assert!(!away.is_permanent, "{away:?}");
    server.start().await;
    mailer.send(&mail()).await.unwrap();
    server.pause();
    let hangs = mailer.send(&mail()).await.unwrap_err();
    assert!(!hangs.is_permanent, "{hangs:?}");
    server.resume();
    mailer.send(&mail()).await.unwrap();
    mailer.close().await;
}
