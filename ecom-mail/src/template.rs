//! The templates of mails.

use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use ecom_core::platform::{MailContent, MailKind, MailText};
use ecom_core::port::{MailError, MailTemplates};
use ecom_core::{Error, FieldCode, Result};
use minijinja::{Environment, UndefinedBehavior, context};

/// The templates of this crate, by the names of their files.
const OWN: [(&str, &str); 6] = [
    ("verify_email.subject", include_str!("../templates/verify_email.subject")),
    ("verify_email.txt", include_str!("../templates/verify_email.txt")),
    ("verify_email.html", include_str!("../templates/verify_email.html")),
    ("reset_password.subject", include_str!("../templates/reset_password.subject")),
    ("reset_password.txt", include_str!("../templates/reset_password.txt")),
    ("reset_password.html", include_str!("../templates/reset_password.html")),
];

/// The largest template, in bytes.
const MAX_TEMPLATE: u64 = 1_048_576;

/// Templates of mails, in the language of Jinja.
///
/// Each kind of mail ([`MailKind`]) has three: `<kind>.subject`, `<kind>.txt` and `<kind>.html`. Files of these names
/// in a directory replace those of this crate, each by itself; an empty `<kind>.html` makes mails without HTML.
/// Templates whose names end in `.html` escape what they show.
///
/// | Variable | Meaning |
/// |---|---|
/// | `shop_name` | the name of the shop |
/// | `public_url` | the URL of the storefront, without a slash at its end |
/// | `name` | the name of the user; none if it has no name |
/// | `email` | the address to which the mail is sent |
/// | `link` | the page of the storefront that takes the token: `<public_url>/verify-email?token=…`, `<public_url>/reset-password?token=…` |
/// | `token` | the token, for a link of your own |
/// | `expires_at` | when the token expires (RFC 3339, UTC) |
/// | `valid_minutes` | how long it is valid, in minutes |
/// | `valid_for` | the same in words, such as `3 days` |
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Returns the templates of this crate, which are in English.
    ///
    /// # Errors
    /// As [`Self::from_directory`].
    pub fn own() -> Result<Self> {
        Self::with(|_| Ok(None))
    }

    /// Returns the templates of this crate. A file of the same name in a directory replaces a template. The files are
    /// read once.
    ///
    /// # Errors
    /// `Validation` on `mail_templates` if the directory or one of the files cannot be read, or if a template is not
    /// valid or uses a variable that does not exist.
    pub fn from_directory(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(invalid("must be a directory that can be read".to_owned()));
        }
        Self::with(|name| {
            let path = directory.join(name);
            match std::fs::metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Ok(found) if found.len() > MAX_TEMPLATE => {
                    return Err(invalid(format!("must have at most 1 MiB in each template, but `{name}` has more")));
                }
                _ => {}
            }
            let unreadable = |e: std::io::Error| {
                invalid(format!("must have templates that can be read as text, but `{name}` cannot be ({})", e.kind()))
            };
            std::fs::read_to_string(path).map(Some).map_err(unreadable)
        })
    }

    fn with(replaced: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, own) in OWN {
            let text = replaced(name)?.unwrap_or_else(|| own.to_owned());
            environment.add_template_owned(name, text).map_err(|e| broken(&e))?;
        }
        let templates = Self { environment };
        for kind in MailKind::ALL {
            for name in [Some("Ada"), None] {
                templates.texts(*kind, &sample(name)).map_err(|e| broken(&e))?;
            }
        }
        Ok(templates)
    }

    fn texts(&self, kind: MailKind, values: &minijinja::Value) -> Result<MailText, minijinja::Error> {
        let render = |part: &str| self.environment.get_template(&format!("{}.{part}", kind.as_str()))?.render(values);
        let html = render("html")?;
        Ok(MailText {
            subject: render("subject")?.trim().to_owned(),
            text: render("txt")?,
            html: (!html.trim().is_empty()).then_some(html),
        })
    }
}

impl MailTemplates for Templates {
    fn render(&self, content: &MailContent) -> Result<MailText, MailError> {
        let values = values(
            &content.shop_name,
            &content.public_url,
            (content.name.as_deref(), &content.email),
            (content.link.reveal(), content.token.reveal()),
            (content.expires_at, content.valid_minutes),
        );
        let failed = |e: minijinja::Error| MailError::permanent("a template of mails cannot be rendered").source(e);
        self.texts(content.kind, &values).map_err(failed)
    }
}

