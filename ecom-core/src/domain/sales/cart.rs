//! Shopping carts and their lines, and carts with the current prices.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::domain::access::policy::Reach;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::secret::SecretHash;
use crate::domain::catalog::category::check_external;
use crate::domain::common::{Attributes, Audit, ExternalRef, Patch};
use crate::domain::platform::idempotency::AnswerSubject;
use crate::domain::sales::customer::{MAX_EMAIL, check_email};
use crate::domain::sales::offer::Offer;
use crate::domain::sales::pricing::within_limit;
use crate::domain::words::words;
use crate::error::{Entity, Error, FieldCode, Result, SalesConflict, ValidationErrors};
use crate::id::{CartId, CartLineId, CustomerId, ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Money};
use crate::text::check_text;

/// A shopping cart. It holds no stock, and the only prices that it stores are those that the shopper last confirmed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cart {
    /// The id of the cart.
    pub id: CartId,
    /// The hash of the token that opens a guest's cart; `None` for a customer's cart.
    #[serde(skip)]
    pub token_hash: Option<SecretHash>,
    /// The customer whom the cart belongs to; `None` for a guest's cart.
    pub customer_id: Option<CustomerId>,
    /// The email address of the shopper, at most 254 characters.
    pub email: Option<String>,
    /// The currency of the shop when the cart was created.
    pub currency: Currency,
    /// Whether the cart is open, ordered or merged.
    pub state: CartState,
    /// The cart that this one was merged into, if it was.
    pub merged_into: Option<CartId>,
    /// When the cart expires, unless it is changed before.
    pub expires_at: Timestamp,
    /// Free attributes.
    pub attributes: Attributes,
    /// The record that the cart was imported from.
    pub external: Option<ExternalRef>,
    /// When and by whom the cart was created and edited, and its version, which increases with every change of a line.
    pub audit: Audit,
    /// The lines, oldest first.
    pub lines: Vec<CartLine>,
}

impl Cart {
    /// The maximum number of lines of a cart.
    pub const MAX_LINES: usize = 500;

    /// Returns true if the cart is open and its time is over, so that it can no longer be changed or ordered.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.state == CartState::Open && self.expires_at <= now
    }

    /// Returns true if the token opens this cart. The comparison takes the same time for every wrong token.
    pub fn is_opened_by(&self, token: &CartToken) -> bool {
        self.token_hash.as_ref().is_some_and(|hash| *hash == token.hash())
    }

    /// Returns whose personal data the cart contains, for the answers that are stored with idempotency keys.
    pub fn subject(&self) -> AnswerSubject {
        self.customer_id.map_or(AnswerSubject::Guest(self.id.0), AnswerSubject::Customer)
    }

    /// Refuses a cart that can no longer be changed.
    ///
    /// # Errors
    /// `CART_EXPIRED`, `CART_ORDERED`, `CART_MERGED`.
    pub(crate) fn check_open(&self, now: Timestamp) -> Result<()> {
        let cart = self.id.0;
        let conflict = match (self.state, self.merged_into) {
            (CartState::Open, _) if self.is_expired(now) => SalesConflict::CartExpired { cart },
            (CartState::Open, _) => return Ok(()),
            (CartState::Merged, Some(into)) => SalesConflict::CartMerged { cart, into: into.0 },
            (CartState::Merged, None) | (CartState::Ordered, _) => SalesConflict::CartOrdered { cart },
        };
        Err(conflict.into())
    }

    /// Takes over the lines of another cart (R20). Of equal lines, which have the same SKU and the same attributes, the
    /// greater quantity stays, so that a repeated merge changes nothing. `next_id` makes the id of a line that is
    /// added.
    pub(crate) fn take_lines(&mut self, from: &[CartLine], mut next_id: impl FnMut() -> CartLineId) {
        let mut places: HashMap<(SkuId, String), usize> =
            self.lines.iter().enumerate().map(|(i, l)| (l.item(), i)).collect();
        for line in from {
            if let Some(i) = places.get(&line.item()) {
                let own = &mut self.lines[*i];
                own.quantity = own.quantity.max(line.quantity);
            } else {
                places.insert(line.item(), self.lines.len());
                self.lines.push(CartLine { id: next_id(), ..line.clone() });
            }
        }
    }
}

/// A line of a cart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CartLine {
    /// The id of the line.
    pub id: CartLineId,
    /// The SKU.
    pub sku_id: SkuId,
    /// Free attributes, such as an engraving. Lines of one SKU with different attributes are different lines.
    pub attributes: Attributes,
    /// The number of pieces, 1–1,000,000.
    pub quantity: i64,
    /// The unit price that the shopper last confirmed.
    pub seen_price: Money,
}

