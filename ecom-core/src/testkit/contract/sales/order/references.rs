//! What is unique, and what orders refer to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::support::{customer, deleted, edited, get, products, record, update};
use crate::domain::common::{ExternalRef, IncludeDeleted};
use crate::domain::sales::bill::BillKind;
use crate::domain::sales::order::{OrderRecord, Totals};
use crate::error::{Conflict, Error, FieldCode, Result, SalesConflict};
use crate::id::{CartId, CustomerId, IdSource as _, ProductId, SkuId};
use crate::money::Currency;
use crate::port::storage::Storage;
use crate::testkit::is_taken;
use crate::testkit::sample::Env;

tests! {
    __order_references: [
        r43_numbers_are_unique_for_ever,
        r20_a_cart_makes_one_order,
        external_references_of_live_orders_are_unique,
        references_to_nobody_are_refused,
        an_order_needs_no_cart_and_no_product,
        r05_what_was_sold_is_not_purged,
        r05_a_purge_removes_what_was_never_sold,
        r05_what_was_sold_is_found,
    ]
}

/// Changes an order before it is inserted.
fn with(env: &Env, change: impl FnOnce(&mut OrderRecord)) -> OrderRecord {
    let mut record = env.order();
    change(&mut record);
    record
}

/// The numbers of orders are unique, and those of bills and credit notes together. Soft-deleted orders keep theirs.
pub async fn r43_numbers_are_unique_for_ever(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let gone = deleted(&env, &env.order());
    let mut noted = env.order();
    let mut note = env.bill(&noted.order, BillKind::CreditNote, 1);
    note.corrects = Some(noted.bills[0].id);
    noted.bills.push(note);
    env.insert_orders(storage, &[gone.clone(), noted.clone()]).await.unwrap();
    for taken in [&gone.order.number, &noted.order.number] {
        let twin = with(&env, |r| r.order.number.clone_from(taken));
        is_taken("number", env.insert_orders(storage, &[twin.clone()]).await, "the number of an order");
        assert_eq!(get(storage, twin.order.id).await, None, "an insert that is refused stores nothing");
    }
    for taken in [&gone.bills[0].number, &noted.bills[0].number, &noted.bills[1].number] {
        let twin = with(&env, |r| r.bills[0].number.clone_from(taken));
        is_taken("bill_number", env.insert_orders(storage, &[twin.clone()]).await, "the number of a bill");
        assert_eq!(get(storage, twin.order.id).await, None, "an insert that is refused stores nothing");
        let mut after = edited(&env, &noted);
        let mut bill = env.bill(&noted.order, BillKind::Bill, 2);
        bill.number.clone_from(taken);
        after.bills.push(bill);
        is_taken("bill_number", update(&env, storage, &noted, &after).await, "the number of a bill that is added");
        assert_eq!(record(storage, noted.order.id).await.as_ref(), Some(&noted), "a refused update changes nothing");
    }
    // Numbers are compared bytewise, and an order may have the number of a bill.
    let lower = with(&env, |r| r.order.number = gone.order.number.to_lowercase());
    let other = with(&env, |r| r.order.number.clone_from(&gone.bills[0].number));
    env.insert_orders(storage, &[lower, other]).await.unwrap();
    let twins =
        [with(&env, |r| "X".clone_into(&mut r.order.number)), with(&env, |r| "X".clone_into(&mut r.order.number))];
    is_taken("number", env.insert_orders(storage, &twins).await, "two equal numbers in one call");
    assert_eq!(get(storage, twins[0].order.id).await, None, "a call that is refused stores none of its rows");
}

/// A soft-deleted order keeps its cart.
pub async fn r20_a_cart_makes_one_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for is_deleted in [false, true] {
        let cart = Some(CartId(env.ids.next()));
        let mut first = with(&env, |r| r.order.cart_id = cart);
        if is_deleted {
            first = deleted(&env, &first);
        }
        env.insert_orders(storage, &[first]).await.unwrap();
        let second = with(&env, |r| r.order.cart_id = cart);
        is_taken("cart_id", env.insert_orders(storage, &[second]).await, "a second order of a cart");
    }
    env.insert_orders(storage, &[env.order(), env.order()]).await.expect("many orders have no cart");
}

/// The reference of a soft-deleted order is free, and a restore into a taken one is refused.
pub async fn external_references_of_live_orders_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let imported = |source: &str, id: &str| with(&env, |r| r.order.external = Some(ExternalRef::new(source, id)));
    let first = imported("shop", "1");
    let all = [first.clone(), imported("shop", "2"), imported("SHOP", "1"), imported("shop", "É")];
    env.insert_orders(storage, &all).await.unwrap();
    is_taken("external_id", env.insert_orders(storage, &[imported("shop", "1")]).await, "an insert");
    let mut after = edited(&env, &all[1]);
    after.order.external.clone_from(&first.order.external);
    is_taken("external_id", update(&env, storage, &all[1], &after).await, "an update");
    let hidden = deleted(&env, &first);
    update(&env, storage, &first, &hidden).await.unwrap();
    env.insert_orders(storage, &[imported("shop", "1")]).await.expect("the reference of a soft-deleted order is free");
    let mut back = edited(&env, &hidden);
    back.order.audit.deleted_at = None;
    is_taken("external_id", update(&env, storage, &hidden, &back).await, "a restore");
}