fn values(
    shop_name: &str,
    public_url: &str,
    (name, email): (Option<&str>, &str),
    (link, token): (&str, &str),
    (expires_at, valid_minutes): (DateTime<Utc>, u64),
) -> minijinja::Value {
    let expires_at = expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let valid_for = in_words(valid_minutes);
    context! { shop_name, public_url, name, email, link, token, expires_at, valid_minutes, valid_for }
}

/// Returns the values with which templates are checked.
fn sample(name: Option<&str>) -> minijinja::Value {
    let link = ("https://example.com/?token=x", "x");
    values("Shop", "https://example.com", (name, "ada@example.com"), link, (DateTime::UNIX_EPOCH, 60))
}

/// Returns a time in the largest unit of which it is a whole number.
fn in_words(minutes: u64) -> String {
    let (count, unit) = match minutes {
        0 => (1, "minute"),
        m if m % 1_440 == 0 => (m / 1_440, "day"),
        m if m % 60 == 0 => (m / 60, "hour"),
        m => (m, "minute"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn invalid(message: String) -> Error {
    Error::invalid("mail_templates", FieldCode::OutOfBounds, message)
}

/// Returns the error of a template, with its name, line and what is wrong.
fn broken(error: &minijinja::Error) -> Error {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("`{name}`, line {line}"),
        (Some(name), None) => format!("`{name}`"),
        _ => "a template".to_owned(),
    };
    let detail = error.detail().map(|detail| format!(", {detail}")).unwrap_or_default();
    invalid(format!("must have valid templates: {place}: {}{detail}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(templates: &Templates, kind: MailKind, name: Option<&str>) -> MailText {
        let link = ("https://shop.example/x?token=abc&y=1", "abc");
        let values =
            values("Tea & Co", "https://shop.example", (name, "ada@example.com"), link, (DateTime::UNIX_EPOCH, 4_320));
        templates.texts(kind, &values).unwrap()
    }

    #[test]
    fn every_kind_of_mail_has_templates() {
        let own = Templates::own().unwrap();
        for kind in MailKind::ALL {
            let mail = texts(&own, *kind, Some("<b>Ada</b>"));
            assert!(mail.subject.starts_with("Tea & Co: ") && !mail.subject.contains('\n'), "{}", mail.subject);
            assert!(mail.text.contains("\nhttps://shop.example/x?token=abc&y=1\n"), "{}", mail.text);
            assert!(mail.text.contains("within 3 days") && mail.text.starts_with("Hello <b>Ada</b>,"), "{}", mail.text);
            let html = mail.html.unwrap();
            assert!(html.contains("Hello &lt;b&gt;Ada&lt;&#x2f;b&gt;,"), "{html}");
            assert!(html.contains("Tea &amp; Co") && html.contains("token=abc&amp;y=1"), "{html}");
            assert!(texts(&own, *kind, None).text.starts_with("Hello,"));
        }
    }

    #[test]
    fn files_replace_templates_each_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("verify_email.subject", "Grüße von {{ shop_name }}\n");
        write("verify_email.html", "");
        let templates = Templates::from_directory(directory.path()).unwrap();
        let mail = texts(&templates, MailKind::VerifyEmail, None);
        assert_eq!((mail.subject.as_str(), mail.html), ("Grüße von Tea & Co", None));
        assert!(mail.text.contains("To verify that it is yours"));
        assert!(texts(&templates, MailKind::ResetPassword, None).html.is_some());
    }

    #[test]
    fn a_broken_template_is_refused_at_once() {
        for (text, reason) in [
            ("{{ shop_name", "`verify_email.txt`, line 1: syntax error"),
            ("\n{{ shopname }}", "`verify_email.txt`, line 2: undefined value"),
            ("{% include '/etc/passwd' %}", "`verify_email.txt`, line 1: template not found"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("verify_email.txt"), text).unwrap();
            let Err(Error::Validation(errors)) = Templates::from_directory(directory.path()) else {
                panic!("`{text}` must be refused")
            };
            assert_eq!(errors.0[0].field, "mail_templates");
            assert!(errors.0[0].message.contains(reason), "{}", errors.0[0].message);
        }
        assert!(Templates::from_directory(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_time_is_named_in_its_largest_unit() {
        assert_eq!(
            [1, 60, 90, 120, 1_440, 4_320].map(in_words),
            ["1 minute", "1 hour", "90 minutes", "2 hours", "1 day", "3 days"]
        );
    }
}