impl CartLine {
    /// The maximum number of pieces of a line.
    pub const MAX_QUANTITY: i64 = 1_000_000;

    /// Returns a hash of the attributes. Lines of one SKU are equal if their hashes are.
    pub fn attributes_key(&self) -> String {
        attributes_key(&self.attributes)
    }

    /// Returns the SKU and the hash of the attributes. Two lines are equal if these are.
    pub(crate) fn item(&self) -> (SkuId, String) {
        (self.sku_id, self.attributes_key())
    }
}

/// Returns the SHA-256 of attributes, in hexadecimal digits. It does not depend on the order of their names.
pub(crate) fn attributes_key(attributes: &Attributes) -> String {
    fn write(value: &Value, to: &mut String) {
        match value {
            Value::Object(fields) => object(fields, to),
            Value::Array(items) => {
                to.push('[');
                for item in items {
                    write(item, to);
                    to.push(',');
                }
                to.push(']');
            }
            scalar => to.push_str(&scalar.to_string()),
        }
    }
    fn object(fields: &serde_json::Map<String, Value>, to: &mut String) {
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| name.as_str());
        to.push('{');
        for (name, value) in sorted {
            to.push_str(&Value::from(name.as_str()).to_string());
            to.push(':');
            write(value, to);
            to.push(',');
        }
        to.push('}');
    }
    let mut text = String::new();
    object(&attributes.0, &mut text);
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

words! {
    /// Whether a cart can still be changed.
    CartState {
        /// The cart can be changed, ordered and merged.
        Open = "open",
        /// An order was placed from the cart, and the cart does not change any more.
        Ordered = "ordered",
        /// The lines of the cart went into another cart.
        Merged = "merged",
    }
}

/// The secret that opens a guest's cart. The library returns it once, when it creates the cart, and stores its hash.
/// `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct CartToken(String);

impl CartToken {
    /// Returns the token with these random bytes.
    pub(crate) fn from_random(bytes: [u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns the token that a caller has sent. Every text is accepted: one that is not the token of a cart opens
    /// none.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text of the token, which must not appear in logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the hash that is stored.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for CartToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CartToken(…)")
    }
}

/// The right by which a caller uses a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CartAccess {
    /// The token of a guest's cart. It needs no permission. If it does not open the cart, the call fails with
    /// `NotFound`.
    Token(CartToken),
    /// The permission of the principal: `carts:read` for reads and `carts:write` for changes. A customer needs none for
    /// its own carts.
    Permission,
}

impl CartAccess {
    /// Returns the right of a principal. A token needs no permission.
    ///
    /// # Errors
    /// `Forbidden`, `Unauthenticated`.
    pub(crate) fn of(&self, who: &Principal, permission: Permission) -> Result<CartEntry> {
        Ok(match self {
            Self::Token(token) => CartEntry::Token(token.clone()),
            Self::Permission => CartEntry::Reach(who.reach(permission)?),
        })
    }
}

/// The right by which a caller uses a cart, with its permission checked.
#[derive(Debug, Clone)]
pub(crate) enum CartEntry {
    Token(CartToken),
    Reach(Reach),
}

impl CartEntry {
    /// Returns the cart that was found, if the caller may see it. A caller who may not does not learn that it exists.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn check(&self, id: CartId, found: Option<Cart>) -> Result<Cart> {
        found
            .filter(|cart| match self {
                Self::Token(token) => cart.is_opened_by(token),
                Self::Reach(reach) => reach.covers(cart.customer_id),
            })
            .ok_or_else(|| Error::not_found(Entity::Cart, id))
    }
}

impl From<CartToken> for CartAccess {
    fn from(token: CartToken) -> Self {
        Self::Token(token)
    }
}

/// The filter of a list of carts, which is sorted by time of creation, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CartFilter {
    /// The carts of this customer.
    pub customer: Option<CustomerId>,
    /// The carts in this state. Carts that have expired are open until they are removed.
    pub state: Option<CartState>,
    /// The carts with this email, ignoring case.
    pub email: Option<String>,
}

impl CartFilter {
    /// Refuses an email that no cart can have.
    ///
    /// # Errors
    /// `Validation` on field `email`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if let Some(email) = &self.email {
            check_text("email", email, 1, MAX_EMAIL, &mut errors);
        }
        errors.into_result()
    }
}

