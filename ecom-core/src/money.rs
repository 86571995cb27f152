//! Money and other exact numbers. They are never floats, and databases store them as integers.

use std::fmt;
use std::str::FromStr;

use rust_decimal::RoundingStrategy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Conflict, Error, FieldCode, Result, ValidationErrors};

pub use rust_decimal::Decimal;

/// The reason why a text or a number is not a valid amount, percentage, rating or measure. The message completes a
/// sentence that begins with the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// The text is not a decimal number, such as `12` or `-3.50`.
    #[error("must be a decimal number, such as 12 or 3.50")]
    NotADecimal,
    /// The text is longer than 40 characters.
    #[error("must have at most 40 characters")]
    TooManyDigits,
    /// The number has more decimal places than are stored.
    #[error("must have at most {_0} decimal place{}", if *_0 == 1 { "" } else { "s" })]
    TooPrecise(u32),
    /// The amount has more decimal places than the minor unit of its currency.
    #[error("must have at most {} decimal places, as the minor unit of {_0} has", _0.exponent())]
    FinerThanMinorUnit(Currency),
    /// The amount does not fit into 64-bit minor units.
    #[error("exceeds the largest amount that can be stored; send a smaller one")]
    TooLarge,
    /// The number is out of bounds.
    #[error("must be between {min} and {max}")]
    OutOfBounds {
        /// The smallest valid value.
        min: i64,
        /// The largest valid value.
        max: i64,
    },
    /// The text is not an amount with its currency, such as `9.99 USD`.
    #[error("must be an amount with its currency, such as `9.99 USD`")]
    NotMoney,
}

/// An ISO 4217 currency with a known minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// US dollar.
    pub const USD: Self = Self(iso_currency::Currency::USD);
    /// Euro.
    pub const EUR: Self = Self(iso_currency::Currency::EUR);
    /// Japanese yen, which has no minor unit.
    pub const JPY: Self = Self(iso_currency::Currency::JPY);

    /// Returns the currency with a three-letter code, ignoring case.
    ///
    /// # Errors
    /// `Validation` on field `currency` if the code is unknown, or if the currency has no minor unit (XAU, XDR …).
    pub fn from_code(code: &str) -> Result<Self> {
        iso_currency::Currency::from_code(&code.to_ascii_uppercase())
            .filter(|c| c.exponent().is_some())
            .map(Self)
            .ok_or_else(|| Error::invalid("currency", FieldCode::OutOfBounds, "must be an ISO 4217 code, such as USD"))
    }

    /// Returns the three-letter code.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Returns the number of decimal places of the minor unit: 2 for USD, 0 for JPY, 3 for BHD.
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(2, u32::from)
    }
}

impl TryFrom<String> for Currency {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        Self::from_code(&s)
    }
}

impl From<Currency> for String {
    fn from(c: Currency) -> Self {
        c.code().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount in a currency. It always has as many decimal places as the minor unit of the currency.
///
/// Formulas that round, round half away from zero.
///
/// ```
/// use ecom_core::money::{Currency, Money, Percentage};
///
/// # fn main() -> Result<(), ecom_core::money::NumberError> {
/// let price: Money = "9.99 USD".parse()?;
/// assert_eq!(price, Money::from_minor(999, Currency::USD));
/// let discount = Percentage::from_hundredths(10_48)?; // 10.48 %
/// assert_eq!(price.discounted(discount).to_string(), "8.94 USD");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// Returns the amount for a number of minor units (cents for USD, yen for JPY), as databases store it.
    pub fn from_minor(minor: i64, currency: Currency) -> Self {
        Self { amount: Decimal::new(minor, currency.exponent()), currency }
    }

    /// Returns the exact amount for a number in the currency's major unit.
    ///
    /// # Errors
    /// [`NumberError::FinerThanMinorUnit`], for example for `99.999` USD, and [`NumberError::TooLarge`].
    pub fn exact(amount: Decimal, currency: Currency) -> Result<Self, NumberError> {
        let amount = amount.normalize();
        if amount.scale() > currency.exponent() {
            return Err(NumberError::FinerThanMinorUnit(currency));
        }
        Self::fits(amount, currency)
    }

    /// Returns the amount for a number in the currency's major unit, rounded to the minor unit, half away from zero.
    ///
    /// # Errors
    /// [`NumberError::TooLarge`].
    pub fn rounded(amount: Decimal, currency: Currency) -> Result<Self, NumberError> {
        Self::fits(amount.round_dp_with_strategy(currency.exponent(), RoundingStrategy::MidpointAwayFromZero), currency)
    }

    fn fits(mut amount: Decimal, currency: Currency) -> Result<Self, NumberError> {
        // Rescaling would lose digits silently if mantissa × 10^k could overflow.
        if amount.abs() > Decimal::from(i64::MAX / 10i64.pow(currency.exponent())) {
            return Err(NumberError::TooLarge);
        }
        amount.rescale(currency.exponent());
        Ok(Self { amount, currency })
    }

    /// Returns the amount in the currency's major unit, with the decimal places of its minor unit.
    pub const fn amount(self) -> Decimal {
        self.amount
    }

    /// Returns the currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Returns the amount in minor units, as databases store it.
    pub fn minor(self) -> i64 {
        // The constructors keep the scale at the exponent and the mantissa within i64.
        i64::try_from(self.amount.mantissa()).unwrap_or(i64::MAX)
    }

    /// Returns the price after a discount: `self × (1 − discount / 100)`, rounded to the currency's minor unit, half
    /// away from zero (`docs/rules.md`, "Final price").
    #[must_use]
    pub fn discounted(self, discount: Percentage) -> Self {
        let hundredths = i128::from(10_000 - i64::from(discount.hundredths()));
        let scaled = i128::from(self.minor()) * hundredths;
        let half = if scaled >= 0 { 5_000 } else { -5_000 };
        let minor = i64::try_from((scaled + half) / 10_000).unwrap_or(i64::MAX);
        Self::from_minor(minor, self.currency)
    }
}

impl FromStr for Money {
    type Err = NumberError;

