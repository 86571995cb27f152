//! The search index follows the database (R14).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::ShopFixture;
use super::support::{adjustment, in_category, me, until, v};
use crate::clock::{Clock as _, SharedClock};
use crate::config::ShopConfig;
use crate::domain::catalog::product::Product;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::DeleteMode;
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::language::Language;
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery};
use crate::error::ErrorCode;
use crate::id::{CategoryId, ProductId, UuidV7Source};
use crate::port::search::{IndexOp, SearchDocument, SearchProvider as _};
use crate::port::storage::Repositories as _;
use crate::shop::{Shop, ShopParts};
use crate::testkit::faults::{HeldIndex, Hold, ListIndex, SharedIndex};
use crate::testkit::fresh_seed;

tests! {
    __shop_index: [
        r14_the_index_follows_random_histories,
        r14_the_index_follows_whether_stock_is_tracked,
        r14_a_shared_index_is_written_by_one_process_at_a_time,
        r14_verify_finds_and_repairs_drift,
        r14_an_index_ahead_of_its_database_is_brought_back,
        r14_an_index_in_another_language_is_rebuilt,
        r14_searches_and_writes_go_on_during_rebuilds,
        r14_the_build_of_an_index_continues_after_a_kill,
        r14_a_rebuild_that_was_asked_for_is_complete,
    ]
}

/// Products are created, edited, deleted, restored and purged, stock changes and categories move. The index catches up
/// at random.
pub async fn r14_the_index_follows_random_histories(f: &ShopFixture) {
    for seed in [1, fresh_seed()] {
        index_history(f, seed).await;
    }
}

/// Searches and facets use the availability of a SKU that does not track its stock.
pub async fn r14_the_index_follows_whether_stock_is_tracked(f: &ShopFixture) {
    let card = f.product(json!({ "title": "Gift card", "price": 5, "track_stock": false })).await;
    f.product(json!({ "title": "Pen", "price": 1 })).await;
    let mut p = card;
    for (tracked, in_stock) in [(false, vec!["Gift card"]), (true, vec![]), (false, vec!["Gift card"])] {
        if p.skus[0].track_stock != tracked {
            p = f.patch(&p, json!({ "track_stock": tracked })).await.unwrap();
        }
        f.index_is_in_step("a change of `track_stock`").await;
        let filter = SearchFilter { availability: vec![AvailabilityStatus::InStock], ..SearchFilter::default() };
        assert_eq!(f.searched("", filter).await, in_stock, "tracked: {tracked}");
        if !f.search.capabilities().facets {
            continue;
        }
        let query = SearchQuery { facets: vec![Facet::Availability], ..SearchQuery::default() };
        let found = f.shop.search().search(&query).await.unwrap();
        let count = |status: AvailabilityStatus| {
            let values = found.facets.iter().flat_map(|(_, values)| values);
            values.filter(|v| v.value == status.as_str()).map(|v| v.count).sum::<u64>()
        };
        let counts = (count(AvailabilityStatus::InStock), count(AvailabilityStatus::OutOfStock));
        assert_eq!(counts, if tracked { (0, 2) } else { (1, 1) }, "tracked: {tracked}");
    }
}

/// Replays a random history of the catalog.
pub async fn index_history(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut categories = vec![f.category(&format!("Root {seed}"), None).await.id];
    let mut products: Vec<ProductId> = Vec::new();
    for step in 0..f.steps(120) {
        random_write(f, &mut rng, &mut categories, &mut products, &format!("{seed} {step}")).await;
        if rng.random_bool(0.1) {
            f.index_is_in_step(&format!("seed {seed}, step {step}")).await;
        }
    }
    f.index_is_in_step(&format!("seed {seed}")).await;
    let look = async || {
        let mut found = vec![f.searched("product", SearchFilter::default()).await];
        for c in &categories {
            let within = SearchFilter { categories: vec![*c], ..SearchFilter::default() };
            let searched = f.searched("", within).await;
            assert_eq!(searched, f.listed(in_category(*c)).await, "seed {seed}: the search and the list must agree");
            found.push(searched);
        }
        found
    };
    let followed = look().await;
    let report = f.shop.index().rebuild().await.unwrap();
    assert!(report.rebuilt && report.writer);
    assert_eq!(look().await, followed, "seed {seed}: the index must equal a full rebuild");
    f.index_is_in_step(&format!("seed {seed}, rebuilt")).await;
}

