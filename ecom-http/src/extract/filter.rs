//! Values of query parameters.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc};
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

/// Reads a date such as 2026-01-31.
fn date_of(sent: &str) -> Option<NaiveDate> {
    // chrono would also accept signs and single digits.
    let whole = sent.len() == 10 && sent.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    NaiveDate::parse_from_str(sent, "%Y-%m-%d").ok().filter(|_| whole)
}

/// Returns the day of a parameter. Pushes an error and returns `None` if the value is not a date.
pub(crate) fn day(field: &str, sent: Option<&str>, errors: &mut ValidationErrors) -> Option<NaiveDate> {
    let sent = sent?;
    // Other years are not known to every database.
    let day = date_of(sent).filter(|day| (1..=9999).contains(&day.year()));
    if day.is_none() {
        errors.push(field, FieldCode::Malformed, "must be a date such as 2026-01-31");
    }
    day
}

/// Returns the time of a parameter: a time in RFC 3339, or a date, whose time is its start in UTC. Pushes an error and
/// returns `None` if the value is neither.
pub(crate) fn moment(field: &str, sent: Option<&str>, errors: &mut ValidationErrors) -> Option<DateTime<Utc>> {
    let sent = sent?;
    let date = || Some(date_of(sent)?.and_time(NaiveTime::MIN).and_utc());
    let at = DateTime::parse_from_rfc3339(sent).map(|at| at.to_utc()).ok().or_else(date);
    // Other years are not known to every database.
    let at = at.filter(|at| (1..=9999).contains(&at.year()));
    if at.is_none() {
        let message = "must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z (RFC 3339), whose `+` \
                       is encoded as `%2B`";
        errors.push(field, FieldCode::Malformed, message);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_a_day_is_a_date() {
        let read = |text: &str| {
            let mut errors = ValidationErrors::default();
            day("to", Some(text), &mut errors).map(|day| day.to_string()).ok_or_else(|| errors.0[0].field.clone())
        };
        assert_eq!(read("2026-01-31").as_deref(), Ok("2026-01-31"));
        for bad in ["", "2026", "2026-1-31", "2026-02-30", "+2026-01-3", "0000-01-01", "2026-01-31T12:00:00Z"] {
            assert_eq!(read(bad), Err("to".to_owned()), "{bad}");
        }
    }

    #[test]
    fn r17_a_moment_is_a_date_or_a_time() {
        let read = |text: &str| {
            let mut errors = ValidationErrors::default();
            moment("from", Some(text), &mut errors).map(|at| at.to_rfc3339()).ok_or_else(|| errors.0[0].field.clone())
        };
        assert_eq!(read("2026-01-31").as_deref(), Ok("2026-01-31T00:00:00+00:00"));
        assert_eq!(read("2026-01-31T01:00:00+02:00").as_deref(), Ok("2026-01-30T23:00:00+00:00"));
        assert_eq!(read("2026-01-31T12:00:00.5Z").as_deref(), Ok("2026-01-31T12:00:00.500+00:00"));
        for bad in ["0000-12-31", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(read(bad), Err("from".to_owned()), "{bad}");
        }
        for bad in ["", "2026", "2026-1-31", "2026-02-30", "+2026-01-3", "31.01.2026", "2026-01-31T12:00:00 02:00"] {
            assert_eq!(read(bad), Err("from".to_owned()), "{bad}");
        }
    }
}