/// A cart to create.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CartInput {
    /// The customer whom the cart belongs to, which requires `carts:write`. Without a customer, the cart is a guest's.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The email address of the shopper, at most 254 characters.
    #[cfg_attr(feature = "openapi", schema(max_length = 254, format = "email", example = "ada@example.com"))]
    #[serde(default)]
    pub email: Option<String>,
    /// The lines, at most 500. The quantities of equal lines in this input are added. If the customer already has an
    /// open cart, the lines are merged into it, and the greater quantity of equal lines stays (R20).
    #[cfg_attr(feature = "openapi", schema(max_items = 500))]
    #[serde(default)]
    #[setters(skip)]
    pub lines: Vec<CartLineInput>,
    /// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The system that the cart was imported from, 1–100 characters; requires `external_id`, and `carts:write`.
    #[serde(default)]
    pub source: Option<String>,
    /// The id of the cart in that system, 1–255 characters; requires `source`. No other cart has the same `source` and
    /// `external_id`.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl CartInput {
    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: CartLineInput) -> Self {
        self.lines.push(line);
        self
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Checks the input, and returns its email as it is stored.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<Option<String>> {
        let mut e = ValidationErrors::default();
        let email = checked_email(self.email.as_deref(), &mut e);
        self.attributes.check("attributes", &mut e);
        check_external("", self.source.as_deref(), self.external_id.as_deref(), &mut e);
        if self.lines.len() > Cart::MAX_LINES {
            e.out_of_bounds("lines", format!("must have at most {} lines", Cart::MAX_LINES));
        } else {
            for (i, line) in self.lines.iter().enumerate() {
                line.check(&format!("lines[{i}]."), &mut e);
            }
        }
        e.into_result()?;
        Ok(email)
    }
}

fn checked_email(email: Option<&str>, errors: &mut ValidationErrors) -> Option<String> {
    let email = email.map(str::trim)?;
    check_email(email, errors);
    Some(email.to_owned())
}

/// A line to add to a cart. It names its SKU by `sku_id` or by `sku`.
#[derive(Debug, Clone, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CartLineInput {
    /// The SKU, which must be live and of an active product.
    #[serde(default)]
    pub sku_id: Option<SkuId>,
    /// The code of the SKU, ignoring case, if `sku_id` is absent.
    #[serde(default)]
    pub sku: Option<String>,
    /// The number of pieces, 1–1,000,000. When a line is added to a cart, they are added to an equal line, which has
    /// the same SKU and attributes.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000, example = 2))]
    #[setters(skip)]
    pub quantity: i64,
    /// The unit price that the shopper sees, in the shop's currency. It must be the current one.
    #[setters(skip)]
    pub unit_price: ExactDecimal,
    /// Free attributes, such as an engraving: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if
    /// absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
}

impl CartLineInput {
    /// Returns a line of `quantity` pieces of a SKU at the price that the shopper sees.
    pub fn new(sku: SkuId, quantity: i64, unit_price: Money) -> Self {
        Self {
            sku_id: Some(sku),
            sku: None,
            quantity,
            unit_price: unit_price.amount().into(),
            attributes: Attributes::default(),
        }
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Pushes an error for each field that is out of bounds. `prefix` (`lines[0].` or empty) precedes the field.
    pub(crate) fn check(&self, prefix: &str, errors: &mut ValidationErrors) {
        match (&self.sku_id, &self.sku) {
            (Some(_), None) => {}
            (None, Some(code)) => check_text(&format!("{prefix}sku"), code, 1, 100, errors),
            (None, None) => {
                errors.push(format!("{prefix}sku_id"), FieldCode::Required, "is required, or send the code in `sku`");
            }
            (Some(_), Some(_)) => {
                let message = "must be absent if `sku_id` names the SKU";
                errors.push(format!("{prefix}sku"), FieldCode::Inconsistent, message);
            }
        }
        check_quantity(self.quantity, prefix, errors);
        self.attributes.check(&format!("{prefix}attributes"), errors);
    }
}

fn check_quantity(quantity: i64, prefix: &str, errors: &mut ValidationErrors) {
    if !(1..=CartLine::MAX_QUANTITY).contains(&quantity) {
        let message = format!("must be between 1 and {}", CartLine::MAX_QUANTITY);
        errors.out_of_bounds(format!("{prefix}quantity"), message);
    }
}

/// A change of a line of a cart. A field that it leaves out stays unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CartLinePatch {
    /// The new number of pieces, 1–1,000,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    #[serde(default)]
    pub quantity: Option<i64>,
    /// The unit price that the shopper sees and confirms, in the shop's currency. It must be the current one.
    #[serde(default)]
    pub unit_price: Option<ExactDecimal>,
    /// The version of the cart that the client read (R1). If it is absent, the version is not checked.
    #[serde(default)]
    pub version: Option<i64>,
}

