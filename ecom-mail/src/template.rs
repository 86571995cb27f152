//! The templates of mails.

use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use ecom_core::money::Money;
use ecom_core::platform::{MailAbout, MailContent, MailKind, MailLine, MailLowStock, MailOrder, MailText};
use ecom_core::port::{MailError, MailTemplates};
use ecom_core::{Error, FieldCode, Result};
use minijinja::{Environment, UndefinedBehavior, Value, context};

/// The templates of this crate, by the names of their files.
const OWN: [(&str, &str); 15] = [
    ("verify_email.subject", include_str!("../templates/verify_email.subject")),
    ("verify_email.txt", include_str!("../templates/verify_email.txt")),
    ("verify_email.html", include_str!("../templates/verify_email.html")),
    ("reset_password.subject", include_str!("../templates/reset_password.subject")),
    ("reset_password.txt", include_str!("../templates/reset_password.txt")),
    ("reset_password.html", include_str!("../templates/reset_password.html")),
    ("order_confirmation.subject", include_str!("../templates/order_confirmation.subject")),
    ("order_confirmation.txt", include_str!("../templates/order_confirmation.txt")),
    ("order_confirmation.html", include_str!("../templates/order_confirmation.html")),
    ("abandoned_cart.subject", include_str!("../templates/abandoned_cart.subject")),
    ("abandoned_cart.txt", include_str!("../templates/abandoned_cart.txt")),
    ("abandoned_cart.html", include_str!("../templates/abandoned_cart.html")),
    ("low_stock.subject", include_str!("../templates/low_stock.subject")),
    ("low_stock.txt", include_str!("../templates/low_stock.txt")),
    ("low_stock.html", include_str!("../templates/low_stock.html")),
];

/// The largest template, in bytes.
const MAX_TEMPLATE: u64 = 1_048_576;

/// Templates of mails, in the language of Jinja.
///
/// Each kind of mail ([`MailKind`]) has three: `<kind>.subject`, `<kind>.txt` and `<kind>.html`. Files of these names
/// in a directory replace those of this crate, each by itself; an empty `<kind>.html` makes mails without HTML.
/// Templates whose names end in `.html` escape what they show.
///
/// | Variable | In | Meaning |
/// |---|---|---|
/// | `shop_name` | all mails | the name of the shop |
/// | `public_url` | all mails | the URL of the storefront, without a slash at its end |
/// | `name` | all mails | the name of the receiver; none if it is not known |
/// | `email` | all mails | the address to which the mail is sent |
/// | `link` | all mails | a page of the storefront: `<public_url>/verify-email?token=…`, `<public_url>/reset-password?token=…`, `<public_url>/order?id=…`, `<public_url>/cart?id=…`, `<public_url>/admin` |
/// | `token` | `verify_email`, `reset_password` | the token, for a link of your own |
/// | `expires_at` | the same | when the token expires (RFC 3339, UTC) |
/// | `valid_minutes` | the same | how long it is valid, in minutes |
/// | `valid_for` | the same | the same in words, such as `3 days` |
/// | `number` | `order_confirmation` | the number of the order |
/// | `placed_at` | the same | when the order was placed (RFC 3339, UTC) |
/// | `currency` | the same | the currency of the amounts (ISO 4217) |
/// | `subtotal`, `shipping`, `discount`, `tax`, `total` | the same | the amounts of the order, such as `9.90`; `tax` is that which is added to the prices |
/// | `lines` | the same, `abandoned_cart` | the lines, each with `title`, `options` (such as `M, red`, or an empty text), `quantity` and, in an order, `unit_price` |
/// | `skus` | `low_stock` | the SKUs that are low, each with `code`, `title`, `available` and `threshold` |
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
                templates.texts(*kind, &sample(*kind, name)).map_err(|e| broken(&e))?;
            }
        }
        Ok(templates)
    }

    fn texts(&self, kind: MailKind, values: &Value) -> Result<MailText, minijinja::Error> {
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
        let about = match &content.about {
            MailAbout::Token(token) => of_token(token.token.reveal(), token.expires_at, token.valid_minutes),
            MailAbout::Order(order) => of_order(order),
            MailAbout::Cart(lines) => of_cart(lines),
            MailAbout::LowStock(skus) => of_low_stock(skus),
            _ => return Err(MailError::permanent("these templates do not know what the mail is about")),
        };
        let (name, email) = (content.name.as_deref(), content.email.as_str());
        let values = values(&content.shop_name, &content.public_url, (name, email), content.link.reveal(), about);
        let failed = |e: minijinja::Error| MailError::permanent("a template of mails cannot be rendered").source(e);
        self.texts(content.kind, &values).map_err(failed)
    }
}

/// Returns the values of all mails, with those of what a mail is about.
fn values(shop_name: &str, public_url: &str, (name, email): (Option<&str>, &str), link: &str, about: Value) -> Value {
    context! { shop_name, public_url, name, email, link, ..about }
}

fn of_token(token: &str, expires_at: DateTime<Utc>, valid_minutes: u64) -> Value {
    context! { token, expires_at => time(expires_at), valid_minutes, valid_for => in_words(valid_minutes) }
}

fn of_order(order: &MailOrder) -> Value {
    let amount = |money: Money| money.amount().to_string();
    let totals = &order.totals;
    context! {
        number => order.number.as_str(),
        placed_at => time(order.placed_at),
        currency => totals.total.currency().code(),
        subtotal => amount(totals.subtotal),
        shipping => amount(totals.shipping),
        discount => amount(totals.discount),
        tax => amount(totals.tax_added),
        total => amount(totals.total),
        lines => lines(&order.lines),
    }
}

