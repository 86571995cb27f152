//! Mails of processes that are killed between the commit and the mail, and after they have begun to send it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::access::{Principal, Secret, UserInput};
use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::platform::MailMessage;
use ecom_core::port::{MailError, Mailer, NoSearch, Storage as _};
use ecom_core::testkit::postbox::Postbox;
use ecom_core::{Mailing, Shop, ShopParts};

use super::{LIMIT, Place, Process, say, storage};

const ADA: &str = "ada@example.com";

async fn open(at: &Place, mailing: Option<Mailing>) -> Shop {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let config = ShopConfig::default().poll_interval(Duration::from_millis(50)).lease_ttl(Duration::from_secs(1));
    let parts = ShopParts::new(Arc::new(storage), Arc::new(NoSearch));
    Shop::new(ShopParts { mailing, config, ..parts }).unwrap()
}

/// A mailer that says that it sends a mail, and never ends.
#[derive(Debug)]
struct Hangs;

#[async_trait]
impl Mailer for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }

    async fn send(&self, _: &MailMessage) -> Result<(), MailError> {
        say("sending");
        std::future::pending().await
    }

    async fn close(&self) {}
}

/// Runs a child, which registers a user and then waits for its death.
pub async fn child(at: &Place, role: &str) {
    let mailing = Mailing { mailer: Arc::new(Hangs), ..Postbox::new().mailing() };
    let shop = open(at, Some(mailing)).await;
    let _background = (role == "mails send").then(|| shop.start());
    let input = UserInput::new(ADA).password("correct horse").name("Ada Lovelace");
    shop.auth().register(&input, None).await.unwrap();
    say("registered");
    std::future::pending::<()>().await;
}

/// Waits for a mail of a kind that has another token than the one before.
async fn token(postbox: &Postbox, kind: &str) -> Secret {
    let start = Instant::now();
    loop {
        if let Some(token) = postbox.token(ADA, kind) {
            return token;
        }
        assert!(start.elapsed() < LIMIT, "no mail of the kind {kind} arrives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A process dies after its commit, and another one while it sends the mail.
#[tokio::test]
async fn r13_a_mail_survives_the_death_of_its_process() {
    for (role, line) in [("mails register", "registered"), ("mails send", "sending")] {
        let dir = tempfile::tempdir().unwrap();
        let at = Place { dir: dir.path().to_owned(), ..Place::default() };
        let process = Process::start(&at, role, "1");
        process.line(line);
        process.kill();
        let postbox = Postbox::new();
        let shop = open(&at, Some(postbox.mailing())).await;
        let background = shop.start();
        let token = token(&postbox, "verify_email").await;
        assert!(shop.auth().verify_email(Principal::system(), &token).await.unwrap().customer_id.is_some(), "{role}");
        background.shutdown().await;
        assert_eq!(postbox.mails().len(), 1, "{role}");
    }
}

/// The files of the database have the hash of a token and nothing of which the token could be made.
#[tokio::test]
async fn no_token_is_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let at = Place { dir: dir.path().to_owned(), ..Place::default() };
    let postbox = Postbox::new();
    let shop = open(&at, Some(postbox.mailing())).await;
    let background = shop.start();
    let input = UserInput::new(ADA).password("correct horse");
    shop.auth().register(&input, None).await.unwrap();
    shop.auth().request_password_reset(ADA).await.unwrap();
    let tokens = [token(&postbox, "verify_email").await, token(&postbox, "reset_password").await];
    background.shutdown().await;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        files.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let contains = |part: &[u8]| files.windows(part.len()).any(|found| found == part);
    assert!(contains(ADA.as_bytes()), "the files are those of the database");
    for token in tokens {
        assert!(contains(&token.hash().0), "the hash of a token that was not used");
        let text = token.reveal();
        // Half of a token would be half of the work.
        for part in [&text[..text.len() / 2], &text[text.len() / 2..]] {
            assert!(!contains(part.as_bytes()), "a token is in the database");
        }
    }
    shop.close().await;
}
