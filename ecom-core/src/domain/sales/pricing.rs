//! The arithmetic of orders, as pure functions over minor units (`docs/rules.md`, R18, R27 and R35).

use crate::error::{Error, FieldCode, Result};
use crate::money::{Currency, Money};

/// The largest amount of a line, a cart, an order or a bill, in minor units.
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// The version of this arithmetic. Each order records it, so that an audit computes an order as it was computed when it
/// was placed.
pub(crate) const ENGINE: i32 = 1;

/// The share of a line in an amount that is spread over lines (R27).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// `amount × weight / Σ weights`, rounded down.
    pub floor: i64,
    /// The remainder of that division.
    pub remainder: i128,
    /// Whether the line gets one of the minor units that are left.
    pub extra: bool,
}

/// Spreads `amount` over lines in proportion to `weights` by largest remainder (R27). Each line gets the floor of
/// `amount × weight / Σ weights`; the minor units that are left go to the greatest remainders, one each, and to the
/// earlier line if remainders are equal. The shares add up to `amount`, and no share exceeds its weight.
///
/// Returns `None` unless `0 ≤ amount ≤ Σ weights` and no weight is negative.
///
/// Source: the largest remainder method of Hamilton; the examples are those of Vendure's `prorate`.
pub(crate) fn allocate(amount: i64, weights: &[i64]) -> Option<Vec<i64>> {
    Some(shares(amount, weights)?.into_iter().map(|s| s.floor + i64::from(s.extra)).collect())
}

/// Spreads `amount` as [`allocate`] does, and returns the steps of the computation for each line.
pub(crate) fn shares(amount: i64, weights: &[i64]) -> Option<Vec<Share>> {
    if weights.iter().any(|w| *w < 0) {
        return None;
    }
    let sum: i128 = weights.iter().copied().map(i128::from).sum();
    if amount < 0 || i128::from(amount) > sum {
        return None;
    }
    if amount == 0 {
        return Some(vec![Share { floor: 0, remainder: 0, extra: false }; weights.len()]);
    }
    let mut left = amount;
    let mut shares = Vec::with_capacity(weights.len());
    for weight in weights {
        let scaled = i128::from(amount) * i128::from(*weight);
        let floor = i64::try_from(scaled / sum).ok()?;
        left -= floor;
        shares.push(Share { floor, remainder: scaled % sum, extra: false });
    }
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(shares[*i].remainder), *i));
    for i in order.into_iter().take(usize::try_from(left).ok()?) {
        shares[i].extra = true;
    }
    Some(shares)
}

/// Returns the value of the first `units` of `quantity` equal units that are worth `amount` together:
/// `amount × units / quantity`, rounded half away from zero (R35). The differences between consecutive results are the
/// values of single units, which therefore add up to `amount`. Returns 0 if `quantity` is 0.
#[expect(clippy::cast_possible_truncation, reason = "the result is at most the amount")]
pub(crate) const fn first_units(amount: i64, units: i64, quantity: i64) -> i64 {
    if quantity <= 0 {
        return 0;
    }
    let scaled = amount as i128 * units as i128;
    let quantity = quantity as i128;
    // Half away from zero. Amounts are not negative.
    ((2 * scaled + quantity) / (2 * quantity)) as i64
}

/// Returns an amount that was computed in 128 bits, or `None` if it is above [`MAX_AMOUNT`].
pub(crate) fn within_limit(amount: i128) -> Option<i64> {
    i64::try_from(amount).ok().filter(|amount| *amount <= MAX_AMOUNT)
}

/// Returns `quantity × unit_price` in minor units. The computation uses 128 bits, so it cannot overflow.
///
/// # Errors
/// `Validation` on `field` if the result exceeds [`MAX_AMOUNT`].
pub(crate) fn subtotal(quantity: i64, unit_price: Money, field: &str) -> Result<i64> {
    let product = i128::from(quantity) * i128::from(unit_price.minor());
    bounded(product, unit_price.currency(), field)
}

