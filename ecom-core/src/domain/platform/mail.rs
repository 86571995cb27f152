//! Mails: their kinds, the values for their templates, and the message that a mailer sends.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::access::secret::Secret;
use crate::domain::access::session::OneTimePurpose;
use crate::domain::sales::customer::check_email;
use crate::domain::sales::order::Totals;
use crate::domain::words::words;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::money::Money;

words! {
    /// A kind of mail, which has templates of its own.
    MailKind {
        /// Asks a user to prove that an email address is its own.
        VerifyEmail = "verify_email",
        /// Lets a user set a new password.
        ResetPassword = "reset_password",
        /// Tells the buyer of an order what was ordered.
        OrderConfirmation = "order_confirmation",
        /// Reminds a shopper of a cart that was not ordered.
        AbandonedCart = "abandoned_cart",
        /// Tells the shop which SKUs have become low.
        LowStock = "low_stock",
    }
}

impl MailKind {
    /// Returns the action that the token of the mail permits; `None` if the mail has no token.
    pub const fn purpose(self) -> Option<OneTimePurpose> {
        match self {
            Self::VerifyEmail => Some(OneTimePurpose::VerifyEmail),
            Self::ResetPassword => Some(OneTimePurpose::ResetPassword),
            Self::OrderConfirmation | Self::AbandonedCart | Self::LowStock => None,
        }
    }

    /// Returns the page of the storefront to which the link of the mail leads, below the public URL.
    pub const fn page(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify-email",
            Self::ResetPassword => "reset-password",
            Self::OrderConfirmation => "order",
            Self::AbandonedCart => "cart",
            Self::LowStock => "admin",
        }
    }
}

/// An email address with the name of its owner.
///
/// [`MailAddress::new`] replaces control characters by spaces, because a name could add headers to a mail with them.
///
/// ```
/// use ecom_core::platform::MailAddress;
///
/// let shop: MailAddress = "Tea Shop <shop@example.com>".parse()?;
/// assert_eq!((shop.name(), shop.address()), (Some("Tea Shop"), "shop@example.com"));
/// let ada = MailAddress::new("ada@example.com", Some("Ada\r\nBcc: eve@example.com"))?;
/// assert_eq!(ada.name(), Some("Ada Bcc: eve@example.com"));
/// # Ok::<(), ecom_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MailAddress {
    name: Option<String>,
    address: String,
}

impl MailAddress {
    /// Returns an address with the name of its owner. A name without visible characters counts as none.
    ///
    /// # Errors
    /// `Validation` on `email` if the address is not an email address.
    pub fn new(address: &str, name: Option<&str>) -> Result<Self> {
        let mut errors = ValidationErrors::default();
        check_email(address, &mut errors);
        errors.into_result()?;
        let name = name.map(one_line).filter(|name| !name.is_empty());
        Ok(Self { name, address: address.to_owned() })
    }

    /// Returns the sender of a shop that has not set one.
    pub(crate) fn unset() -> Self {
        Self { name: None, address: "shop@example.com".to_owned() }
    }

    /// Returns the name of the owner.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Reads `address` or `Name <address>`.
impl FromStr for MailAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some((name, address)) = text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) else {
            return Self::new(text, None);
        };
        let name = name.trim();
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        Self::new(address.trim(), Some(name))
    }
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// Returns a text on one line: each run of control characters and spaces becomes a space. The text `=?`, with which
/// encoded words begin (RFC 2047), is split, because mail programs would decode a word that the text itself contains.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").replace("=?", "= ?")
}

/// The values that the templates of a mail can use.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MailContent {
    /// The kind of the mail.
    pub kind: MailKind,
    /// The name of the shop.
    pub shop_name: String,
    /// The URL of the storefront, without a slash at its end.
    pub public_url: String,
    /// The name of the receiver; `None` if it is not known, or if somebody else may have typed it, such as a guest.
    /// HTML must escape it.
    pub name: Option<String>,
    /// The address to which the mail is sent.
    pub email: String,
    /// The link of the mail: a page of the storefront ([`MailKind::page`]). The query string has the token of the mail,
    /// or the id of the order or the cart.
    pub link: Secret,
    /// What the mail is about.
    pub about: MailAbout,
}

/// What a mail is about, by its kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum MailAbout {
    /// A token, of [`MailKind::VerifyEmail`] and [`MailKind::ResetPassword`].
    Token(MailToken),
    /// An order, of [`MailKind::OrderConfirmation`].
    Order(Box<MailOrder>),
    /// The goods in a cart, of [`MailKind::AbandonedCart`]. They have no prices, because prices can change before the
    /// mail is read.
    Cart(Vec<MailLine>),
    /// The SKUs of [`MailKind::LowStock`], at most [`MailLowStock::MOST`].
    LowStock(Vec<MailLowStock>),
}

/// The token of a mail.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MailToken {
    /// The token.
    pub token: Secret,
    /// When it expires.
    pub expires_at: Timestamp,
    /// How long it is valid, in minutes.
    pub valid_minutes: u64,
}

impl MailToken {
    /// Returns a token that is valid for this many minutes.
    pub const fn new(token: Secret, expires_at: Timestamp, valid_minutes: u64) -> Self {
        Self { token, expires_at, valid_minutes }
    }
}

/// The order of a mail, as it is when the mail is made. Lines and units that were canceled are left out.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MailOrder {
    /// The number of the order.
    pub number: String,
    /// When the order was placed.
    pub placed_at: Timestamp,
    /// The lines.
    pub lines: Vec<MailLine>,
    /// The amounts.
    pub totals: Totals,
}