impl CartLinePatch {
    /// Returns a change of the quantity.
    pub fn quantity(quantity: i64) -> Self {
        Self { quantity: Some(quantity), ..Self::default() }
    }

    /// Returns a confirmation of a unit price.
    pub fn confirm(unit_price: Money) -> Self {
        Self { unit_price: Some(unit_price.amount().into()), ..Self::default() }
    }

    /// Checks the change.
    ///
    /// # Errors
    /// `Validation` on field `quantity`.
    pub(crate) fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if let Some(quantity) = self.quantity {
            check_quantity(quantity, "", &mut errors);
        }
        errors.into_result()
    }
}

/// A merge patch of a cart (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CartPatch {
    /// The email address of the shopper, at most 254 characters; null removes it.
    #[serde(default)]
    pub email: Patch<String>,
    /// Changes of the attributes, merged into the existing ones (RFC 7396); null removes all of them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The version of the cart that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl CartPatch {
    /// Merges the patch into a cart.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn apply(self, cart: &mut Cart) -> Result<()> {
        let mut e = ValidationErrors::default();
        let mut email = cart.email.take();
        self.email.apply(&mut email);
        cart.email = checked_email(email.as_deref(), &mut e);
        self.attributes.merge_into(&mut cart.attributes);
        cart.attributes.check("attributes", &mut e);
        e.into_result()
    }
}

/// A cart with the prices and the stock of the moment at which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedCart {
    /// The cart.
    pub cart: Cart,
    /// The lines of the cart, in its order.
    pub lines: Vec<PricedLine>,
    /// The sum of the lines that can be sold; `None` if it is above [`MAX_AMOUNT`](crate::sales::MAX_AMOUNT).
    pub subtotal: Option<Money>,
}

/// A line of a cart with the price and the stock of the moment at which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedLine {
    /// The line.
    pub line: CartLine,
    /// The product of the SKU.
    pub product_id: ProductId,
    /// The code of the SKU.
    pub code: String,
    /// The title of the product.
    pub title: String,
    /// The values of the SKU's options.
    pub option_values: BTreeMap<String, String>,
    /// The current unit price (R21). If the line is unavailable, it is the price that the shopper last confirmed,
    /// because the prices of drafts are not public.
    pub unit_price: Money,
    /// The quantity times the unit price; `None` if it is above [`MAX_AMOUNT`](crate::sales::MAX_AMOUNT).
    pub line_total: Option<Money>,
    /// How many pieces of the SKU can be sold: 0 if the line is unavailable, `None` if the stock of the SKU is not
    /// tracked.
    pub available: Option<i64>,
    /// True if the unit price is not the one that the shopper last confirmed.
    pub price_changed: bool,
    /// True if the SKU cannot be sold any more: it or its product was deleted, or the product is not active.
    pub unavailable: bool,
    /// True if the lines of this SKU have more pieces, in sum, than can be sold. False if the line is unavailable.
    pub insufficient_stock: bool,
}

/// Returns `quantity × unit_price`, or `None` if it is above [`MAX_AMOUNT`](crate::sales::MAX_AMOUNT).
pub(crate) fn line_total(quantity: i64, unit_price: Money) -> Option<Money> {
    amount(i128::from(quantity) * i128::from(unit_price.minor()), unit_price.currency())
}

/// Returns an amount, or `None` if it is above [`MAX_AMOUNT`](crate::sales::MAX_AMOUNT).
fn amount(minor: i128, currency: Currency) -> Option<Money> {
    within_limit(minor).map(|minor| Money::from_minor(minor, currency))
}