    /// Parses an exact amount with its currency, as [`Display`](fmt::Display) writes it: `9.99 USD`.
    ///
    /// # Errors
    /// [`NumberError::NotMoney`] if the amount or the currency is missing or the currency is unknown;
    /// [`NumberError::NotADecimal`] and [`NumberError::TooManyDigits`] for the amount; the errors of [`Money::exact`].
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let (amount, code) = text.split_once(' ').ok_or(NumberError::NotMoney)?;
        let currency = Currency::from_code(code).map_err(|_| NumberError::NotMoney)?;
        Self::exact(amount.parse::<ExactDecimal>()?.0, currency)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Checks that a currency code, if present, is the currency of the shop.
///
/// # Errors
/// `CURRENCY_MISMATCH` for another currency; `Validation` on field `currency` if `code` is not a currency.
pub fn check_currency(code: Option<&str>, shop: Currency) -> Result<()> {
    same_currency(code.map(Currency::from_code).transpose()?, shop)
}

fn same_currency(found: impl IntoIterator<Item = Currency>, shop: Currency) -> Result<()> {
    match found.into_iter().find(|found| *found != shop) {
        Some(found) => Err(Conflict::CurrencyMismatch { expected: shop.to_string(), found: found.to_string() }.into()),
        None => Ok(()),
    }
}

/// Pushes an error if the minimum of a price filter is above its maximum. `prefix` precedes the names of the fields
/// (`filter.` or empty).
#[doc(hidden)]
pub fn check_price_order(prefix: &str, min: Option<Money>, max: Option<Money>, errors: &mut ValidationErrors) {
    if min.zip(max).is_some_and(|(min, max)| min.minor() > max.minor()) {
        let message = format!("must not be above `{prefix}max_price`");
        errors.push(format!("{prefix}min_price"), FieldCode::Inconsistent, message);
    }
}

/// Checks that the bounds of a price filter are in the currency of the shop.
///
/// # Errors
/// `CURRENCY_MISMATCH` if one is in another currency.
pub(crate) fn check_price_currency(bounds: [Option<Money>; 2], shop: Currency) -> Result<()> {
    same_currency(bounds.into_iter().flatten().map(Money::currency), shop)
}

/// A decimal number, as a JSON string or number. It is read exactly and never passes through a float.
///
/// `serde_json` deserializes it from a text or from bytes. Other deserializers fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExactDecimal(pub Decimal);

#[cfg(feature = "openapi")]
mod openapi {
    use utoipa::__dev::ComposeSchema;
    use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
    use utoipa::openapi::{RefOr, Schema};

    use super::ExactDecimal;

    /// The derive has no schema of a text or a number.
    impl ComposeSchema for ExactDecimal {
        fn compose(_: Vec<RefOr<Schema>>) -> RefOr<Schema> {
            let text =
                "A decimal number, as a JSON string or number. It is read exactly and never passes through a float.";
            ObjectBuilder::new()
                .schema_type(SchemaType::from_iter([Type::String, Type::Number]))
                .description(Some(text))
                .pattern(Some(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"))
                .examples(["9.99"])
                .into()
        }
    }

    impl utoipa::ToSchema for ExactDecimal {}
}

impl ExactDecimal {
    fn read(t: &str) -> Result<Self, NumberError> {
        if t.len() > 40 {
            return Err(NumberError::TooManyDigits);
        }
        // Strings have the grammar of JSON numbers too, because `1_000` or `.5` is more likely a typing error.
        let digits = t.strip_prefix('-').unwrap_or(t);
        let whole = digits.split(['.', 'e', 'E']).next().unwrap_or_default();
        let plain = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let fraction = digits.split(['e', 'E']).next().and_then(|d| d.split_once('.')).is_none_or(|(_, f)| plain(f));
        if !plain(whole) || !fraction || t.contains('_') {
            return Err(NumberError::NotADecimal);
        }
        let number = match t.split_once(['e', 'E']) {
            None => Decimal::from_str_exact(t),
            // `from_scientific` would round the digits before the exponent, and accept a second sign in it.
            Some((base, exponent)) if plain(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)) => {
                Decimal::from_str_exact(base).and_then(|_| Decimal::from_scientific(t))
            }
            Some(_) => return Err(NumberError::NotADecimal),
        };
        number.map(Self).map_err(|_| NumberError::NotADecimal)
    }
}

impl FromStr for ExactDecimal {
    type Err = NumberError;

