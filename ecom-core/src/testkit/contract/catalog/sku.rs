//! The contract of [`SkuRepository`](crate::port::SkuRepository).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::catalog::product::Product;
use crate::domain::catalog::sku::Sku;
use crate::domain::common::{Attributes, ExternalRef, IncludeDeleted};
use crate::domain::stock::inventory::StockImbalance;
use crate::error::ErrorCode;
use crate::id::{IdSource as _, SkuId};
use crate::port::storage::Storage;
use crate::testkit::sample::{Env, usd};
use crate::testkit::{code_of, is_taken};
use crate::text::{Slug, fold_key};

suite! {
    /// Runs the suite of [`SkuRepository`](crate::port::SkuRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    sku_suite, sku: fixture => &fixture.storage, __sku_tests: [
        every_field_survives_a_round_trip,
        every_field_but_stock_is_updated,
        skus_of_a_product_come_by_position,
        a_sku_is_found_by_its_code_in_any_case,
        skus_are_found_by_barcode,
        codes_are_looked_up_in_bulk,
        codes_are_unique_whatever_their_case_and_width,
        external_references_are_unique,
        taken_codes_are_the_bases_and_their_numbers_and_nothing_else,
        r01_an_update_from_an_old_version_changes_nothing,
        r02_soft_deleted_skus_are_hidden_unless_asked_for,
        r02_the_soft_deleted_skus_of_products_are_read_at_once,
        r02_a_code_is_free_again_after_soft_delete,
        r02_a_restore_into_a_taken_code_is_refused,
        r05_purge_removes_the_sku_and_its_ledger,
        r11_an_update_never_writes_stock,
        r11_opening_rows_explain_the_first_stock,
        many_skus_are_inserted_at_once,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: SkuId) -> Option<Sku> {
    read!(storage, skus.get(id, IncludeDeleted::No))
}

/// Stores and returns a product with SKUs that have these codes.
async fn product_with(env: &Env, storage: &Arc<dyn Storage>, title: &str, codes: &[&str]) -> Product {
    let mut p = env.product(title);
    for code in codes {
        env.add_sku(&mut p, code, 1_000, 10);
    }
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    p
}

fn edited(env: &Env, sku: &Sku) -> Sku {
    let mut s = sku.clone();
    s.audit.edited(env.now(), &env.actor);
    s
}

/// Updates `before` to `after` under the lock of the product.
async fn update(storage: &Arc<dyn Storage>, before: &Sku, after: &Sku) -> crate::Result<()> {
    let mut uow = storage.begin().await?;
    uow.products().lock(&[before.product_id]).await?;
    uow.skus().update(before, after).await?;
    uow.commit().await
}

async fn soft_delete(env: &Env, storage: &Arc<dyn Storage>, sku: &Sku) -> Sku {
    let after = Sku { audit: env.deleted(&sku.audit), ..sku.clone() };
    update(storage, sku, &after).await.unwrap();
    after
}

/// A SKU with all fields and one without optional fields are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut p = env.product("P");
    p.skus.push(env.full_sku(&p, "FULL-Ä", i64::from(i32::MAX) * 1_000, 1_000_000_000_000));
    env.add_sku(&mut p, "minimal", 0, 0);
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    for sku in &p.skus {
        assert_eq!(get(storage, sku.id).await.as_ref(), Some(sku), "`get` returns every field as it was inserted");
    }
    assert_eq!(get(storage, SkuId(env.ids.next())).await, None, "`get` of an unknown id finds nothing");
}

