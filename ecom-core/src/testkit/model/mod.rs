//! A random history of a shop, checked step by step against a model that is written for this test.
//!
//! [`run`] drives a [`Shop`] over any storage with a mix of calls that all come from one seed. It writes, moves,
//! deletes and restores products, SKUs, categories, stock, customers, addresses, reviews and carts; it places, edits,
//! bills, cancels and deletes orders; it sends stale versions, names that are taken in another case or width, bad inputs and references to rows that are gone; it filters, sorts and pages
//! lists. The model predicts the answer of each call, value by value, or the reasons for which the call may be refused.
//! At intervals, all that is stored is compared with the model. The clock and the ids come from the seed too, so the
//! same seed leaves the same state on every database; [`Report::digest`] is a digest of that state.
//!
//! The model implements the rules of `docs/rules.md` on its own. It shares with the services only the pure functions
//! that define a key, a slug, a final price and a merge ([`fold_key`](crate::text::fold_key),
//! [`Slug`](crate::text::Slug), [`Sku::final_price`](crate::catalog::Sku::final_price),
//! [`Attributes::merge`](crate::common::Attributes::merge)).
//!
//! # Adding an operation
//! An operation is a method of `Runner` and one row in the `OPERATIONS` of its aggregate's file. Its probability is its
//! weight divided by the sum of all weights.
//!
//! # Adding an aggregate
//! An aggregate is one file (`category.rs` is an example) with a struct for its rows, its operations and a method that
//! compares all of its rows with the shop, and three lines: the module, an entry of `PARTS` and a field of
//! `World`, all in this file.

mod analytics;
mod cart;
mod category;
mod comparison;
mod customer;
mod generator;
mod inventory;
mod order;
mod process;
mod product;
mod review;
mod shared;
mod sku;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use serde::Serialize;
use uuid::Uuid;

pub use self::analytics::sales_histories;
use self::cart::Carts;
use self::category::Categories;
use self::comparison::{Checked, hash_of};
use self::customer::Customers;
use self::inventory::Moved;
use self::order::Orders;
use self::product::Products;
use super::shop::MakeCache;
use crate::clock::{Clock as _, ManualClock, Timestamp};
use crate::domain::catalog::review::Review;
use crate::domain::catalog::sku::Sku;
use crate::id::{ReviewId, SkuId, UuidV7Source};
use crate::port::storage::Storage;
use crate::shop::Shop;

/// 2026-01-02 03:04:05.678901 UTC.
const START_MICROS: i64 = 1_767_323_045_678_901;

/// Each part of the history, in the order in which they are compared.
const PARTS: &[Part] = &[
    category::PART,
    product::PART,
    sku::PART,
    inventory::PART,
    customer::PART,
    review::PART,
    cart::PART,
    order::PART,
    process::PART,
];

/// The rows of every aggregate, deleted ones too. Values that follow from other rows are not kept: the SKUs and the
/// category summaries of a product, the path and the counts of a category.
#[derive(Debug, Default)]
struct World {
    categories: Categories,
    products: Products,
    skus: BTreeMap<SkuId, Sku>,
    customers: Customers,
    /// Each review as if its product was live.
    reviews: BTreeMap<ReviewId, Review>,
    carts: Carts,
    orders: Orders,
    ledger: BTreeMap<SkuId, Vec<Moved>>,
    /// All ids that the shop has given to rows.
    ids: HashSet<Uuid>,
}

impl World {
    /// Records the id of a new row, which must differ from all ids before it.
    fn is_new(&mut self, id: Uuid) -> Checked<()> {
        if self.ids.insert(id) { Ok(()) } else { Err(format!("{id} is an old id")) }
    }
}

/// The parameters of a history.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed of all random choices, of the clock and of the ids.
    pub seed: u64,
    /// How many operations are done. A shorter history is the beginning of a longer one with the same seed.
    pub operations: u64,
    /// All that is stored is compared each time that so many operations are done, and at the end.
    pub check_every: u64,
}

/// The result of a history in which the shop did what the model predicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// A digest of every answer and of the whole state at the end: all rows and the ledger, with ids, times, versions
    /// and revisions.
    pub digest: String,
    /// How often each operation succeeded. An operation of [`operations`] that is not in it never did.
    pub done: BTreeMap<&'static str, u64>,
    /// How often each operation was refused with which error code, as the model predicts.
    pub refused: BTreeMap<(&'static str, &'static str), u64>,
}

/// The first difference between the shop and the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The seed that replays the history.
    pub seed: u64,
    /// How many operations replay the history up to the difference.
    pub operations: u64,
    /// The operation that differs, with its parameters.
    pub operation: String,
    /// The difference between the answer and the prediction.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, operations, operation, what } = self;
        write!(f, "seed {seed}, operation {operations}: {operation}: {what}\nreplay it with ")?;
        write!(f, "ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}")
    }
}