    /// Parses a decimal number (`12`, `-3.50`), with or without an exponent, as JSON allows.
    ///
    /// # Errors
    /// [`NumberError::NotADecimal`], [`NumberError::TooManyDigits`].
    fn from_str(text: &str) -> Result<Self, NumberError> {
        Self::read(text)
    }
}

impl From<Decimal> for ExactDecimal {
    fn from(d: Decimal) -> Self {
        Self(d)
    }
}

impl From<i32> for ExactDecimal {
    fn from(n: i32) -> Self {
        Self(n.into())
    }
}

impl From<i64> for ExactDecimal {
    fn from(n: i64) -> Self {
        Self(n.into())
    }
}

impl fmt::Display for ExactDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ExactDecimal {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let raw = Box::<RawValue>::deserialize(d)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => {
                let s: String = serde_json::from_str(text).map_err(D::Error::custom)?;
                Self::read(&s).map_err(D::Error::custom)
            }
            Some(b'-' | b'0'..=b'9') => Self::read(text).map_err(D::Error::custom),
            _ => Err(D::Error::custom("must be a decimal number, or a string that contains one")),
        }
    }
}

impl Serialize for ExactDecimal {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// Makes a type for numbers from 0 to a maximum, which databases store as integers. `$exponent` is the number of decimal
/// places, and `$units` the name of the stored unit.
macro_rules! fixed_point {
    (
        $(#[$doc:meta])* $name:ident($repr:ty), $exponent:literal, $units:literal,
        $MAX:ident = $max:expr, $from:ident, $get:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            #[doc = concat!("The largest valid value, in ", $units, ".")]
            pub const $MAX: $repr = $max;

            const BOUNDS: NumberError =
                NumberError::OutOfBounds { min: 0, max: (Self::$MAX / (10 as $repr).pow($exponent)) as i64 };

            #[doc = concat!("Returns the value for a number of ", $units, ", as databases store it.")]
            ///
            /// # Errors
            /// [`NumberError::OutOfBounds`].
            pub fn $from(n: i64) -> Result<Self, NumberError> {
                <$repr>::try_from(n).ok().filter(|n| (0..=Self::$MAX).contains(n)).map(Self).ok_or(Self::BOUNDS)
            }

            /// Returns the value for an exact decimal.
            ///
            /// # Errors
            /// [`NumberError::OutOfBounds`], [`NumberError::TooPrecise`].
            pub fn exact(d: Decimal) -> Result<Self, NumberError> {
                let mut d = d.normalize();
                if d.scale() > $exponent {
                    return Err(NumberError::TooPrecise($exponent));
                }
                if d.abs() > Decimal::from(i64::MAX / 1_000) {
                    return Err(Self::BOUNDS);
                }
                d.rescale($exponent);
                Self::$from(i64::try_from(d.mantissa()).unwrap_or(-1))
            }

            #[doc = concat!("Returns the value in ", $units, ", as databases store it.")]
            pub const fn $get(self) -> $repr { self.0 }

            /// Returns the value as a decimal with all its decimal places.
            pub fn decimal(self) -> Decimal { Decimal::new(i64::from(self.0), $exponent) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.decimal().fmt(f) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.decimal().fmt(f) }
        }
    };
}

fixed_point! {
    /// A discount in percent: 0–100, with two decimal places.
    Percentage(i32), 2, "hundredths", MAX_HUNDREDTHS = 10_000, from_hundredths, hundredths
}
fixed_point! {
    /// A mean rating in stars: 0–5, with two decimal places.
    Rating(i32), 2, "hundredths", MAX_HUNDREDTHS = 500, from_hundredths, hundredths
}
fixed_point! {
    /// The rating of one review in stars: 0–5, with one decimal place.
    Stars(i32), 1, "tenths", MAX_TENTHS = 50, from_tenths, tenths
}
fixed_point! {
    /// A weight or a length in the shop's unit: 0–1,000,000,000, with two decimal places.
    Measure(i64), 2, "hundredths", MAX_HUNDREDTHS = 100_000_000_000, from_hundredths, hundredths
}

/// Returns the price of an input, which must be exact in the shop's currency and 0 or more. If it is not, the function
/// pushes an error under `field` and returns `None`.
#[doc(hidden)]
pub fn price_of(d: ExactDecimal, currency: Currency, field: &str, errors: &mut ValidationErrors) -> Option<Money> {
    match Money::exact(d.0, currency) {
        Ok(m) if m.minor() < 0 => {
            errors.out_of_bounds(field, "must be 0 or more");
            None
        }
        Ok(m) => Some(m),
        Err(why) => {
            errors.out_of_bounds(field, why.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(s: &str) -> ExactDecimal {
        serde_json::from_str(s).unwrap()
    }

    #[test]
    fn money_is_read_exactly_and_refuses_what_the_minor_unit_cannot_hold() {
        assert_eq!(Money::exact(dec("99.99").0, Currency::USD).unwrap().minor(), 9999);
        assert_eq!(Money::exact(dec("\"99.990\"").0, Currency::USD).unwrap().minor(), 9999);
        assert_eq!(Money::exact(dec("90071992547409.93").0, Currency::USD).unwrap().minor(), 9_007_199_254_740_993);
        assert_eq!(Money::exact(dec("1e2").0, Currency::USD).unwrap().minor(), 10_000);
        assert!(Money::exact(dec("99.999").0, Currency::USD).is_err());
        assert!(Money::exact(dec("1.5").0, Currency::JPY).is_err());
        assert!(Money::exact(dec("1e27").0, Currency::USD).is_err());
        for no in ["x", "1_000", " 1", "+1", "5.", ".5", "-", "", "1.2.3", "e5", "1e", "1e-+2", "1e--2"] {
            assert!(no.parse::<ExactDecimal>().is_err(), "{no}");
        }
        // A number that would have to be rounded.
        assert!("1.00000000000000000000000000000001e0".parse::<ExactDecimal>().is_err());
        assert!(serde_json::from_str::<ExactDecimal>("null").is_err());
        assert!(serde_json::from_str::<ExactDecimal>("[1]").is_err());
    }

    #[test]
    fn money_is_read_back_from_its_text() {
        for text in ["9.99 USD", "-0.01 EUR", "1500 JPY"] {
            assert_eq!(text.parse::<Money>().unwrap().to_string(), text);
        }
        assert_eq!("5 USD".parse::<Money>().unwrap().minor(), 500);
        for no in ["9.99", "USD 9.99", "9.99 XXX", "9.999 USD", "9.99  USD", "", "1.5 JPY"] {
            assert!(no.parse::<Money>().is_err(), "{no}");
        }
    }

    #[test]
    fn stars_are_read_exactly_and_refuse_a_second_decimal_place() {
        for (text, tenths) in [("0", 0), ("4.5", 45), ("\"5.0\"", 50), ("3.20", 32)] {
            assert_eq!(Stars::exact(dec(text).0).unwrap().tenths(), tenths, "{text}");
        }
        assert_eq!(Stars::exact(dec("4.55").0), Err(NumberError::TooPrecise(1)));
        assert_eq!(NumberError::TooPrecise(1).to_string(), "must have at most 1 decimal place");
        assert_eq!(NumberError::TooPrecise(2).to_string(), "must have at most 2 decimal places");
        for no in ["-0.1", "5.1", "1e20"] {
            let refused = Stars::exact(dec(no).0).unwrap_err();
            assert_eq!(refused.to_string(), "must be between 0 and 5", "{no}");
        }
    }

    #[test]
    fn discount_rounds_half_away_from_zero() {
        let p = |minor, hundredths| {
            Money::from_minor(minor, Currency::USD).discounted(Percentage::from_hundredths(hundredths).unwrap()).minor()
        };
        assert_eq!(p(999, 1048), 894); // 9.99 × 0.8952 = 8.943048
        assert_eq!(p(1, 5000), 1); // half a cent goes up
        assert_eq!(p(3, 5000), 2);
        assert_eq!(p(100, 10_000), 0);
        assert_eq!(p(i64::MAX / 100, 0), i64::MAX / 100);
    }

    #[test]
    fn discount_agrees_with_decimal_arithmetic() {
        proptest::proptest!(|(minor in 0i64..10_000_000_000, h in 0i64..=10_000)| {
            let d = Percentage::from_hundredths(h).unwrap();
            let m = Money::from_minor(minor, Currency::EUR);
            let exact = m.amount() * (Decimal::ONE - d.decimal() / Decimal::ONE_HUNDRED);
            proptest::prop_assert_eq!(m.discounted(d), Money::rounded(exact, Currency::EUR).unwrap());
        });
    }
}
