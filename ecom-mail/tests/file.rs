//! The mailer that writes files keeps the contract of its port, and its files are private.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

mod support;

use std::path::Path;

use ecom_core::port::Mailer as _;
use ecom_core::testkit::MailerFixture;
use ecom_mail::FileMailer;

use self::support::parsed;

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn make() -> MailerFixture {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mails/of the shop");
    let mailer = FileMailer::open(&path).unwrap();
    let received = move || {
        let mails = files(&path).iter().map(|file| parsed(&std::fs::read(file).unwrap(), None)).collect();
        async move { mails }
    };
    MailerFixture::new(mailer, received).guard(directory)
}

ecom_core::mailer_suite!(make);

#[test]
fn a_url_names_a_directory() {
    let path = |url: &str| FileMailer::directory_of(url).map(|path| path.display().to_string()).ok();
    assert_eq!(path("file:///var/mail/a%20shop").as_deref(), Some("/var/mail/a shop"));
    assert_eq!(path("file://ecom-data/mail").as_deref(), Some("ecom-data/mail"));
    for bad in ["file:", "file://", "file:///x?y=1", "/var/mail", "file:///%ff"] {
        assert_eq!(path(bad), None, "{bad}");
    }
}

#[test]
fn what_is_no_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = FileMailer::open(file.path().join("mails")).unwrap_err();
    assert!(!refused.to_string().contains("mails"), "{refused}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_reads_the_files_and_none_is_half_written() {
    use std::os::unix::fs::PermissionsExt as _;

    use ecom_core::platform::{MailMessage, MailText};

    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("mails");
    let mailer = FileMailer::open(&directory).unwrap();
    let (to, texts) = ("ada@example.com", MailText { subject: "x".into(), text: "y".into(), html: None });
    let from = "shop@example.com".parse().unwrap();
    let id = uuid::Uuid::from_u128(7);
    let mail = MailMessage::new(id, from, to.parse().unwrap(), texts, chrono::DateTime::UNIX_EPOCH).unwrap();
    mailer.send(&mail).await.unwrap();
    assert_eq!(files(&directory), [directory.join(format!("{id}.eml"))]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&files(&directory)[0])), (0o700, 0o600));
    // A directory that is gone is a reason to try again.
    std::fs::remove_dir_all(&directory).unwrap();
    let failed = mailer.send(&mail).await.unwrap_err();
    assert!(!failed.is_permanent && !failed.to_string().contains("mails"), "{failed}");
}