impl std::error::Error for Divergence {}

/// Returns the names of all operations that a history is made of.
pub fn operations() -> impl Iterator<Item = &'static str> {
    all_operations().map(|o| o.name)
}

/// Runs a history on an empty, migrated storage. Each process that the history starts gets a cache from `caches`.
///
/// # Errors
/// The first answer or stored state that differs from the model.
pub async fn run(storage: Arc<dyn Storage>, caches: &MakeCache, options: &Options) -> Result<Report, Divergence> {
    let mut runner = Runner::new(storage, caches, options.seed);
    let mut done = 0;
    let outcome = async {
        while done < options.operations {
            done += 1;
            runner.step().await?;
            if done % options.check_every == 0 {
                runner.compare_all().await?;
            }
        }
        runner.at_end = true;
        runner.compare_all().await
    }
    .await;
    match outcome {
        Ok(()) => Ok(Report {
            digest: format!("{:016x}", runner.digest.finish()),
            done: runner.done,
            refused: runner.refused,
        }),
        Err(what) => Err(Divergence { seed: options.seed, operations: done, operation: runner.operation, what }),
    }
}

/// A method of the runner that compares something with the model.
type Action = for<'r> fn(&'r mut Runner<'_>) -> BoxFuture<'r, Checked<()>>;

/// The operations on one aggregate and the comparison of its rows.
struct Part {
    operations: &'static [Operation],
    compare: Action,
}

/// One row of the table from which each step of the history is drawn.
struct Operation {
    /// The name by which [`Report`] counts it.
    name: &'static str,
    /// Its probability in relation to the other operations. 0 means never in this state of the world.
    weight: fn(&World) -> u32,
    run: Action,
}

fn all_operations() -> impl Iterator<Item = &'static Operation> {
    PARTS.iter().flat_map(|part| part.operations)
}

/// The shop under test, the model, and the history so far.
struct Runner<'a> {
    storage: Arc<dyn Storage>,
    caches: &'a MakeCache,
    clock: Arc<ManualClock>,
    ids: Arc<UuidV7Source>,
    shop: Shop,
    world: World,
    rng: StdRng,
    /// The name of the current operation.
    kind: &'static str,
    /// The current operation with its parameters, for [`Divergence::operation`].
    operation: String,
    /// Whether the current operation was refused.
    is_refused: bool,
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<(&'static str, &'static str), u64>,
    digest: DefaultHasher,
    /// Whether the last operation is done, so that the comparison also writes the digest.
    at_end: bool,
    /// Whether this history grows deep trees of categories, which some histories do.
    deep: bool,
}

impl<'a> Runner<'a> {
    fn new(storage: Arc<dyn Storage>, caches: &'a MakeCache, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_micros(START_MICROS));
        let ids = Arc::new(UuidV7Source::seeded(clock.clone(), seed));
        let shop = process::open(&storage, caches, &clock, &ids);
        Self {
            storage,
            caches,
            clock,
            ids,
            shop,
            world: World::default(),
            rng: StdRng::seed_from_u64(seed),
            kind: "",
            operation: String::new(),
            is_refused: false,
            done: BTreeMap::new(),
            refused: BTreeMap::new(),
            digest: DefaultHasher::new(),
            at_end: false,
            deep: seed % 4 == 3,
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does one operation, drawn from the table by weight.
    async fn step(&mut self) -> Checked<()> {
        self.clock.advance(Duration::from_millis(1));
        let table: Vec<(&Operation, u32)> = all_operations().map(|o| (o, (o.weight)(&self.world))).collect();
        let (operation, _) = *table.choose_weighted(&mut self.rng, |(_, weight)| *weight).unwrap();
        self.kind = operation.name;
        self.is_refused = false;
        (operation.run)(self).await?;
        if !self.is_refused {
            *self.done.entry(self.kind).or_default() += 1;
        }
        Ok(())
    }

    /// Records the parameters of the current operation before its call.
    fn begins(&mut self, parameters: impl Debug) {
        self.operation = format!("{} {parameters:?}", self.kind);
        self.operation.hash(&mut self.digest);
    }

    /// Compares all that is stored with the model.
    async fn compare_all(&mut self) -> Checked<()> {
        "comparing all that is stored".clone_into(&mut self.operation);
        for part in PARTS {
            (part.compare)(self).await?;
        }
        Ok(())
    }

    /// Adds a stored value to the digest if the history is at its end.
    fn digest_at_end(&mut self, stored: &impl Serialize) {
        if self.at_end {
            hash_of(stored).hash(&mut self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::operations;

    #[test]
    fn operations_have_different_names() {
        assert_eq!(operations().collect::<BTreeSet<_>>().len(), operations().count());
    }
}