/// An order refers to a customer and its lines to SKUs that exist.
pub async fn references_to_nobody_are_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let refused = |result: Result<()>, field: &str| match result {
        Err(Error::Validation(e)) => {
            let named: Vec<_> = e.0.iter().map(|f| (f.field.as_str(), f.code)).collect();
            assert_eq!(named, [(field, FieldCode::ReferenceNotFound)]);
        }
        other => panic!("{field}: {other:?}"),
    };
    let of_nobody = with(&env, |r| r.order.customer_id = Some(CustomerId(env.ids.next())));
    refused(env.insert_orders(storage, &[of_nobody]).await, "customer_id");
    let mut of_nothing = env.order_of(&lamp, 1);
    of_nothing.order.lines[0].sku_id = Some(SkuId(env.ids.next()));
    refused(env.insert_orders(storage, &[of_nothing.clone()]).await, "sku_id");
    assert_eq!(get(storage, of_nothing.order.id).await, None, "all or nothing");
    let order = env.order_of(&lamp, 1);
    env.insert_orders(storage, &[order.clone()]).await.unwrap();
    let mut after = edited(&env, &order);
    after.order.lines.push(of_nothing.order.lines[0].clone());
    after.order.lines[1].order_id = order.order.id;
    after.order.lines[1].position = 2;
    refused(update(&env, storage, &order, &after).await, "sku_id");
    assert_eq!(record(storage, order.order.id).await, Some(order), "all or nothing");
}

/// Carts are removed some day, and the SKU of a line holds its product: neither is a reference of its own.
pub async fn an_order_needs_no_cart_and_no_product(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let mut order = env.order_of(&lamp, 1);
    order.order.cart_id = Some(CartId(env.ids.next()));
    order.order.lines[0].product_id = Some(ProductId(env.ids.next()));
    env.insert_orders(storage, &[order.clone()]).await.unwrap();
    assert_eq!(record(storage, order.order.id).await, Some(order));
}

fn has_sales(result: Result<()>, what: &str) {
    match result {
        Err(Error::Conflict(c)) if matches!(*c, Conflict::Sales(SalesConflict::HasSales { .. })) => {}
        other => panic!("{what}: the call must fail with `HAS_SALES`, but returns {other:?}"),
    }
}

/// The SKUs, products and customers of orders are refused, even if the order is soft-deleted, and lose nothing.
pub async fn r05_what_was_sold_is_not_purged(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let ada = customer(&env, storage, "ada@example.com").await;
    let home = env.address(&ada, "Home", "Town");
    env.insert_customers(storage, &[], &[home.clone()]).await.unwrap();
    let mut order = deleted(&env, &env.order_of(&lamp, 1));
    order.order.customer_id = Some(ada.id);
    order.order.lines[0].quantity = 0;
    order.order.lines[0].totals = env.order().order.totals;
    env.insert_orders(storage, &[order.clone()]).await.unwrap();
    let sku = &lamp.skus[0];
    has_sales(attempt!(storage, skus.purge(sku.id)), "a SKU of an order");
    has_sales(attempt!(storage, products.purge(&lamp)), "a product of an order");
    has_sales(attempt!(storage, customers.purge(ada.id)), "a customer of an order");
    assert_eq!(read!(storage, skus.get(sku.id, IncludeDeleted::Yes)).as_ref(), Some(sku));
    assert_eq!(read!(storage, inventory.count_movements(sku.id)), 1, "the ledger stays");
    assert_eq!(read!(storage, addresses.get(home.id, IncludeDeleted::Yes)), Some(home), "the addresses stay");
    assert_eq!(record(storage, order.order.id).await, Some(order));
}

/// Orders of others are no obstacle.
pub async fn r05_a_purge_removes_what_was_never_sold(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 3).await;
    let (ada, bob) =
        (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await);
    let mut order = env.order_of(&products[0], 1);
    order.order.customer_id = Some(ada.id);
    env.insert_orders(storage, &[order.clone()]).await.unwrap();
    attempt!(storage, skus.purge(products[1].skus[0].id)).unwrap();
    attempt!(storage, products.purge(&products[2])).unwrap();
    attempt!(storage, customers.purge(bob.id)).unwrap();
    assert_eq!(record(storage, order.order.id).await, Some(order));
}

/// Lines without units and lines of soft-deleted orders count too.
pub async fn r05_what_was_sold_is_found(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 4).await;
    let twice = [env.order_of(&products[0], 1), env.order_of(&products[0], 2)];
    let mut removed = env.order_of(&products[1], 1);
    removed.order.lines[0].quantity = 0;
    removed.order.lines[0].totals = Totals::of(0, 0, Currency::USD);
    let gone = deleted(&env, &env.order_of(&products[3], 1));
    env.insert_orders(storage, &[twice[0].clone(), twice[1].clone(), removed, gone]).await.unwrap();
    let skus: Vec<SkuId> = products.iter().map(|p| p.skus[0].id).collect();
    let asked = [skus[3], skus[0], SkuId(env.ids.next()), skus[2], skus[1]];
    let found = read!(storage, orders.sold_skus(&asked));
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([skus[0], skus[1], skus[3]]));
    assert_eq!(found.len(), 3, "each is returned once");
    let ids: Vec<ProductId> = products.iter().map(|p| p.id).chain([ProductId(env.ids.next())]).collect();
    let found = read!(storage, orders.sold_products(&ids));
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([ids[0], ids[1], ids[3]]));
    assert_eq!(found.len(), 3, "each is returned once");
    assert_eq!(read!(storage, orders.sold_skus(&[])), []);
    assert_eq!(read!(storage, orders.sold_products(&[])), []);
}
