//! The arithmetic of orders, written from the rules R18, R27, R35, R36 and R39 and not from the code of the library.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::domain::sales::bill::{BillKind, BillStatus};
use crate::domain::sales::order::{OrderRecord, Totals};
use crate::money::{Currency, Money};

/// The largest amount, in minor units.
pub(super) const MAX_AMOUNT: i128 = 1_000_000_000_000_000;

pub(super) fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::USD)
}

/// Returns the sums of a line or a credit note.
pub(super) fn totals(subtotal: i64, discount: i64) -> Totals {
    Totals {
        subtotal: usd(subtotal),
        shipping: usd(0),
        discount: usd(discount),
        tax_added: usd(0),
        tax_included: usd(0),
        total: usd(subtotal - discount),
    }
}

/// Returns the sums of several lines or bills.
pub(super) fn sum<'t>(of: impl Iterator<Item = &'t Totals>) -> Totals {
    let (subtotal, discount) = of.fold((0, 0), |(s, d), t| (s + t.subtotal.minor(), d + t.discount.minor()));
    totals(subtotal, discount)
}

/// Spreads a discount over lines (R27): each gets the floor of its part, and the units that are left go to the greatest
/// remainders, to the earlier line among equal ones. Returns `None` if the discount is above the sum.
pub(super) fn shares(discount: i64, weights: &[i64]) -> Option<Vec<i64>> {
    let sum: i128 = weights.iter().map(|w| i128::from(*w)).sum();
    if i128::from(discount) > sum {
        return None;
    }
    let mut shares = Vec::new();
    let mut remainders = Vec::new();
    for weight in weights {
        let product = i128::from(discount) * i128::from(*weight);
        shares.push(if sum == 0 { 0 } else { (product / sum) as i64 });
        remainders.push(if sum == 0 { 0 } else { product % sum });
    }
    while shares.iter().sum::<i64>() < discount {
        let greatest = *remainders.iter().max()?;
        let first = remainders.iter().position(|r| *r == greatest)?;
        shares[first] += 1;
        remainders[first] = -1;
    }
    Some(shares)
}

/// Returns what the first units of a line are worth, of all its units that are worth `net` (R35).
pub(super) fn worth(net: i64, units: i64, quantity: i64) -> i64 {
    if quantity == 0 {
        return 0;
    }
    let exact = Decimal::from(net) * Decimal::from(units) / Decimal::from(quantity);
    exact.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero).try_into().unwrap()
}

/// Gives the lines of a bill the amounts of their quantities, less a discount on the bill. Returns false if the
/// discount is above the subtotal.
pub(super) fn spread(record: &mut OrderRecord, seq: i32, discount: i64) -> bool {
    let lines: Vec<_> = record.order.lines.iter_mut().filter(|l| l.bill_seq == seq).collect();
    let weights: Vec<i64> = lines.iter().map(|l| l.quantity * l.unit_price.minor()).collect();
    let Some(shares) = shares(discount, &weights) else { return false };
    for ((line, weight), share) in lines.into_iter().zip(weights).zip(shares) {
        line.totals = totals(weight, share);
    }
    true
}

/// Sums the lines of each bill, and the bills of the order. Returns false if a sum is too large.
pub(super) fn settle(record: &mut OrderRecord) -> bool {
    let lines = &record.order.lines;
    for bill in record.bills.iter_mut().filter(|b| b.kind == BillKind::Bill) {
        bill.totals = sum(lines.iter().filter(|l| l.bill_seq == bill.seq).map(|l| &l.totals));
    }
    let bills = record.bills.iter().filter(|b| b.kind == BillKind::Bill);
    record.order.totals = sum(bills.map(|b| &b.totals));
    i128::from(record.order.totals.subtotal.minor()) <= MAX_AMOUNT
}

/// Returns the net amount billed: the bills less the credit notes, void ones excluded.
pub(super) fn due(record: &OrderRecord) -> i64 {
    let counts = record.bills.iter().filter(|b| b.status != BillStatus::Void);
    counts.map(|b| if b.kind == BillKind::Bill { b.totals.total.minor() } else { -b.totals.total.minor() }).sum()
}

/// Returns what is due for the units that are left, if no line costs more than it was sold for.
pub(super) fn due_of_lines(record: &OrderRecord) -> i64 {
    let net = |l: &crate::domain::sales::order::OrderLine| {
        let whole = l.totals.subtotal.minor() - l.totals.discount.minor();
        whole - worth(whole, l.canceled, l.quantity)
    };
    record.order.lines.iter().map(net).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rules() {
        assert_eq!(shares(299, &[4300, 1400, 2300]).unwrap(), [161, 52, 86]);
        assert_eq!(shares(93, &[10, 20, 10, 30, 50, 20, 10, 40]).unwrap(), [5, 10, 5, 15, 24, 10, 5, 19]);
        assert_eq!(shares(1, &[]), None);
        assert_eq!([1, 2, 3].map(|k| worth(1000, k, 3)), [333, 667, 1000]);
        assert_eq!(worth(1563, 1, 2), 782);
    }
}