async fn random_write(
    f: &ShopFixture,
    rng: &mut StdRng,
    categories: &mut Vec<CategoryId>,
    products: &mut Vec<ProductId>,
    name: &str,
) {
    let category = categories[rng.random_range(0..categories.len())];
    if products.is_empty() || rng.random_bool(0.3) {
        let input =
            json!({ "title": format!("Product {name}"), "price": 5, "stock": 3, "category": category.to_string() });
        products.push(f.product(input).await.id);
        return;
    }
    let at = rng.random_range(0..products.len());
    let p = f.fresh(products[at]).await;
    if !p.audit.is_live() {
        if rng.random_bool(0.5) {
            f.shop.acting_as(me()).products().restore(p.id, v(p.audit.version)).await.unwrap();
        } else {
            f.delete(&p, DeleteMode::Force).await.unwrap();
            products.swap_remove(at);
        }
        return;
    }
    match rng.random_range(0..8) {
        0..=1 => drop(f.adjust(p.skus[0].id, rng.random_range(1..9)).await.unwrap()),
        2 => drop(f.patch(&p, json!({ "title": format!("Product renamed {name}") })).await.unwrap()),
        3 => drop(f.patch(&p, json!({ "category": category.to_string(), "discount_percentage": 5 })).await.unwrap()),
        4 => f.delete(&p, DeleteMode::Soft).await.unwrap(),
        5 => {
            let below = f.fresh_category(category).await;
            if below.depth() < 10 {
                categories.push(f.category(&format!("Below {name}"), Some(&below)).await.id);
            }
        }
        6 => drop(f.rename_category(category, &format!("Renamed {name}")).await.unwrap()),
        _ => {
            let to = categories[rng.random_range(0..categories.len())];
            if let Err(e) = f.move_category(category, Some(to)).await {
                assert_eq!(e.code(), ErrorCode::CategoryCycle, "{e}");
            }
        }
    }
}

fn document_of(p: &Product) -> SearchDocument {
    SearchDocument::of(p, &[], Language::English)
}

/// An index that does not store its own checkpoint is written under a lease, which is handed over at a shutdown.
pub async fn r14_a_shared_index_is_written_by_one_process_at_a_time(f: &ShopFixture) {
    let searches = [SharedIndex::over(f.search.clone()), SharedIndex::over(f.search.clone())];
    let mut running = Vec::new();
    for search in &searches {
        let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
        let clock: SharedClock = f.clock.clone();
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let (storage, search, cache) = (f.storage.clone(), search.clone(), f.cache());
        running.push(
            Shop::new(ShopParts { cache, clock, ids, config, ..ShopParts::new(storage, search) }).unwrap().start(),
        );
    }
    let asked = || searches.each_ref().map(|s| s.asked.load(Ordering::SeqCst));
    let found = async |text: &str| f.searched(text, SearchFilter::default()).await.len();
    f.plain("Lamp").await;
    until("one process updates the index", async || found("lamp").await == 1).await;
    let [a, b] = asked();
    assert!(
        (a == 0) != (b == 0),
        "exactly one process must write to the index, but they have written {a} and {b} times"
    );
    let busy = usize::from(a == 0);
    running.remove(busy).shutdown().await;
    f.plain("Torch").await;
    until("the other process continues", async || found("torch").await == 1).await;
    assert!(asked()[1 - busy] > 0);
    for background in running {
        background.shutdown().await;
    }
}

/// The index has a missing, an old and a superfluous document.
pub async fn r14_verify_finds_and_repairs_drift(f: &ShopFixture) {
    let mut all = Vec::new();
    for n in 0..20 {
        all.push(f.plain(&format!("Lamp {n}")).await);
    }
    let old = f.fresh(all[3].id).await;
    f.adjust(old.skus[0].id, 1).await.unwrap();
    f.index_is_in_step("before").await;
    let now = f.search.checkpoint().await.unwrap().unwrap();
    let purged = all.pop().unwrap();
    f.delete(&purged, DeleteMode::Force).await.unwrap();

    let mut build = f.search.begin_rebuild(now.into(), None).await.unwrap();
    let wrong = all.iter().filter(|p| p.id != all[5].id).chain([&purged]).map(document_of).collect();
    build.add(wrong, all[18].id).await.unwrap();
    build.publish(crate::port::search::Checkpoint { position: f.head().await, ..now }).await.unwrap();

    let small = f.another(ShopConfig::default().index_batch(3), f.cache());
    for shop in [&f.shop, &small] {
        let found = shop.index().verify(false).await.unwrap();
        assert_eq!(
            (found.missing, found.stale, found.extra, found.repaired),
            (1, 1, 1, false),
            "`verify` must find one missing, one old and one superfluous document: {found:?}"
        );
        assert!(!found.is_clean());
    }
    let repaired = small.index().verify(true).await.unwrap();
    assert!(repaired.repaired && !repaired.is_clean(), "`verify` with repair must report the repair: {repaired:?}");
    let clean = f.shop.index().verify(true).await.unwrap();
    assert!(clean.is_clean() && !clean.repaired, "`verify` must find no difference after the repair: {clean:?}");
    assert_eq!(clean.compared, 19);
    f.index_is_in_step("after").await;
}

