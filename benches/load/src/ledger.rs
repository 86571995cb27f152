//! Records what the server acknowledged, and compares it with the shop at the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The outcome of a write, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write was sent, and no answer has reported its outcome.
    Unknown,
    /// The server acknowledged the write.
    Acknowledged,
    /// The server refused the write.
    Refused,
}

/// A SKU: its stock at the start and the adjustments that were sent since, by number.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// The stock on hand at the start.
    pub start: i64,
    /// The newest movement at the start.
    pub newest: Option<String>,
    /// The difference of each adjustment and its outcome.
    pub sent: BTreeMap<u64, (i64, Outcome)>,
}

/// A product: its version at the start, and the number of edits that were sent since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits {
    /// The version at the start.
    pub start: i64,
    /// Edits that the server acknowledged.
    pub acknowledged: i64,
    /// Edits whose outcome is unknown.
    pub unknown: i64,
}

/// A movement in the ledger of the shop: its number, if it belongs to this run, and its difference.
pub type Movement = (Option<u64>, i64);

/// The result of the comparison.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The number of SKUs that were compared.
    pub skus: u64,
    /// The number of products that were compared.
    pub products: u64,
    /// Adjustments that the server acknowledged.
    pub adjustments: u64,
    /// Edits that the server acknowledged.
    pub edits: u64,
    /// Adjustments of unknown outcome that were done.
    pub unknown_done: u64,
    /// Adjustments of unknown outcome that were not done.
    pub unknown_not_done: u64,
    /// Edits of unknown outcome.
    pub unknown_edits: u64,
    /// Movements since the start that do not belong to this run.
    pub foreign: u64,
    /// Every difference that was found. It should be empty.
    pub problems: Vec<String>,
}

impl Findings {
    /// Compares a SKU with the movements since the start and the stock on hand now.
    pub fn stock(&mut self, sku: &str, told: &Stock, movements: &[Movement], on_hand: i64) {
        self.skus += 1;
        let mut found: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
        for (number, delta) in movements {
            match number {
                Some(n) => found.entry(*n).or_default().push(*delta),
                None => self.foreign += 1,
            }
        }
        for (n, (delta, outcome)) in &told.sent {
            let rows = found.remove(n).unwrap_or_default();
            match (outcome, rows.as_slice()) {
                (Outcome::Acknowledged, [one]) if one == delta => self.adjustments += 1,
                (Outcome::Unknown, [one]) if one == delta => self.unknown_done += 1,
                (Outcome::Unknown, []) => self.unknown_not_done += 1,
                (Outcome::Refused, []) => {}
                (outcome, rows) => {
                    self.problems.push(format!("SKU {sku}: {delta:+} ({outcome:?}) is in the ledger as {rows:?}"));
                }
            }
        }
        for (n, rows) in found {
            self.problems.push(format!("SKU {sku}: the ledger has {rows:?} of number {n}, which was not sent"));
        }
        let sum: i64 = movements.iter().map(|(_, delta)| delta).sum();
        if told.start + sum != on_hand {
            let start = told.start;
            self.problems.push(format!("SKU {sku}: {start} at the start and {sum:+} since, but {on_hand} on hand"));
        }
    }

    /// Compares a product with its version now.
    pub fn edits(&mut self, product: &str, told: &Edits, version: i64) {
        self.products += 1;
        self.edits += told.acknowledged.unsigned_abs();
        self.unknown_edits += told.unknown.unsigned_abs();
        let least = told.start + told.acknowledged;
        if !(least..=least + told.unknown).contains(&version) {
            let Edits { start, acknowledged, unknown } = told;
            self.problems.push(format!(
                "product {product}: version {version}, after {start} at the start, {acknowledged} acknowledged edits and \
                 {unknown} without an answer"
            ));
        }
    }
}

/// Records the writes that were sent and acknowledged, while the load runs.
#[derive(Debug, Default)]
pub struct Ledger {
    stocks: Mutex<BTreeMap<String, Stock>>,
    edits: Mutex<BTreeMap<String, Edits>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Records the state of a SKU at the start.
    pub fn begin_stock(&self, sku: &str, start: i64, newest: Option<String>) {
        lock(&self.stocks).insert(sku.to_owned(), Stock { start, newest, ..Stock::default() });
    }

