//! Records what the server acknowledged, and compares it with the shop at the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The outcome of a write, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write was sent, and no answer has reported its outcome.
    Unknown,
    /// The server acknowledged the write, and returned the id of the new row.
    Acknowledged(String),
    /// The server refused the write.
    Refused,
}

/// The lines of an order: SKUs, each with a number of pieces.
pub type Lines = BTreeMap<String, i64>;

/// An order in the shop.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The number of the write, if it belongs to this run.
    pub ours: Option<u64>,
    /// The id of the order.
    pub id: String,
    /// The number of the order, which its movements of stock refer to.
    pub number: String,
    /// The lines of the order.
    pub lines: Lines,
}

/// A SKU at the start.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// The stock on hand.
    pub start: i64,
    /// The newest movement.
    pub newest: Option<String>,
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

/// A movement in the ledger of the shop: its reference and its difference.
pub type Movement = (Option<String>, i64);

/// Writes of one kind that make a row each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    /// Rows of writes that the server acknowledged, which are in the shop once each.
    pub acknowledged: u64,
    /// Writes of unknown outcome that were done.
    pub unknown_done: u64,
    /// Writes of unknown outcome that were not done.
    pub unknown_not_done: u64,
}

/// The result of the audit that the server ran, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit {
    /// The server does not have an audit.
    Absent,
    /// Nothing is wrong.
    Clean,
    /// What is wrong.
    Findings(Vec<String>),
}

/// The result of the comparison.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The number of SKUs that were compared.
    pub skus: u64,
    /// The number of products that were compared.
    pub products: u64,
    /// Orders of this run.
    pub orders: Rows,
    /// Reviews of this run.
    pub reviews: Rows,
    /// Edits that the server acknowledged.
    pub edits: u64,
    /// Edits of unknown outcome.
    pub unknown_edits: u64,
    /// Movements since the start that do not belong to orders of this run.
    pub foreign: u64,
    /// The audit of the server; `None` if it was not asked.
    pub audit: Option<Audit>,
    /// Every difference that was found. It should be empty.
    pub problems: Vec<String>,
}

impl Findings {
    /// Compares the orders that were sent with those that were placed since the start.
    pub fn orders(&mut self, sent: &BTreeMap<u64, (Lines, Outcome)>, placed: &[Placed]) {
        let found = placed.iter().filter_map(|p| Some((p.ours?, p.id.clone())));
        let outcomes = sent.iter().map(|(n, (_, outcome))| (*n, outcome.clone())).collect();
        self.orders = self.rows("order", &outcomes, found);
        for order in placed {
            let told = order.ours.and_then(|n| sent.get(&n));
            if let Some((lines, _)) = told.filter(|(lines, _)| *lines != order.lines) {
                self.problems
                    .push(format!("order {}: {:?} was ordered, but it has {:?}", order.number, lines, order.lines));
            }
        }
    }

    /// Compares the reviews that were sent with those that were written since the start.
    pub fn reviews(&mut self, sent: &BTreeMap<u64, Outcome>, written: &[(u64, String)]) {
        self.reviews = self.rows("review", sent, written.iter().cloned());
    }

    fn rows(&mut self, what: &str, sent: &BTreeMap<u64, Outcome>, there: impl Iterator<Item = (u64, String)>) -> Rows {
        let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (n, id) in there {
            found.entry(n).or_default().push(id);
        }
        let mut rows = Rows::default();
        for (n, outcome) in sent {
            let ids = found.remove(n).unwrap_or_default();
            match (outcome, ids.as_slice()) {
                (Outcome::Acknowledged(id), [one]) if one == id => rows.acknowledged += 1,
                (Outcome::Unknown, [_]) => rows.unknown_done += 1,
                (Outcome::Unknown, []) => rows.unknown_not_done += 1,
                (Outcome::Refused, []) => {}
                (outcome, ids) => self.problems.push(format!("{what} {n} ({outcome:?}) is in the shop as {ids:?}")),
            }
        }
        for (n, ids) in found {
            self.problems.push(format!("the shop has {what} {n}, which was not sent: {ids:?}"));
        }
        rows
    }

