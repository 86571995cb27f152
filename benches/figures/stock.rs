//! Stock adjustments from 64 tasks at once on one SQLite file with full durability: shared commits against one commit
//! per adjustment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::common::Actor;
use ecom::id::{EventId, SkuId, StockMovementId};
use ecom::platform::{Event, EventKind};
use ecom::port::Storage;
use ecom::stock::StockAdjustment;
use ecom::stock::{StockMovement, StockReason};

use crate::support::{Bench, pair, shop};

const TASKS: usize = 64;

pub async fn run() {
    println!("stock: adjustments from {TASKS} tasks at once");
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
}

async fn many<F: Future<Output = ()> + Send + 'static>(
    b: &Bench,
    skus: &Arc<Vec<SkuId>>,
    each: usize,
    one: fn(ecom::Shop, SkuId) -> F,
) -> (u64, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for t in 0..TASKS {
        let (shop, skus) = (b.shop.clone(), skus.clone());
        set.spawn(async move {
            for i in 0..each {
                one(shop.clone(), skus[(t * 31 + i * 7) % skus.len()]).await;
            }
        });
    }
    set.join_all().await;
    ((TASKS * each) as u64, start.elapsed())
}

async fn shared(shop: ecom::Shop, sku_id: SkuId) {
    let adjustment = StockAdjustment { sku_id, delta: -1, reason: StockReason::Adjustment, reference: None };
    shop.inventory().adjust(adjustment).await.expect("adjusted");
}

/// Makes the adjustment in a transaction of its own.
async fn alone(shop: ecom::Shop, sku_id: SkuId) {
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