/// A line of an order or of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailLine {
    /// The title of the product.
    pub title: String,
    /// The values of the SKU's options, such as `M, red`.
    pub options: String,
    /// The number of units.
    pub quantity: i64,
    /// The price of a unit; `None` in a cart.
    pub unit_price: Option<Money>,
}

impl MailLine {
    /// Returns a line.
    pub(crate) fn new(
        title: &str,
        options: &BTreeMap<String, String>,
        quantity: i64,
        unit_price: Option<Money>,
    ) -> Self {
        let options = options.values().map(String::as_str).collect::<Vec<_>>().join(", ");
        Self { title: title.to_owned(), options, quantity, unit_price }
    }
}

/// A SKU that is low.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailLowStock {
    /// The code of the SKU.
    pub code: String,
    /// The title of its product.
    pub title: String,
    /// The number of pieces that can be sold.
    pub available: i64,
    /// The low-stock threshold.
    pub threshold: i64,
}

impl MailLowStock {
    /// The maximum number of SKUs in a mail. If more become low at once, there are several mails.
    pub const MOST: usize = 100;
}

/// The texts of a mail, which templates have made.
#[derive(Clone, PartialEq, Eq)]
pub struct MailText {
    /// The subject.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML, for clients that show it.
    pub html: Option<String>,
}

/// Shows no text, because the texts contain tokens.
impl fmt::Debug for MailText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailText").finish_non_exhaustive()
    }
}

/// A message that a mailer sends. Its `Debug` shows no addresses and no texts.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailMessage {
    /// The id of the message, which is different in every attempt to send a mail.
    pub id: Uuid,
    /// The sender.
    pub from: MailAddress,
    /// The receiver.
    pub to: MailAddress,
    /// The subject, on one line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
    /// When the message was made.
    pub date: Timestamp,
}

impl MailMessage {
    /// The maximum length of a subject, in characters.
    pub const MAX_SUBJECT: usize = 255;
    /// The maximum length of each of the two texts, in bytes: 1 MiB.
    pub const MAX_TEXT: usize = 1_048_576;

    /// Returns a message. The subject becomes one line of at most [`Self::MAX_SUBJECT`] characters, so that it cannot
    /// add headers.
    ///
    /// # Errors
    /// `Validation` on `subject`, `text` or `html` if it is empty or too long.
    pub fn new(id: Uuid, from: MailAddress, to: MailAddress, text: MailText, date: Timestamp) -> Result<Self> {
        let subject: String = one_line(&text.subject).chars().take(Self::MAX_SUBJECT).collect();
        let mut errors = ValidationErrors::default();
        if subject.is_empty() {
            errors.push("subject", FieldCode::Required, "must not be empty");
        }
        for (field, text) in [("text", Some(&text.text)), ("html", text.html.as_ref())] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.len() > Self::MAX_TEXT {
                errors.out_of_bounds(field, format!("must have 1 to {} bytes, not only spaces", Self::MAX_TEXT));
            }
        }
        errors.into_result()?;
        Ok(Self { id, from, to, subject, text: text.text, html: text.html, date })
    }
}

impl fmt::Debug for MailMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailMessage").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str, text: &str, html: Option<&str>) -> Result<MailMessage> {
        let to = MailAddress::new("ada@example.com", Some("Ada")).unwrap();
        let text = MailText { subject: subject.to_owned(), text: text.to_owned(), html: html.map(str::to_owned) };
        MailMessage::new(Uuid::nil(), to.clone(), to, text, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn addresses_are_read_with_their_names() {
        let read = |text: &str| text.parse::<MailAddress>().map(|a| a.to_string()).map_err(|_| ());
        assert_eq!(read(" shop@example.com "), Ok("shop@example.com".to_owned()));
        assert_eq!(read("Zoë's Tea <shop@example.com>"), Ok("Zoë's Tea <shop@example.com>".to_owned()));
        assert_eq!(read("\"Tea, Ltd.\" <shop@example.com>"), Ok("Tea, Ltd. <shop@example.com>".to_owned()));
        assert_eq!(read("<shop@example.com>"), Ok("shop@example.com".to_owned()));
        for bad in ["", "shop", "Shop <shop>", "Shop <shop@example.com", "a@example.com\r\nBcc: b@example.com"] {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn neither_a_name_nor_a_subject_adds_a_header() {
        let name = MailAddress::new("ada@example.com", Some("\r\nBcc:\u{0} eve@example.com\u{85}\u{2028}")).unwrap();
        assert_eq!(name.name(), Some("Bcc: eve@example.com"));
        assert_eq!(MailAddress::new("ada@example.com", Some(" \r\n")).unwrap().name(), None);
        let mail = mail("Hello\r\nBcc: eve@example.com\n=?utf-8?q?=0D?=", "x", None).unwrap();
        assert_eq!(mail.subject, "Hello Bcc: eve@example.com = ?utf-8?q?=0D?=");
    }

    #[test]
    fn a_mail_without_a_text_is_refused() {
        assert!(mail("x", "y", Some("<p>y")).is_ok());
        let long = "x".repeat(MailMessage::MAX_TEXT + 1);
        for (subject, text, html) in [(" \n", "y", None), ("x", "", None), ("x", "y", Some(" ")), ("x", &long, None)] {
            assert!(mail(subject, text, html).is_err());
        }
        assert_eq!(mail(&"ä".repeat(300), "y", None).unwrap().subject.chars().count(), MailMessage::MAX_SUBJECT);
    }

    #[test]
    fn nothing_of_a_mail_is_shown_in_logs() {
        let mail = mail("Hello", "https://example.com/?token=secret", None).unwrap();
        assert_eq!(format!("{mail:?}"), "MailMessage { id: 00000000-0000-0000-0000-000000000000, .. }");
    }
}