    /// Records the state of a product at the start.
    pub fn begin_product(&self, product: &str, start: i64) {
        lock(&self.edits).insert(product.to_owned(), Edits { start, ..Edits::default() });
    }

    /// Records an adjustment as unknown before it is sent, so that it remains unknown if the user is stopped before the
    /// answer arrives.
    pub fn adjustment(&self, sku: &str, number: u64, delta: i64, outcome: Outcome) {
        if let Some(stock) = lock(&self.stocks).get_mut(sku) {
            stock.sent.insert(number, (delta, outcome));
        }
    }

    /// Records an edit before it is sent.
    pub fn edit_sent(&self, product: &str) {
        if let Some(e) = lock(&self.edits).get_mut(product) {
            e.unknown += 1;
        }
    }

    /// Records the outcome of an edit.
    pub fn edit_ended(&self, product: &str, outcome: Outcome) {
        if let Some(e) = lock(&self.edits).get_mut(product) {
            match outcome {
                Outcome::Unknown => {}
                Outcome::Acknowledged => {
                    e.unknown -= 1;
                    e.acknowledged += 1;
                }
                Outcome::Refused => e.unknown -= 1,
            }
        }
    }

    /// Returns the SKUs that were adjusted.
    pub fn stocks(&self) -> Vec<(String, Stock)> {
        let all = lock(&self.stocks);
        all.iter().filter(|(_, s)| !s.sent.is_empty()).map(|(id, s)| (id.clone(), s.clone())).collect()
    }

    /// Returns the products that were edited.
    pub fn products(&self) -> Vec<(String, Edits)> {
        let all = lock(&self.edits);
        all.iter().filter(|(_, e)| e.acknowledged + e.unknown > 0).map(|(id, e)| (id.clone(), *e)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Stock {
        let sent = [(1, (-1, Outcome::Acknowledged)), (2, (1, Outcome::Refused)), (3, (-1, Outcome::Unknown))];
        Stock { start: 5, newest: None, sent: sent.into() }
    }

    fn findings(movements: &[Movement], on_hand: i64) -> Findings {
        let mut f = Findings::default();
        f.stock("a", &told(), movements, on_hand);
        f
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_is_unknown_may_be() {
        let f = findings(&[(Some(1), -1)], 4);
        assert_eq!((f.adjustments, f.unknown_done, f.unknown_not_done, f.problems.len()), (1, 0, 1, 0));
        let f = findings(&[(Some(1), -1), (Some(3), -1), (None, 7)], 10);
        assert_eq!((f.unknown_done, f.foreign, f.problems.len()), (1, 1, 0));
    }

    #[test]
    fn a_shop_that_is_wrong_is_caught() {
        for (movements, on_hand) in [
            (vec![], 5),                             // lost
            (vec![(Some(1), -1), (Some(1), -1)], 3), // done twice
            (vec![(Some(1), 1)], 6),                 // another difference
            (vec![(Some(1), -1), (Some(2), 1)], 5),  // refused and done
            (vec![(Some(1), -1), (Some(9), 1)], 5),  // never sent
            (vec![(Some(1), -1)], 5),                // the ledger has it, the stock does not
        ] {
            assert_eq!(findings(&movements, on_hand).problems.len(), 1, "{movements:?} {on_hand}");
        }
    }

    #[test]
    fn edits_move_the_version_by_one_each() {
        let told = Edits { start: 2, acknowledged: 3, unknown: 1 };
        for (version, problems) in [(4, 1), (5, 0), (6, 0), (7, 1)] {
            let mut f = Findings::default();
            f.edits("p", &told, version);
            assert_eq!(f.problems.len(), problems, "{version}");
        }
    }

    #[test]
    fn a_write_that_is_never_answered_stays_unknown() {
        let ledger = Ledger::default();
        ledger.begin_product("p", 1);
        ledger.begin_stock("s", 1, None);
        assert!(ledger.products().is_empty() && ledger.stocks().is_empty());
        ledger.edit_sent("p");
        ledger.adjustment("s", 1, 1, Outcome::Unknown);
        assert_eq!(ledger.products()[0].1.unknown, 1);
        assert_eq!(ledger.stocks()[0].1.sent[&1], (1, Outcome::Unknown));
        ledger.edit_ended("p", Outcome::Acknowledged);
        assert_eq!((ledger.products()[0].1.unknown, ledger.products()[0].1.acknowledged), (0, 1));
    }
}