/// An update sets and clears every field except the stock.
pub async fn every_field_but_stock_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a", "b"]).await;
    let before = &p.skus[0];
    let full = env.full_sku(&p, "new-code", 7, 0);
    let after = Sku { id: before.id, on_hand: 10, reserved: 0, audit: edited(&env, before).audit, position: 5, ..full };
    update(storage, before, &after).await.unwrap();
    assert_eq!(get(storage, before.id).await.as_ref(), Some(&after), "an update writes every field but the stock");
    let emptied = Sku {
        track_stock: true,
        option_values: BTreeMap::new(),
        attributes: Attributes::default(),
        weight: None,
        dimensions: None,
        barcode: None,
        external: None,
        ..edited(&env, &after)
    };
    update(storage, &after, &emptied).await.unwrap();
    assert_eq!(
        get(storage, before.id).await.as_ref(),
        Some(&emptied),
        "an update empties every field that can be empty"
    );
    assert_eq!(get(storage, p.skus[1].id).await.as_ref(), Some(&p.skus[1]), "an update must not change other rows");
}

/// SKUs are ordered by position, in whichever order they were inserted.
pub async fn skus_of_a_product_come_by_position(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut p = env.product("P");
    for n in [3, 0, 2, 1] {
        let sku = Sku { position: n, ..env.sku(&p, &format!("c{n}"), 100, 1) };
        p.skus.push(sku);
    }
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    product_with(&env, storage, "Other", &["other"]).await;
    p.skus.sort_by_key(|s| s.position);
    assert_eq!(
        read!(storage, skus.of_product(p.id, IncludeDeleted::No)),
        p.skus,
        "`of_product` must return the SKUs in the order of their positions"
    );
    let product = read!(storage, products.get(p.id, IncludeDeleted::No)).unwrap();
    assert_eq!(product.skus, p.skus, "a product must have its SKUs in the order of their positions");
}

/// Case and width of a code are ignored, and accents are not.
pub async fn a_sku_is_found_by_its_code_in_any_case(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["Größe-42"]).await;
    for code in ["Größe-42", "GRÖSSE-42", "größe-４２"] {
        assert_eq!(
            read!(storage, skus.get_by_code(code)).as_ref(),
            Some(&p.skus[0]),
            "`get_by_code` must ignore case and width: {code}"
        );
    }
    for code in ["Grosse-42", "Größe-4", "Größe-421", "%", ""] {
        assert_eq!(
            read!(storage, skus.get_by_code(code)),
            None,
            "`get_by_code` must not find a SKU by another code: {code}"
        );
    }
}

/// Several SKUs can have the same barcode.
pub async fn skus_are_found_by_barcode(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut p = env.product("P");
    for n in 0..4 {
        let barcode = (n != 3).then(|| if n == 2 { "4006381333932" } else { "4006381333931" }.to_owned());
        let sku = Sku { barcode, ..env.sku(&p, &format!("c{n}"), 100, 1) };
        p.skus.push(sku);
    }
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    assert_eq!(
        read!(storage, skus.find_by_barcode("4006381333931")),
        p.skus[..2],
        "a barcode finds all SKUs that have it"
    );
    assert_eq!(read!(storage, skus.find_by_barcode("400638133393")), [], "a part of a barcode finds nothing");
    soft_delete(&env, storage, &p.skus[0]).await;
    assert_eq!(
        read!(storage, skus.find_by_barcode("4006381333931")),
        p.skus[1..2],
        "a barcode does not find soft-deleted SKUs"
    );
}

/// The result has the folded code, the id and the product of each live SKU.
pub async fn codes_are_looked_up_in_bulk(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["Code-1", "code-2", "CODE-3"]).await;
    let q = product_with(&env, storage, "Q", &["code-4"]).await;
    soft_delete(&env, storage, &p.skus[2]).await;
    let codes: Vec<String> = ["CODE-1", "code-3", "Code-4", "code", "code-5"].map(str::to_owned).into();
    let mut found = read!(storage, skus.find_by_codes(&codes));
    found.sort();
    assert_eq!(
        found,
        [("code-1".into(), p.skus[0].id, p.id), ("code-4".into(), q.skus[0].id, q.id)],
        "`find_by_codes` returns the folded code, id and product of each live SKU that exists"
    );
    assert_eq!(read!(storage, skus.find_by_codes(&[])), [], "`find_by_codes` of no codes finds nothing");
}