    /// Compares a SKU with the movements since the start and the stock on hand now. `sold` has the pieces that each
    /// order of this run sells, by the number of the order.
    pub fn stock(&mut self, sku: &str, told: &Stock, sold: &BTreeMap<&str, i64>, movements: &[Movement], on_hand: i64) {
        self.skus += 1;
        let mut open = sold.clone();
        for (reference, delta) in movements {
            let order = reference.as_deref().filter(|number| sold.contains_key(number));
            let Some(number) = order else {
                self.foreign += 1;
                continue;
            };
            match open.remove(number) {
                Some(quantity) if -quantity == *delta => {}
                wanted => {
                    self.problems.push(format!("SKU {sku}: {delta:+} for order {number}, which sells {wanted:?}"))
                }
            }
        }
        for (number, quantity) in open {
            self.problems.push(format!("SKU {sku}: order {number} sells {quantity}, without a movement"));
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

    /// Adds the result of the audit.
    pub fn audit(&mut self, audit: Audit) {
        if let Audit::Findings(found) = &audit {
            self.problems.extend(found.iter().map(|what| format!("audit: {what}")));
        }
        self.audit = Some(audit);
    }
}

/// The newest rows of the shop at the start.
#[derive(Clone, Debug, Default)]
pub struct Newest {
    /// The newest order.
    pub order: Option<String>,
    /// The newest review.
    pub review: Option<String>,
}

/// Records the writes that were sent and acknowledged, while the load runs.
#[derive(Debug, Default)]
pub struct Ledger {
    newest: Mutex<Newest>,
    stocks: Mutex<BTreeMap<String, Stock>>,
    orders: Mutex<BTreeMap<u64, (Lines, Outcome)>>,
    reviews: Mutex<BTreeMap<u64, Outcome>>,
    edits: Mutex<BTreeMap<String, Edits>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Records the newest rows at the start.
    pub fn begin(&self, newest: Newest) {
        *lock(&self.newest) = newest;
    }

    /// Records the state of a SKU at the start.
    pub fn begin_stock(&self, sku: &str, start: i64, newest: Option<String>) {
        lock(&self.stocks).insert(sku.to_owned(), Stock { start, newest });
    }

    /// Records the state of a product at the start.
    pub fn begin_product(&self, product: &str, start: i64) {
        lock(&self.edits).insert(product.to_owned(), Edits { start, ..Edits::default() });
    }

    /// Records an order as unknown before it is sent, so that it remains unknown if the user is stopped before the
    /// answer arrives.
    pub fn order_sent(&self, number: u64, lines: Lines) {
        lock(&self.orders).insert(number, (lines, Outcome::Unknown));
    }

    /// Records the outcome of an order.
    pub fn order_ended(&self, number: u64, outcome: Outcome) {
        if let Some(sent) = lock(&self.orders).get_mut(&number) {
            sent.1 = outcome;
        }
    }

    /// Records a review: as unknown before it is sent, and its outcome.
    pub fn review(&self, number: u64, outcome: Outcome) {
        lock(&self.reviews).insert(number, outcome);
    }

    /// Records an edit before it is sent.
    pub fn edit_sent(&self, product: &str) {
        if let Some(e) = lock(&self.edits).get_mut(product) {
            e.unknown += 1;
        }
    }

    /// Records the outcome of an edit.
    pub fn edit_ended(&self, product: &str, outcome: &Outcome) {
        if let Some(e) = lock(&self.edits).get_mut(product) {
            match outcome {
                Outcome::Unknown => {}
                Outcome::Acknowledged(_) => {
                    e.unknown -= 1;
                    e.acknowledged += 1;
                }
                Outcome::Refused => e.unknown -= 1,
            }
        }
    }

    /// Returns the newest rows at the start.
    pub fn newest(&self) -> Newest {
        lock(&self.newest).clone()
    }

    /// Returns the SKUs that are sold.
    pub fn stocks(&self) -> Vec<(String, Stock)> {
        lock(&self.stocks).iter().map(|(id, s)| (id.clone(), s.clone())).collect()
    }

    /// Returns the orders that were sent.
    pub fn orders(&self) -> BTreeMap<u64, (Lines, Outcome)> {
        lock(&self.orders).clone()
    }

    /// Returns the reviews that were sent.
    pub fn reviews(&self) -> BTreeMap<u64, Outcome> {
        lock(&self.reviews).clone()
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

    fn lines(quantity: i64) -> Lines {
        Lines::from([("sku".to_owned(), quantity)])
    }

    fn placed(ours: u64, id: &str, quantity: i64) -> Placed {
        Placed { ours: Some(ours), id: id.to_owned(), number: format!("ORD-{id}"), lines: lines(quantity) }
    }

    fn orders(found: &[Placed]) -> Findings {
        let sent = [
            (1, (lines(2), Outcome::Acknowledged("a".to_owned()))),
            (2, (lines(1), Outcome::Refused)),
            (3, (lines(1), Outcome::Unknown)),
        ];
        let mut f = Findings::default();
        f.orders(&sent.into(), found);
        f
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_is_unknown_may_be() {
        let f = orders(&[placed(1, "a", 2)]);
        assert_eq!((f.orders.acknowledged, f.orders.unknown_not_done, f.problems.len()), (1, 1, 0));
        let foreign = Placed { ours: None, ..placed(0, "x", 9) };
        let f = orders(&[placed(1, "a", 2), placed(3, "c", 1), foreign]);
        assert_eq!((f.orders.unknown_done, f.problems.len()), (1, 0));
    }

    #[test]
    fn a_shop_that_is_wrong_is_caught() {
        for found in [
            vec![],                                     // lost
            vec![placed(1, "a", 2), placed(1, "b", 2)], // placed twice
            vec![placed(1, "b", 2)],                    // another order
            vec![placed(1, "a", 1)],                    // another quantity
            vec![placed(1, "a", 2), placed(2, "b", 1)], // refused and placed
            vec![placed(1, "a", 2), placed(9, "b", 1)], // never sent
        ] {
            assert_eq!(orders(&found).problems.len(), 1, "{found:?}");
        }
    }

    #[test]
    fn stock_follows_the_orders() {
        let sold = BTreeMap::from([("ORD-1", 2)]);
        let order = |n: i64| (Some("ORD-1".to_owned()), n);
        for (movements, on_hand, problems) in [
            (vec![order(-2)], 3, 0),
            (vec![order(-2), (None, 4)], 7, 0),
            (vec![], 5, 1),                     // an order without a movement
            (vec![order(-2), order(-2)], 1, 1), // taken twice
            (vec![order(-1)], 4, 1),            // another quantity
            (vec![order(-2)], 5, 1),            // the ledger has it, the stock does not
        ] {
            let mut f = Findings::default();
            f.stock("a", &Stock { start: 5, newest: None }, &sold, &movements, on_hand);
            assert_eq!(f.problems.len(), problems, "{movements:?} {on_hand} {:?}", f.problems);
        }
    }

    #[test]
    fn a_finding_of_the_audit_is_a_problem() {
        let mut f = Findings::default();
        f.audit(Audit::Clean);
        assert!(f.problems.is_empty());
        f.audit(Audit::Findings(vec!["a sum is wrong".to_owned()]));
        assert_eq!(f.problems, ["audit: a sum is wrong"]);
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
        assert!(ledger.products().is_empty());
        ledger.edit_sent("p");
        ledger.order_sent(1, lines(1));
        assert_eq!(ledger.products()[0].1.unknown, 1);
        assert_eq!(ledger.orders()[&1].1, Outcome::Unknown);
        ledger.edit_ended("p", &Outcome::Acknowledged("p".to_owned()));
        assert_eq!((ledger.products()[0].1.unknown, ledger.products()[0].1.acknowledged), (0, 1));
        ledger.order_ended(1, Outcome::Refused);
        assert_eq!(ledger.orders()[&1].1, Outcome::Refused);
    }
}