fn of_cart(of: &[MailLine]) -> Value {
    context! { lines => lines(of) }
}

fn lines(lines: &[MailLine]) -> Vec<Value> {
    let line = |line: &MailLine| match line.unit_price {
        Some(price) => line_of(&line.title, &line.options, line.quantity, Some(price.amount().to_string())),
        None => line_of(&line.title, &line.options, line.quantity, None),
    };
    lines.iter().map(line).collect()
}

fn line_of(title: &str, options: &str, quantity: i64, unit_price: Option<String>) -> Value {
    context! { title, options, quantity, unit_price }
}

fn of_low_stock(skus: &[MailLowStock]) -> Value {
    let skus: Vec<Value> = skus.iter().map(|sku| sku_of(&sku.code, &sku.title, sku.available, sku.threshold)).collect();
    context! { skus }
}

fn sku_of(code: &str, title: &str, available: i64, threshold: i64) -> Value {
    context! { code, title, available, threshold }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns the values with which templates are checked.
fn sample(kind: MailKind, name: Option<&str>) -> Value {
    let options = |n: i64| if n == 1 { "M, red" } else { "" };
    let about = match kind {
        MailKind::VerifyEmail | MailKind::ResetPassword => of_token("x", DateTime::UNIX_EPOCH, 60),
        MailKind::OrderConfirmation => {
            let lines: Vec<Value> =
                [1, 2].into_iter().map(|n| line_of("Tea", options(n), n, Some("1.00".to_owned()))).collect();
            let placed_at = time(DateTime::UNIX_EPOCH);
            context! {
                number => "ORD-2026-000001", placed_at, currency => "USD", subtotal => "3.00", shipping => "0.00",
                discount => "1.00", tax => "0.00", total => "2.00", lines,
            }
        }
        MailKind::AbandonedCart => {
            let lines: Vec<Value> = [1, 2].into_iter().map(|n| line_of("Tea", options(n), n, None)).collect();
            context! { lines }
        }
        MailKind::LowStock => context! { skus => vec![sku_of("TEA-1", "Tea", 2, 5), sku_of("TEA-2", "Tea", 0, 5)] },
    };
    let link = if matches!(kind, MailKind::VerifyEmail | MailKind::ResetPassword) { "?token=x" } else { "" };
    values("Shop", "https://example.com", (name, "ada@example.com"), &format!("https://example.com/{link}"), about)
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

    const WITH_TOKEN: [MailKind; 2] = [MailKind::VerifyEmail, MailKind::ResetPassword];

    fn texts(templates: &Templates, kind: MailKind, name: Option<&str>) -> MailText {
        let link = "https://shop.example/x?token=abc&y=1";
        let about = of_token("abc", DateTime::UNIX_EPOCH, 4_320);
        let values = values("Tea & Co", "https://shop.example", (name, "ada@example.com"), link, about);
        templates.texts(kind, &values).unwrap()
    }

    /// Returns the mail that confirms an order, reminds of a cart, or names SKUs that are low.
    fn about(kind: MailKind, about: Value) -> MailText {
        let link = "https://shop.example/x?id=1";
        let values = values("Tea & Co", "https://shop.example", (None, "ada@example.com"), link, about);
        Templates::own().unwrap().texts(kind, &values).unwrap()
    }

    #[test]
    fn an_order_a_cart_and_low_stock_are_shown_and_escaped() {
        let lines = || vec![line_of("<b>Pen</b>", "M, red", 2, Some("1.50".to_owned())), line_of("Ink", "", 1, None)];
        let order = context! {
            number => "ORD-2026-000007", placed_at => time(DateTime::UNIX_EPOCH), currency => "USD", subtotal => "4.00",
            shipping => "0.00", discount => "0.50", tax => "0.00", total => "3.50", lines => lines(),
        };
        let mail = about(MailKind::OrderConfirmation, order);
        assert_eq!(mail.subject, "Tea & Co: your order ORD-2026-000007");
        for shown in ["2 × <b>Pen</b> (M, red), 1.50 USD each", "1 × Ink", "Discount: 0.50 USD", "Total: 3.50 USD"] {
            assert!(mail.text.contains(shown), "{shown}: {}", mail.text);
        }
        assert!(!mail.text.contains("Shipping") && !mail.text.contains("Tax"), "{}", mail.text);
        let html = mail.html.unwrap();
        assert!(html.contains("&lt;b&gt;Pen&lt;&#x2f;b&gt;") && html.contains("Tea &amp; Co"), "{html}");

        let mail = about(MailKind::AbandonedCart, context! { lines => lines() });
        assert!(mail.text.contains("2 × <b>Pen</b> (M, red)\n") && mail.text.contains("/x?id=1"), "{}", mail.text);
        assert!(!mail.text.contains("1.50"), "{}", mail.text);

        let skus = context! { skus => vec![sku_of("PEN-1", "Pen", 2, 5), sku_of("INK", "Ink", 0, 5)] };
        let mail = about(MailKind::LowStock, skus);
        assert_eq!(mail.subject, "Tea & Co: low stock (2)");
        assert!(mail.text.contains("PEN-1, Pen: 2 available (threshold 5)\n"), "{}", mail.text);
    }

    #[test]
    fn every_kind_of_mail_has_templates() {
        let own = Templates::own().unwrap();
        for kind in &WITH_TOKEN {
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