impl PricedCart {
    /// Prices a cart with the offers of its SKUs. A line whose SKU has no offer was removed together with the SKU.
    pub(crate) fn new(cart: Cart, offers: &HashMap<SkuId, Offer>) -> Self {
        let mut wanted: HashMap<SkuId, i128> = HashMap::new();
        for line in &cart.lines {
            *wanted.entry(line.sku_id).or_default() += i128::from(line.quantity);
        }
        let lines: Vec<PricedLine> = cart
            .lines
            .iter()
            .filter_map(|line| {
                let offer = offers.get(&line.sku_id)?;
                let is_for_sale = offer.is_for_sale();
                let unit_price = if is_for_sale { offer.unit_price() } else { line.seen_price };
                let available = if is_for_sale { offer.available() } else { Some(0) };
                let short = is_for_sale && available.is_some_and(|a| i128::from(a) < wanted[&line.sku_id]);
                Some(PricedLine {
                    line: line.clone(),
                    product_id: offer.product_id,
                    code: offer.code.clone(),
                    title: offer.title.clone(),
                    option_values: offer.option_values.clone(),
                    unit_price,
                    line_total: line_total(line.quantity, unit_price),
                    available,
                    price_changed: unit_price != line.seen_price,
                    unavailable: !is_for_sale,
                    insufficient_stock: short,
                })
            })
            .collect();
        let sum = lines
            .iter()
            .filter(|l| !l.unavailable)
            .map(|l| i128::from(l.line.quantity) * i128::from(l.unit_price.minor()))
            .sum();
        let subtotal = amount(sum, cart.currency);
        Self { cart, lines, subtotal }
    }
}

/// A cart that was created, or the open cart that the customer had already.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedCart {
    /// The cart.
    pub cart: PricedCart,
    /// The token of a guest's cart, which is not stored and cannot be read again; `None` for a customer's cart.
    pub token: Option<CartToken>,
    /// False if the customer had an open cart.
    pub created: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::common::Actor;
    use crate::domain::sales::pricing::MAX_AMOUNT;

    fn line(sku: u128, quantity: i64, attributes: Value) -> CartLine {
        CartLine {
            id: CartLineId(Uuid::from_u128(sku)),
            sku_id: SkuId(Uuid::from_u128(sku)),
            attributes: serde_json::from_value(attributes).unwrap(),
            quantity,
            seen_price: Money::from_minor(100, Currency::USD),
        }
    }

    fn cart(lines: Vec<CartLine>) -> Cart {
        Cart {
            id: CartId(Uuid::from_u128(1)),
            token_hash: None,
            customer_id: None,
            email: None,
            currency: Currency::USD,
            state: CartState::Open,
            merged_into: None,
            expires_at: chrono::DateTime::UNIX_EPOCH,
            attributes: Attributes::default(),
            external: None,
            audit: Audit::created(chrono::DateTime::UNIX_EPOCH, &Actor::system()),
            lines,
        }
    }

    #[test]
    fn the_key_of_attributes_depends_on_their_values_alone() {
        let key = |text: &str| attributes_key(&serde_json::from_str(text).unwrap());
        assert_eq!(key(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#), key(r#"{"b":{"d":null,"c":[1,2]},"a":1}"#));
        let different = [r"{}", r#"{"a":1}"#, r#"{"a":"1"}"#, r#"{"a":[1]}"#, r#"{"a":[[1]]}"#, r#"{"a":{"1":1}}"#];
        let keys: std::collections::HashSet<String> = different.iter().map(|t| key(t)).collect();
        assert_eq!(keys.len(), different.len());
        assert!(keys.iter().all(|k| k.len() == 64));
    }

    #[test]
    fn r20_equal_lines_take_the_greater_quantity() {
        let mut into = cart(vec![line(1, 2, json!({})), line(2, 5, json!({"engraving": "A"}))]);
        let from = [line(1, 3, json!({})), line(2, 1, json!({"engraving": "A"})), line(2, 1, json!({}))];
        let mut ids = 10..;
        let mut next = || CartLineId(Uuid::from_u128(ids.next().unwrap()));
        into.take_lines(&from, &mut next);
        let once = into.clone();
        assert_eq!(into.lines.iter().map(|l| l.quantity).collect::<Vec<_>>(), [3, 5, 1]);
        into.take_lines(&from, &mut next);
        assert_eq!(into, once);
    }

    #[test]
    fn amounts_are_computed_in_128_bits_and_have_a_limit() {
        let price = |minor| Money::from_minor(minor, Currency::USD);
        assert_eq!(line_total(3, price(333)), Some(price(999)));
        assert_eq!(line_total(1_000_000, price(1_000_000_000)), Some(price(MAX_AMOUNT)));
        assert_eq!(line_total(1_000_000, price(1_000_000_001)), None);
        assert_eq!(line_total(1_000_000, price(i64::MAX)), None);
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = CartToken::from_random([7; 32]);
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(format!("{token:?} {:?}", token.hash()), "CartToken(…) SecretHash(…)");
        let guest = Cart { token_hash: Some(token.hash()), ..cart(Vec::new()) };
        assert!(guest.is_opened_by(&token) && !guest.is_opened_by(&CartToken::new("x")));
        assert!(!cart(Vec::new()).is_opened_by(&token));
    }
}
