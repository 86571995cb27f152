//! Values of query parameters.

use ecom_core::money::{Currency, Money, check_price_order, price_of};
use ecom_core::{FieldCode, Result, ValidationErrors};
use serde::{Deserialize, Deserializer};

/// Deserializes a parameter for which an empty value (`cursor=`) differs from an absent one.
pub(crate) fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    String::deserialize(d).map(Some)
}

/// Returns the value for a word. For an unknown word, it pushes an error that lists the known ones.
pub(crate) fn word<T: Copy>(
    field: &str,
    sent: Option<&str>,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    errors: &mut ValidationErrors,
) -> Option<T> {
    let sent = sent?;
    let found = all.iter().copied().find(|v| name(*v) == sent);
    if found.is_none() {
        let names: Vec<&str> = all.iter().map(|v| name(*v)).collect();
        errors.push(field, FieldCode::Malformed, format!("must be one of {}", names.join(", ")));
    }
    found
}

/// Returns an exact price in the shop's currency, or pushes an error and returns `None`.
fn price(field: &str, sent: Option<&str>, currency: Currency, errors: &mut ValidationErrors) -> Option<Money> {
    match sent?.parse() {
        Ok(d) => price_of(d, currency, field, errors),
        Err(why) => {
            errors.push(field, FieldCode::Malformed, why.to_string());
            None
        }
    }
}

/// Returns the bounds of a price filter. Pushes an error for each bound that is invalid.
pub(crate) fn prices(
    min: Option<&str>,
    max: Option<&str>,
    currency: Currency,
    errors: &mut ValidationErrors,
) -> (Option<Money>, Option<Money>) {
    let min = price("min_price", min, currency, errors);
    let max = price("max_price", max, currency, errors);
    check_price_order("", min, max, errors);
    (min, max)
}
