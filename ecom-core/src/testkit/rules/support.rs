//! Inputs and assertions that several topics use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::{Category, CategoryInput};
use crate::domain::catalog::product::{Product, ProductFilter, ProductInput};
use crate::domain::common::ExpectedVersion;
use crate::domain::stock::inventory::StockAdjustment;
use crate::domain::stock::inventory::StockReason;
use crate::error::{Conflict, Error, FieldCode, Result};
use crate::id::{CategoryId, SkuId};

/// Reads an input from JSON text, as a client sends it, so that decimals stay exact.
pub(super) fn from<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

/// Returns the principal of the tests.
pub(super) fn me() -> &'static Principal {
    static ME: LazyLock<Principal> = LazyLock::new(|| Principal::trusted("user:testkit"));
    &ME
}

pub(super) fn v(version: i64) -> ExpectedVersion {
    ExpectedVersion::Exact(version)
}

pub(super) fn flat(title: &str) -> ProductInput {
    from(&json!({ "title": title, "price": "9.99", "stock": 10 }))
}

pub(super) fn flat_in(title: &str, categories: &[&Category]) -> ProductInput {
    let ids = categories.iter().map(|c| c.id.to_string()).collect();
    ProductInput { categories: Some(ids), ..flat(title) }
}

pub(super) fn titles<'p>(products: impl Iterator<Item = &'p Product>) -> Vec<String> {
    let mut titles: Vec<String> = products.map(|p| p.title.clone()).collect();
    titles.sort();
    titles
}

pub(super) fn category_input(name: &str, parent: Option<CategoryId>) -> CategoryInput {
    CategoryInput { name: name.to_owned(), parent_id: parent.map(|p| p.to_string()), ..CategoryInput::default() }
}

pub(super) fn adjustment(sku_id: SkuId, delta: i64) -> StockAdjustment {
    StockAdjustment { sku_id, delta, reason: StockReason::Received, reference: None }
}

pub(super) fn in_category(id: CategoryId) -> ProductFilter {
    ProductFilter { category: Some(id), ..ProductFilter::default() }
}

pub(super) fn conflict<T: fmt::Debug>(result: Result<T>, what: &str) -> Conflict {
    match result {
        Err(Error::Conflict(c)) => *c,
        other => panic!("{what}: the call must fail with a conflict, but returns {other:?}"),
    }
}

/// Returns the fields of a validation error, with their codes.
pub(super) fn fields<T: fmt::Debug>(result: Result<T>, what: &str) -> BTreeMap<String, FieldCode> {
    match result {
        Err(Error::Validation(e)) => {
            assert!(!e.0.is_empty(), "{what}: the error must name at least one field");
            assert!(e.0.iter().all(|f| !f.message.is_empty()), "{what}: {e:?}");
            e.0.into_iter().map(|f| (f.field, f.code)).collect()
        }
        other => panic!("{what}: the call must fail with a validation error, but returns {other:?}"),
    }
}

/// How long the rules wait for what must happen. It is not a measure: the machine may be slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "this must happen, and has not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The time of a lease that does not expire in a test, unless the test advances the clock.
pub(super) const LONG: Duration = Duration::from_secs(60);