/// Returns a sum of amounts, in minor units of `currency`, as an amount.
///
/// # Errors
/// `Validation` on `field` if the sum exceeds [`MAX_AMOUNT`].
pub(crate) fn bounded(amount: i128, currency: Currency, field: &str) -> Result<i64> {
    within_limit(amount).ok_or_else(|| too_large(currency, field))
}

/// Returns the error for a field that leads to an amount above [`MAX_AMOUNT`].
pub(crate) fn too_large(currency: Currency, field: &str) -> Error {
    let most = Money::from_minor(MAX_AMOUNT, currency);
    let message =
        format!("would lead to an amount above {most}, the largest that is allowed: lower the quantity or the price");
    Error::invalid(field, FieldCode::OutOfBounds, message)
}

/// Returns how many random cases a test tries: `ECOM_ORDER_CASES`, or a number that fits into CI.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test is made longer by a variable")]
pub(crate) fn cases(in_ci: u32) -> u32 {
    std::env::var("ECOM_ORDER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(in_ci)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r27_an_amount_is_spread_by_largest_remainder() {
        assert_eq!(allocate(299, &[4300, 1400, 2300]).unwrap(), [161, 52, 86]);
        assert_eq!(allocate(300, &[4300, 1400, 2300]).unwrap(), [161, 53, 86]);
        assert_eq!(allocate(93, &[10, 20, 10, 30, 50, 20, 10, 40]).unwrap(), [5, 10, 5, 15, 24, 10, 5, 19]);
        assert_eq!(allocate(500, &[400, 4500]).unwrap(), [41, 459]);
        assert_eq!(allocate(100, &[333, 333, 334]).unwrap(), [33, 33, 34]);
        assert_eq!(allocate(300, &[4300, 1400]).unwrap(), [226, 74]);
        assert_eq!(allocate(300, &[2150, 1400]).unwrap(), [182, 118]);
        assert_eq!(allocate(0, &[0, 0]).unwrap(), [0, 0]);
        assert_eq!(allocate(0, &[]).unwrap(), [0; 0]);
        assert_eq!(allocate(11, &[5, 5]), None);
        assert_eq!(allocate(-1, &[5, 5]), None);
    }

    #[test]
    fn r35_units_add_up_to_their_line() {
        let units = |amount, quantity| -> Vec<i64> {
            (0..quantity).map(|k| first_units(amount, k + 1, quantity) - first_units(amount, k, quantity)).collect()
        };
        assert_eq!(units(1000, 3), [333, 334, 333]);
        assert_eq!(units(1563, 2), [782, 781]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(5_000)))]

        #[test]
        fn r27_shares_add_up_and_stay_within_their_lines(
            weights in prop::collection::vec(0i64..2_000_000_000_000, 1..40),
            part in 0.0f64..=1.0,
        ) {
            let sum: i64 = weights.iter().sum();
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any amount will do")]
            let amount = ((sum as f64 * part) as i64).clamp(0, sum);
            let shares = allocate(amount, &weights).unwrap();
            prop_assert_eq!(shares.iter().sum::<i64>(), amount);
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!(*share >= 0 && share <= weight);
                let exact = i128::from(amount) * i128::from(*weight);
                let apart = (i128::from(*share) * i128::from(sum) - exact).abs();
                prop_assert!(sum == 0 || apart < i128::from(sum), "a share is a whole unit from its exact value");
            }
        }

        #[test]
        fn r35_units_are_within_one_of_each_other(amount in 0i64..1_000_000_000, quantity in 1i64..1_000) {
            let mut sum = 0;
            for k in 0..quantity {
                let unit = first_units(amount, k + 1, quantity) - first_units(amount, k, quantity);
                prop_assert!((unit - amount / quantity).abs() <= 1);
                sum += unit;
            }
            prop_assert_eq!(sum, amount);
        }
    }
}
