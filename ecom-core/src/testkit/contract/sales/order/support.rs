//! Values and calls of the tests of orders.

use std::sync::Arc;

use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::sales::customer::Customer;
use crate::domain::sales::order::{ChangeKind, Order, OrderRecord};
use crate::error::Result;
use crate::id::OrderId;
use crate::port::storage::Storage;
use crate::testkit::sample::Env;

/// Stores products with one SKU at 1.00.
pub(super) async fn products(env: &Env, storage: &Arc<dyn Storage>, count: usize) -> Vec<Product> {
    let products: Vec<Product> = (0..count).map(|n| env.priced(&format!("Lamp {n}"), 100, 1_000)).collect();
    env.insert_products(storage, &products).await.unwrap();
    products
}

pub(super) async fn customer(env: &Env, storage: &Arc<dyn Storage>, email: &str) -> Customer {
    let customer = env.customer("Ada", "L", email);
    env.insert_customers(storage, std::slice::from_ref(&customer), &[]).await.unwrap();
    customer
}

pub(super) async fn get(storage: &Arc<dyn Storage>, id: OrderId) -> Option<Order> {
    read!(storage, orders.get(id, IncludeDeleted::No))
}

/// Returns an order with everything that belongs to it.
pub(super) async fn record(storage: &Arc<dyn Storage>, id: OrderId) -> Option<OrderRecord> {
    read!(storage, orders.records(&[id])).pop()
}

/// Returns the order after an edit.
pub(super) fn edited(env: &Env, record: &OrderRecord) -> OrderRecord {
    let mut after = record.clone();
    after.order.audit.edited(env.now(), &env.actor);
    after
}

/// Returns the order and its bills, soft-deleted now.
pub(super) fn deleted(env: &Env, record: &OrderRecord) -> OrderRecord {
    let mut after = record.clone();
    after.order.audit = env.deleted(&record.order.audit);
    for bill in &mut after.bills {
        bill.audit = env.deleted(&bill.audit);
        bill.audit.deleted_at = after.order.audit.deleted_at;
    }
    after
}

/// Updates `before` to `after` in a new unit of work.
pub(super) async fn update(
    env: &Env,
    storage: &Arc<dyn Storage>,
    before: &OrderRecord,
    after: &OrderRecord,
) -> Result<()> {
    let change = env.order_change(after, ChangeKind::Edited);
    attempt!(storage, orders.update(before, after, &change))
}
