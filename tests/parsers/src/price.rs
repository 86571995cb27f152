use ecom_core::money::{Currency, ExactDecimal, Money};

/// Prices and other decimals: a text is the number that it writes, exactly, or it is refused.
///
/// The input is the text of a number. The number is computed a second time from its digits.
pub fn price(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let written = Written::read(text);
    let parsed = text.parse::<ExactDecimal>();
    match (&parsed, &written) {
        (Ok(parsed), Some(written)) => {
            assert_eq!(Some(parsed.0.normalize().to_string()), written.plain(), "{text:?}");
        }
        (Ok(parsed), None) => panic!("{text:?} is {parsed}, but is no number of JSON"),
        (Err(_), None) => {}
        (Err(error), Some(written)) => assert!(!written.must_be_read(text), "{text:?}: {error}"),
    }

    // JSON with the number, and with the text.
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    let from_text = serde_json::from_str::<ExactDecimal>(&quoted).ok();
    assert_eq!(from_text, parsed.clone().ok(), "{text:?}");
    if let Ok(number) = serde_json::from_str::<ExactDecimal>(text)
        && !text.trim_start().starts_with('"')
    {
        assert_eq!(Some(number), text.trim().parse().ok(), "{text:?}");
    }

    let Ok(ExactDecimal(number)) = parsed else { return };
    for currency in [Currency::USD, Currency::JPY, Currency::from_code("BHD").expect("a currency")] {
        let Ok(money) = Money::exact(number, currency) else { continue };
        assert_eq!(money.amount(), number, "{text:?} in {currency}");
        assert_eq!(Money::from_minor(money.minor(), currency), money, "{text:?} in {currency}");
        assert_eq!(money.to_string().parse(), Ok(money), "{text:?} in {currency}");
        assert_eq!(format!("{text} {currency}").parse(), Ok(money), "{text:?} in {currency}");
    }
}

/// A number as its text writes it: `digits` × 10^`exponent`, where the digits neither begin nor end with a zero.
struct Written {
    negative: bool,
    digits: String,
    exponent: i64,
    /// How many digits are written before the exponent, without zeros before the first other digit of the whole part.
    length: usize,
}

impl Written {
    /// Reads a number by the grammar of JSON, which also allows zeros before the first digit here.
    fn read(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (base, power) = rest.split_once(['e', 'E']).map_or((rest, None), |(base, power)| (base, Some(power)));
        let (whole, fraction) = base.split_once('.').map_or((base, None), |(whole, fraction)| (whole, Some(fraction)));
        let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !fraction.is_none_or(is_digits) {
            return None;
        }
        let exponent = match power {
            None => 0,
            Some(power) if is_digits(power.strip_prefix(['+', '-']).unwrap_or(power)) => power.parse::<i64>().ok()?,
            Some(_) => return None,
        };
        let fraction = fraction.unwrap_or_default();
        let digits = format!("{}{fraction}", whole.trim_start_matches('0'));
        let length = digits.len();
        let exponent = exponent - i64::try_from(fraction.len()).ok()?;
        let kept = digits.trim_end_matches('0');
        let exponent = exponent + i64::try_from(digits.len() - kept.len()).ok()?;
        let digits = kept.trim_start_matches('0').to_owned();
        Some(Self { negative, digits, exponent, length })
    }

    /// Returns the number without an exponent and without zeros at its end; `None` if that is very long.
    fn plain(&self) -> Option<String> {
        let sign = if self.negative { "-" } else { "" };
        if self.digits.is_empty() {
            return Some("0".to_owned());
        }
        let zeros = |n: i64| usize::try_from(n).ok().filter(|n| *n < 100).map(|n| "0".repeat(n));
        if self.exponent >= 0 {
            return Some(format!("{sign}{}{}", self.digits, zeros(self.exponent)?));
        }
        let places = usize::try_from(-self.exponent).ok()?;
        let padded =
            format!("{}{}", zeros(i64::try_from(places.saturating_sub(self.digits.len()) + 1).ok()?)?, self.digits);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let whole = whole.trim_start_matches('0');
        Some(format!("{sign}{}.{fraction}", if whole.is_empty() { "0" } else { whole }))
    }

    /// Returns true for numbers that no parser may refuse: without an exponent, and with few digits.
    fn must_be_read(&self, text: &str) -> bool {
        text.len() <= 40 && !text.contains(['e', 'E']) && self.length <= 28
    }
}
