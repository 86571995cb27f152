//! Values of query parameters.

use ecom_core::money::{Currency, Money, check_price_order, price_of};
use ecom_core::{FieldCode, Result, ValidationErrors};
use serde::{Deserialize, Deserializer};

/// Reads a parameter that means something also if it is empty (`cursor=`).
pub(crate) fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    String::deserialize(d).map(Some)
}

/// Returns the value that a word stands for; the error of an unknown word lists those that there are.
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
        errors.out_of_bounds(field, format!("must be one of {}", names.join(", ")));
    }
    found
}

/// Returns an exact price in the shop's currency; what is wrong with it is pushed to `errors`.
fn price(field: &str, sent: Option<&str>, currency: Currency, errors: &mut ValidationErrors) -> Option<Money> {
    match sent?.parse() {
        Ok(d) => price_of(d, currency, field, errors),
        Err(why) => {
            errors.push(field, FieldCode::Malformed, why.to_string());
            None
        }
    }
}

/// Returns both bounds of a filter by price.
pub(crate) fn prices(
    min: Option<&str>,
    max: Option<&str>,
    currency: Currency,
    errors: &mut ValidationErrors,
) -> (Option<Money>, Option<Money>) {
    let min = price("min_price", min, currency, errors);
    let max = price("max_price", max, currency, errors);
    check_price_order(min, max, errors);
    (min, max)
}