/// Codes are unique among all products.
pub async fn codes_are_unique_whatever_their_case_and_width(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    product_with(&env, storage, "P", &["Ab-1", "Cafe"]).await;
    for (n, code) in ["Ab-1", "AB-1", "ａｂ-１"].iter().enumerate() {
        let mut q = env.product(&format!("Q {n}"));
        env.add_sku(&mut q, code, 100, 1);
        is_taken("code", env.insert_products(storage, std::slice::from_ref(&q)).await, code);
        assert_eq!(
            read!(storage, products.get(q.id, IncludeDeleted::Yes)),
            None,
            "an insert whose SKU is refused must not store the product either"
        );
    }
    product_with(&env, storage, "Accents", &["Café"]).await;
    let r = product_with(&env, storage, "R", &["r-1"]).await;
    let renamed = Sku { code: "AB-1".into(), ..edited(&env, &r.skus[0]) };
    is_taken("code", update(storage, &r.skus[0], &renamed).await, "update");
    assert_eq!(
        get(storage, r.skus[0].id).await.as_ref(),
        Some(&r.skus[0]),
        "an update that is refused must change nothing"
    );
}

/// No two live SKUs have the same source and external id.
pub async fn external_references_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |title: &str, source: &str, id: &str| {
        let mut p = env.priced(title, 100, 0);
        p.skus[0].external = Some(ExternalRef::new(source, id));
        p
    };
    env.insert_products(storage, &[with("A", "erp", "1"), with("B", "erp", "2"), with("C", "shop", "1")])
        .await
        .unwrap();
    let twin = with("D", "erp", "1");
    is_taken("external_id", env.insert_products(storage, &[twin]).await, "external");
}

/// Codes are derived in the same way as slugs.
pub async fn taken_codes_are_the_bases_and_their_numbers_and_nothing_else(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let codes = ["A", "a-2", "A-10", "ab", "a-2b", "a-b", "a_2", "c-3", "d", "e"];
    let p = product_with(&env, storage, "P", &codes).await;
    soft_delete(&env, storage, &p.skus[9]).await;
    let bases = ["a", "c", "e", "nowhere"].map(|s| Slug::trusted(s.to_owned()));
    let mut taken: Vec<String> = read!(storage, skus.taken_codes(&bases)).into_iter().collect();
    taken.sort();
    assert_eq!(
        taken,
        ["a", "a-10", "a-2", "c-3"],
        "`taken_codes` must return the given bases and their numbered forms that live SKUs use"
    );
    assert!(read!(storage, skus.taken_codes(&[])).is_empty(), "`taken_codes` without bases must return nothing");
}

/// An update from an old version changes neither the row nor anything else of the transaction.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a", "b"]).await;
    let winner = Sku { price: usd(1), ..edited(&env, &p.skus[1]) };
    update(storage, &p.skus[1], &winner).await.unwrap();

    let mut uow = storage.begin().await.unwrap();
    uow.products().lock(&[p.id]).await.unwrap();
    uow.skus().update(&p.skus[0], &Sku { price: usd(2), ..edited(&env, &p.skus[0]) }).await.unwrap();
    let answer = uow.skus().update(&p.skus[1], &Sku { price: usd(3), ..edited(&env, &p.skus[1]) }).await;
    assert_eq!(
        code_of(answer, "an update from an outdated version"),
        ErrorCode::VersionConflict,
        "an update from an outdated version must fail with `VERSION_CONFLICT`"
    );
    drop(uow);
    assert_eq!(
        read!(storage, skus.of_product(p.id, IncludeDeleted::No)),
        [p.skus[0].clone(), winner],
        "a unit of work that is dropped must change nothing, and the newer version must remain"
    );
}