/// The state is that after a restore of an old backup of the database, whose revisions and positions in the outbox are
/// lower than those of the index.
pub async fn r14_an_index_ahead_of_its_database_is_brought_back(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let q = f.plain("Lamp two").await;
    f.index_is_in_step("before").await;
    let now = f.search.checkpoint().await.unwrap().unwrap();
    let ahead = SearchDocument { revision: p.revision + 50, ..document_of(&p) };
    let ops = || vec![IndexOp::Upsert(Box::new(ahead.clone())), IndexOp::Delete { id: q.id, revision: 50 }];
    f.search.apply(ops(), Some(now), now).await.unwrap().unwrap();
    let found = f.shop.index().verify(true).await.unwrap();
    assert_eq!((found.stale, found.missing, found.repaired), (1, 1, true));
    f.index_is_in_step("revisions in the index above those in the database").await;

    let now = f.search.checkpoint().await.unwrap().unwrap();
    let position = OutboxPosition { seq: now.position.seq + 1_000 };
    f.search.apply(ops(), Some(now), crate::port::search::Checkpoint { position, ..now }).await.unwrap().unwrap();
    f.plain("Lamp three").await;
    f.index_is_in_step("a checkpoint after the end of the log").await;
    assert_eq!(f.searched("lamp", SearchFilter::default()).await.len(), 3);
}

/// An index in another language is rebuilt, in both directions.
pub async fn r14_an_index_in_another_language_is_rebuilt(f: &ShopFixture) {
    f.plain("Spielzeug für Kinder").await;
    f.index_is_in_step("before").await;
    let german = f.another(ShopConfig::default().search_language(Language::German), f.cache());
    for (shop, typed) in [(&german, "kindes"), (&f.shop, "kinders"), (&german, "kindes")] {
        assert!(shop.index().catch_up().await.unwrap().rebuilt, "the index has another language");
        assert!(!shop.index().catch_up().await.unwrap().rebuilt);
        let at = f.search.checkpoint().await.unwrap().unwrap();
        let language = if typed == "kindes" { Language::German } else { Language::English };
        assert_eq!(at.language, language);
        if shop.search().capabilities().full_text {
            let query = SearchQuery { text: typed.to_owned(), ..SearchQuery::default() };
            assert_eq!(shop.search().search(&query).await.unwrap().total.count, 1, "{typed} is found by its stem");
        }
    }
}

/// No search fails or misses a product that existed before, and no write is lost.
pub async fn r14_searches_and_writes_go_on_during_rebuilds(f: &ShopFixture) {
    let mut products = Vec::new();
    for n in 0..30 {
        products.push(f.plain(&format!("Steady {n}")).await);
    }
    f.index_is_in_step("before").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4usize {
        let (shop, done, products) = (f.shop.clone(), done.clone(), products.clone());
        tasks.spawn(async move {
            let mut n = 0;
            while !done.load(Ordering::SeqCst) {
                n += 1;
                match task {
                    0 => {
                        let query = SearchQuery { text: "steady".to_owned(), limit: 100, ..SearchQuery::default() };
                        assert_eq!(shop.search().search(&query).await.unwrap().total.count, 30);
                    }
                    1 => drop(shop.index().catch_up().await.unwrap()),
                    _ => {
                        let p = &products[n % products.len()];
                        shop.acting_as(me()).inventory().adjust(adjustment(p.skus[0].id, 1)).await.unwrap();
                    }
                }
            }
        });
    }
    for n in 0..6 {
        let report = f.shop.index().rebuild().await.unwrap();
        assert!(report.rebuilt && report.written == 30, "rebuild {n}: {report:?}");
    }
    done.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    f.index_is_in_step("after").await;
}

