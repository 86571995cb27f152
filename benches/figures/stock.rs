//! Short writes from 64 tasks at once on one SQLite file with full durability: adjustments of stock and edits of
//! products, whose commits are shared, against the same statements with one commit each, and against a file that is not
//! flushed to disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::Shop;
use ecom::adapters::{MemoryCache, MemoryCacheOptions, SqlStorage, SqliteOptions};
use ecom::catalog::ProductPatch;
use ecom::common::{Actor, ExpectedVersion, Patch};
use ecom::id::{EventId, ProductId, SkuId, StockMovementId};
use ecom::platform::{Event, EventKind};
use ecom::port::Storage;
use ecom::stock::StockAdjustment;
use ecom::stock::{StockMovement, StockReason};

use crate::support::{Bench, pair, shop, shop_on};

const TASKS: usize = 64;

pub async fn run() {
    println!("stock: adjustments, and edits of products, from {TASKS} tasks at once");
    let b = shop(200).await;
    let mut skus = Vec::new();
    for id in &b.products {
        skus.extend(b.shop.products().get(*id).await.expect("a product").value.skus.iter().map(|s| s.id));
    }
    let skus = Arc::new(skus);
    pair(
        "adjustments, against one commit each",
        "5",
        5,
        async || many(&b, &skus, 100, shared).await,
        async || many(&b, &skus, 15, alone).await,
    )
    .await;
    let before = b.storage.statements();
    let (n, _) = many(&b, &skus, 100, shared).await;
    println!("statements per adjustment: {:.2}", (b.storage.statements() - before) as f64 / n as f64);
    assert!(b.shop.inventory().imbalances().await.expect("an answer").is_empty(), "R11");

    let ids = Arc::new(b.products.clone());
    pair(
        "edits of products, against one commit each",
        "3",
        5,
        async || many(&b, &ids, 40, edit).await,
        async || many(&b, &ids, 15, edit_alone).await,
    )
    .await;
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.durable = false;
    let storage = SqlStorage::sqlite(options).expect("a database");
    let fast = shop_on(storage, Arc::new(MemoryCache::new(MemoryCacheOptions::default())), 200, dir).await;
    let fast_ids = Arc::new(fast.products.clone());
    pair(
        "edits of products, against edits that are not flushed to disk",
        "0.5",
        5,
        async || many(&b, &ids, 40, edit).await,
        async || many(&fast, &fast_ids, 40, edit).await,
    )
    .await;
}

/// Edits a product, in a commit with other edits.
async fn edit(shop: Shop, id: ProductId) {
    shop.products().patch(id, ExpectedVersion::Unspecified, patch(&shop)).await.expect("edited");
}

/// Edits a product in a transaction of its own.
async fn edit_alone(shop: Shop, id: ProductId) {
    let mut tx = shop.begin().await.expect("a transaction");
    shop.products().patch_in(&mut tx, id, ExpectedVersion::Unspecified, patch(&shop)).await.expect("edited");
    tx.commit().await.expect("a commit").run().await;
}

/// Returns an edit that differs from all others.
fn patch(shop: &Shop) -> ProductPatch {
    ProductPatch { brand: Patch::Set(format!("Brand {}", shop.ids().next())), ..ProductPatch::default() }
}

async fn many<I: Copy + Send + Sync + 'static, F: Future<Output = ()> + Send + 'static>(
    b: &Bench,
    ids: &Arc<Vec<I>>,
    each: usize,
    one: fn(Shop, I) -> F,
) -> (u64, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for t in 0..TASKS {
        let (shop, ids) = (b.shop.clone(), ids.clone());
        set.spawn(async move {
            for i in 0..each {
                one(shop.clone(), ids[(t * 31 + i * 7) % ids.len()]).await;
            }
        });
    }
    set.join_all().await;
    ((TASKS * each) as u64, start.elapsed())
}

async fn shared(shop: Shop, sku_id: SkuId) {
    let adjustment = StockAdjustment { sku_id, delta: -1, reason: StockReason::Adjustment, reference: None };
    shop.inventory().adjust(adjustment).await.expect("adjusted");
}

/// Makes the adjustment in a transaction of its own.
async fn alone(shop: Shop, sku_id: SkuId) {
    let storage: &Arc<dyn Storage> = shop.storage();
    let mut tx = storage.begin().await.expect("a transaction");
    let level = tx.inventory().lock(&[sku_id]).await.expect("a level")[0];
    assert!(level.available() > 0);
    let now = shop.clock().now();
    let movement = StockMovement {
        id: StockMovementId(shop.ids().next()),
        sku_id,
        delta: -1,
        reason: StockReason::Adjustment,
        reference: None,
        order_line_id: None,
        created_at: now,
        created_by: Actor::system(),
    };
    let touched = tx.inventory().apply(&[movement]).await.expect("applied");
    let event = Event {
        id: EventId(shop.ids().next()),
        kind: EventKind::StockChanged,
        aggregate_id: level.product_id.0,
        revision: touched[0].revision,
        data: serde_json::Value::Null,
        occurred_at: now,
        actor: Actor::system(),
    };
    tx.outbox().append(&[event]).await.expect("an event");
    tx.commit().await.expect("a commit");
}