/// Every read hides soft-deleted rows, and reads that can include them return them.
pub async fn r02_soft_deleted_skus_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a", "b"]).await;
    let gone = soft_delete(&env, storage, &p.skus[0]).await;
    let live = p.skus[1].clone();
    assert_eq!(get(storage, gone.id).await, None, "`get` hides a soft-deleted SKU");
    assert_eq!(
        read!(storage, skus.get(gone.id, IncludeDeleted::Yes)).as_ref(),
        Some(&gone),
        "`get` returns a soft-deleted SKU if it is asked for"
    );
    assert_eq!(read!(storage, skus.get_by_code("a")), None, "`get_by_code` hides a soft-deleted SKU");
    assert_eq!(
        read!(storage, skus.of_product(p.id, IncludeDeleted::No)),
        [live.clone()],
        "`of_product` leaves soft-deleted SKUs out"
    );
    assert_eq!(
        read!(storage, skus.of_product(p.id, IncludeDeleted::Yes)),
        [gone, live.clone()],
        "`of_product` returns soft-deleted SKUs if they are asked for"
    );
    assert_eq!(
        read!(storage, products.get(p.id, IncludeDeleted::No)).unwrap().skus,
        [live],
        "a product must contain only its live SKUs"
    );
}

/// Of several products, one has no soft-deleted SKU, and one is not asked for.
pub async fn r02_the_soft_deleted_skus_of_products_are_read_at_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = product_with(&env, storage, "First", &["a", "b", "c"]).await;
    let second = product_with(&env, storage, "Second", &["d", "e"]).await;
    let whole = product_with(&env, storage, "Whole", &["f"]).await;
    let other = product_with(&env, storage, "Other", &["g", "h"]).await;
    let mut gone = Vec::new();
    for sku in [&first.skus[0], &first.skus[2], &second.skus[1]] {
        gone.push(soft_delete(&env, storage, sku).await);
    }
    soft_delete(&env, storage, &other.skus[0]).await;
    let before = storage.statements();
    let mut found = read!(storage, skus.deleted_of(&[second.id, whole.id, first.id]));
    assert_eq!(storage.statements() - before, 1, "the SKUs of several products are read in one statement");
    for skus in [&mut found, &mut gone] {
        skus.sort_unstable_by_key(|sku| sku.id);
    }
    assert_eq!(found, gone, "`deleted_of` returns the soft-deleted SKUs of these products");
    assert_eq!(read!(storage, skus.deleted_of(&[whole.id])), []);
    assert_eq!(read!(storage, skus.deleted_of(&[])), []);
}

/// Other SKUs can use the code of a deleted SKU.
pub async fn r02_a_code_is_free_again_after_soft_delete(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["Code"]).await;
    soft_delete(&env, storage, &p.skus[0]).await;
    let q = product_with(&env, storage, "Q", &["CODE"]).await;
    assert_eq!(
        read!(storage, skus.get_by_code("code")).as_ref(),
        Some(&q.skus[0]),
        "a code that a live SKU has taken over from a soft-deleted one must find the live SKU"
    );
}

/// The restore does not take the code back from another SKU.
pub async fn r02_a_restore_into_a_taken_code_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["Code"]).await;
    let gone = soft_delete(&env, storage, &p.skus[0]).await;
    product_with(&env, storage, "Q", &["CODE"]).await;
    let mut back = edited(&env, &gone);
    back.audit.deleted_at = None;
    is_taken("code", update(storage, &gone, &back).await, "restore");
    assert_eq!(get(storage, gone.id).await, None, "a restore that is refused must change nothing");
}