/// Returns a shop whose index is the list, and whose builds stop after this many batches of two products.
fn building(f: &ShopFixture, list: &ListIndex, batches: usize) -> (Shop, Arc<Hold>) {
    let (search, hold) = HeldIndex::over(Arc::new(list.clone()), batches);
    let clock: SharedClock = f.clock.clone();
    let ids = Arc::new(UuidV7Source::new(clock.clone()));
    let (storage, cache, config) = (f.storage.clone(), f.cache(), ShopConfig::default().index_batch(2));
    (Shop::new(ShopParts { cache, clock, ids, config, ..ShopParts::new(storage, search) }).unwrap(), hold)
}

/// Kills a process that syncs an index once it waits to write the batch after the last one that it may write.
async fn kill(shop: Shop, hold: &Hold, batches: u64) {
    let syncing = tokio::spawn(async move { shop.index().catch_up().await.map(drop) });
    until("the build waits", async || hold.adding.load(Ordering::SeqCst) == batches + 1).await;
    syncing.abort();
    let _ = syncing.await;
}

/// Asserts that the list equals the database.
async fn equals(shop: &Shop, products: u64) {
    let report = shop.index().verify(false).await.unwrap();
    assert!(report.is_clean() && report.compared == products, "{report:?}");
}

/// Products that the killed process has indexed change before the next one continues, and events are trimmed.
pub async fn r14_the_build_of_an_index_continues_after_a_kill(f: &ShopFixture) {
    let mut products = Vec::new();
    for n in 0..10 {
        products.push(f.plain(&format!("Lamp {n}")).await);
    }
    let list = ListIndex::default();
    for batches in [2, 1] {
        let (killed, hold) = building(f, &list, batches);
        kill(killed, &hold, batches as u64).await;
        assert_eq!(list.checkpoint().await.unwrap(), None);
        // It is in a batch of the first process.
        f.adjust(products[0].skus[0].id, 1).await.unwrap();
    }
    f.delete(&products[1], DeleteMode::Soft).await.unwrap();
    f.delete(&products[2], DeleteMode::Force).await.unwrap();
    f.plain("Lamp of late").await;
    let (shop, hold) = building(f, &list, 100);
    let report = shop.index().catch_up().await.unwrap();
    assert!(report.rebuilt, "{report:?}");
    // Three batches were added before: there are two more of the ten products, and one of the last product.
    assert_eq!((hold.adding.load(Ordering::SeqCst), hold.published.load(Ordering::SeqCst)), (3, 1), "{report:?}");
    assert_eq!(report.written, 5, "{report:?}");
    equals(&shop, 9).await;
    let position = list.checkpoint().await.unwrap().unwrap().position;
    assert_eq!(position, f.head().await, "the events since the first process began were applied");

    // The events since a build began are gone, so that nobody knows what it lacks.
    let other = ListIndex::default();
    let (killed, hold) = building(f, &other, 2);
    kill(killed, &hold, 2).await;
    f.delete(&f.fresh(products[0].id).await, DeleteMode::Force).await.unwrap();
    trim(f).await;
    let (shop, hold) = building(f, &other, 100);
    assert!(shop.index().catch_up().await.unwrap().rebuilt);
    assert!(hold.adding.load(Ordering::SeqCst) >= 4, "the build begins anew");
    equals(&shop, 8).await;
}

/// Removes all events.
async fn trim(f: &ShopFixture) {
    // An event is removed once it has its place in the log.
    f.head().await;
    let mut tx = f.shop.begin().await.unwrap();
    tx.outbox().trim(f.clock.now() + Duration::from_secs(1)).await.unwrap();
    tx.commit().await.unwrap().run().await;
}

/// What a build that was not completed has left may be wrong, which is why somebody asks for a rebuild.
pub async fn r14_a_rebuild_that_was_asked_for_is_complete(f: &ShopFixture) {
    for n in 0..10 {
        f.plain(&format!("Lamp {n}")).await;
    }
    let list = ListIndex::default();
    let (killed, hold) = building(f, &list, 3);
    kill(killed, &hold, 3).await;
    let (shop, hold) = building(f, &list, 100);
    let report = shop.index().rebuild().await.unwrap();
    assert_eq!((report.written, hold.adding.load(Ordering::SeqCst)), (10, 5), "{report:?}");
    equals(&shop, 10).await;
}