/// No data of the SKU remains, and other SKUs keep their ledgers.
pub async fn r05_purge_removes_the_sku_and_its_ledger(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a", "b"]).await;
    let [gone, stays] = [&p.skus[0], &p.skus[1]];
    attempt!(storage, skus.purge(gone.id)).unwrap();
    assert_eq!(
        read!(storage, skus.get(gone.id, IncludeDeleted::Yes)),
        None,
        "a purged SKU must not be found, even by a read that includes soft-deleted SKUs"
    );
    assert_eq!(read!(storage, inventory.count_movements(gone.id)), 0, "the movements of a purged SKU are gone");
    assert_eq!(read!(storage, inventory.count_movements(stays.id)), 1, "a purge leaves the movements of other SKUs");
    assert_eq!(read!(storage, inventory.imbalances()), [], "the stock of every SKU must be the sum of its movements");
    product_with(&env, storage, "Q", &["a"]).await;
}

/// An editor who has read the SKU before a sale does not undo the sale.
pub async fn r11_an_update_never_writes_stock(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a"]).await;
    let before = &p.skus[0];
    attempt!(storage, inventory.apply(&[env.movement(before.id, -4)])).unwrap();
    let after = Sku { on_hand: 999, reserved: 99, price: usd(5), ..edited(&env, before) };
    update(storage, before, &after)
        .await
        .expect("a movement must not increase the version of its SKU, so the update must succeed");
    let found = get(storage, before.id).await.unwrap();
    assert_eq!(
        (found.on_hand, found.reserved, found.price),
        (6, 0, usd(5)),
        "an update must write the price and must not write the stock"
    );
    assert_eq!(read!(storage, inventory.imbalances()), [], "the stock of every SKU must be the sum of its movements");
}

/// The check also detects a SKU whose stock is not the sum of its movements.
pub async fn r11_opening_rows_explain_the_first_stock(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let p = product_with(&env, storage, "P", &["a", "b"]).await;
    for sku in &p.skus {
        let ledger = read!(storage, inventory.movements(sku.id, &crate::paging::Paging::first(9))).items;
        assert_eq!(
            ledger.iter().map(|m| m.delta).sum::<i64>(),
            sku.on_hand,
            "the movements of a new SKU must add up to its opening stock"
        );
    }
    assert_eq!(read!(storage, inventory.imbalances()), [], "the stock of every SKU must be the sum of its movements");

    // As a control, one SKU has no movement, and another one has a wrong one.
    let (unexplained, wrong) = (env.sku(&p, "x", 1, 5), env.sku(&p, "y", 1, 5));
    let mut uow = storage.begin().await.unwrap();
    uow.skus().insert(&[unexplained.clone(), wrong.clone()], &[env.movement(wrong.id, 3)]).await.unwrap();
    uow.commit().await.unwrap();
    let mut found = read!(storage, inventory.imbalances());
    found.sort_by_key(|i| i.sku_id);
    assert_eq!(
        found,
        [
            StockImbalance { sku_id: unexplained.id, on_hand: 5, ledger: 0 },
            StockImbalance { sku_id: wrong.id, on_hand: 5, ledger: 3 },
        ],
        "`imbalances` must find each SKU whose stock is not the sum of its movements"
    );
}

/// The SKUs do not fit into one statement of any database.
pub async fn many_skus_are_inserted_at_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut p = env.product("P");
    for n in 0..1_200 {
        env.add_sku(&mut p, &format!("Code {n}"), 100 + n, n % 3);
    }
    env.insert_products(storage, std::slice::from_ref(&p)).await.unwrap();
    assert_eq!(
        read!(storage, skus.of_product(p.id, IncludeDeleted::No)).len(),
        1_200,
        "an insert of many SKUs must store all of them"
    );
    let codes: Vec<String> = p.skus.iter().map(|s| s.code.to_uppercase()).collect();
    let found = read!(storage, skus.find_by_codes(&codes));
    assert_eq!(found.len(), 1_200, "`find_by_codes` finds all of many codes");
    assert!(
        found.iter().all(|(code, _, product)| *code == fold_key(code) && *product == p.id),
        "`find_by_codes` returns folded codes with their product"
    );
    assert_eq!(read!(storage, inventory.imbalances()), [], "the stock of every SKU must be the sum of its movements");
}
