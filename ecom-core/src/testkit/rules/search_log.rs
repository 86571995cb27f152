//! The search log: what counts, who adds it to the database, and when it is removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::NaiveDate;
use serde_json::json;

use super::ShopFixture;
use super::support::{PATIENCE, fields, until};
use crate::clock::{Clock as _, SharedClock};
use crate::config::ShopConfig;
use crate::domain::platform::analytics::DayRange;
use crate::domain::platform::search_log::SearchTerm;
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::error::FieldCode;
use crate::id::UuidV7Source;
use crate::paging::Paging;
use crate::shop::{Shop, ShopParts};
use crate::testkit::faults::{Fault, Unsteady, Watched};
use crate::testkit::running::skipped;

tests! {
    __shop_search_log: [
        a_search_counts_once_with_what_it_has_found,
        pages_suggestions_and_searches_without_words_do_not_count,
        a_cached_search_counts_and_a_failed_one_does_not,
        the_counts_of_processes_and_days_add_up,
        the_background_work_writes_counts_and_removes_old_days,
        a_shop_that_is_closed_writes_its_last_counts,
        counts_survive_a_database_that_fails,
        a_shop_without_the_log_counts_nothing,
        r17_a_range_upside_down_is_refused,
    ]
}

fn typed(text: &str) -> SearchQuery {
    SearchQuery { text: text.to_owned(), ..SearchQuery::default() }
}

async fn search(shop: &Shop, text: &str) {
    shop.search().search(&typed(text)).await.unwrap();
}

/// Returns the terms of some days, sorted by their texts: text, searches, without result, partial result.
async fn of_days(shop: &Shop, range: DayRange) -> Vec<(String, u64, u64, u64)> {
    let (page, total) = shop.search_log().popular(&range, &Paging::first(1_000)).await.unwrap();
    assert_eq!(total, None);
    let counts = |t: SearchTerm| (t.text, t.searches, t.without_result, t.partial_result);
    let mut terms: Vec<_> = page.items.into_iter().map(counts).collect();
    terms.sort();
    terms
}

/// Writes the counts of a shop and returns the terms of today.
async fn logged(shop: &Shop) -> Vec<(String, u64, u64, u64)> {
    shop.search_log().flush().await.unwrap();
    of_days(shop, DayRange::last(1, shop.clock().now().date_naive())).await
}

fn terms(of: &[(&str, u64, u64, u64)]) -> Vec<(String, u64, u64, u64)> {
    of.iter().map(|(text, searches, without, partial)| ((*text).to_owned(), *searches, *without, *partial)).collect()
}

/// The text is folded for the comparison, and shown as it was last typed.
pub async fn a_search_counts_once_with_what_it_has_found(f: &ShopFixture) {
    if !f.search.capabilities().full_text {
        return skipped("shop", "search log", "the search engine lacks full_text");
    }
    f.product(json!({ "title": "Brass Lamp", "price": 5, "brand": "Lumen" })).await;
    f.shop.index().catch_up().await.unwrap();
    for text in ["lamp", "Lamp", " brass   LAMP ", "xylophone", "cheap lamp", "LAMP"] {
        search(&f.shop, text).await;
    }
    let filter = SearchFilter { brands: vec!["Other".to_owned()], ..SearchFilter::default() };
    f.shop.search().search(&SearchQuery { filter, ..typed("lamp") }).await.unwrap();
    let found = logged(&f.shop).await;
    assert_eq!(
        found,
        terms(&[("brass LAMP", 1, 0, 0), ("cheap lamp", 1, 0, 1), ("lamp", 4, 1, 0), ("xylophone", 1, 1, 0)])
    );
    let range = DayRange::last(30, f.clock.now().date_naive());
    let paging = Paging::Offset { offset: 0, limit: 10 };
    let (page, total) = f.shop.search_log().without_result(&range, &paging).await.unwrap();
    let mut texts: Vec<_> = page.items.iter().map(|term| term.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!((texts, total.map(|total| total.count)), (vec!["lamp", "xylophone"], Some(2)));
    assert_eq!(logged(&f.shop).await, found, "counts are written once");
}

/// Only what a shopper has searched for.
pub async fn pages_suggestions_and_searches_without_words_do_not_count(f: &ShopFixture) {
    if !f.search.capabilities().full_text || !f.search.capabilities().facets {
        return skipped("shop", "search log", "the search engine lacks full_text or facets");
    }
    let lamp = f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    for text in ["", "  ", "?!"] {
        search(&f.shop, text).await;
    }
    f.shop.search().search(&SearchQuery { offset: 1, ..typed("lamp") }).await.unwrap();
    f.shop.search().uncounted().search(&typed("lamp")).await.unwrap();
    f.shop.search().suggest("lam", 5).await.unwrap();
    f.shop.search().related(lamp.id, 5).await.unwrap();
    assert_eq!(logged(&f.shop).await, terms(&[]));
}

/// What the engine has answered counts, from wherever the answer comes.
pub async fn a_cached_search_counts_and_a_failed_one_does_not(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let engine = Watched::over(f.search.clone());
    let shop = f.over(engine.clone(), ShopConfig::default());
    engine.refuses_searches.store(true, Ordering::SeqCst);
    assert!(shop.search().search(&typed("lamp")).await.is_err());
    engine.refuses_searches.store(false, Ordering::SeqCst);
    assert!(shop.search().search(&SearchQuery { limit: 0, ..typed("lamp") }).await.is_err());
    for _ in 0..3 {
        search(&shop, "lamp").await;
    }
    assert_eq!(logged(&shop).await, terms(&[("lamp", 3, 0, 0)]));
}

/// Each process has its own counts, and each day its own.
pub async fn the_counts_of_processes_and_days_add_up(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let other = f.another(ShopConfig::default(), f.cache());
    let first = f.clock.now().date_naive();
    for shop in [&f.shop, &other] {
        search(shop, "lamp").await;
    }
    f.clock.advance(Duration::from_secs(24 * 3_600));
    for shop in [&f.shop, &other, &other] {
        search(shop, "Lamp").await;
    }
    assert_eq!(logged(&f.shop).await, terms(&[("Lamp", 1, 0, 0)]));
    assert_eq!(logged(&other).await, terms(&[("Lamp", 3, 0, 0)]));
    assert_eq!(of_days(&f.shop, DayRange { from: first, to: first }).await, terms(&[("Lamp", 2, 0, 0)]));
    let both = DayRange::last(2, f.clock.now().date_naive());
    assert_eq!(of_days(&f.shop, both).await, terms(&[("Lamp", 5, 0, 0)]));
}

/// Nobody has to ask for it.
pub async fn the_background_work_writes_counts_and_removes_old_days(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    search(&f.shop, "lamp").await;
    f.shop.search_log().flush().await.unwrap();
    let old = f.clock.now().date_naive();
    f.clock.advance(Duration::from_secs(3 * 24 * 3_600));
    let config = ShopConfig::default()
        .poll_interval(Duration::from_millis(10))
        .search_log_interval(Duration::from_secs(1))
        .search_log_retention(Duration::from_secs(2 * 24 * 3_600));
    let shop = f.another(config, f.cache());
    let background = shop.start();
    search(&shop, "lamp").await;
    let today = f.clock.now().date_naive();
    let day = |day: NaiveDate| DayRange { from: day, to: day };
    until("the search is counted", async || of_days(&shop, day(today)).await == terms(&[("lamp", 1, 0, 0)])).await;
    until("the old day is removed", async || of_days(&shop, day(old)).await.is_empty()).await;
    background.shutdown().await;
}

/// A shop that never runs the background work does so, too.
pub async fn a_shop_that_is_closed_writes_its_last_counts(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let storage = Unsteady::over(f.storage.clone());
    let clock: SharedClock = f.clock.clone();
    let ids = Arc::new(UuidV7Source::seeded(clock.clone(), 44));
    let cache = f.cache();
    let parts = ShopParts::new(storage.clone(), f.search.clone());
    let shop = Shop::new(ShopParts { cache, clock, ids, ..parts }).unwrap();
    search(&shop, "lamp").await;
    storage.plan(&[]);
    let closed = tokio::time::timeout(PATIENCE, shop.close()).await;
    assert!(closed.is_ok(), "closing a shop must end");
    assert_eq!(storage.commits(), 1, "the counts are written before the database is closed");
}

/// They are written later, unless they may have been written already.
pub async fn counts_survive_a_database_that_fails(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let (shop, storage) = f.unsteady();
    search(&shop, "lamp").await;
    storage.plan(&[Fault::Contention; 40]);
    assert!(shop.search_log().flush().await.is_err());
    storage.plan(&[]);
    search(&shop, "LAMP").await;
    assert_eq!(logged(&shop).await, terms(&[("LAMP", 2, 0, 0)]));
    for (fault, searches) in [(Fault::AnswerLost, 3), (Fault::CommitLost, 3)] {
        search(&shop, "lamp").await;
        storage.plan(&[fault]);
        assert!(shop.search_log().flush().await.is_err());
        assert_eq!(logged(&shop).await, terms(&[("lamp", searches, 0, 0)]), "{fault:?}: a search counts at most once");
    }
}

/// For shops that must not store what people type.
pub async fn a_shop_without_the_log_counts_nothing(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let shop = f.another(ShopConfig::default().search_log(false), f.cache());
    search(&shop, "lamp").await;
    assert_eq!(logged(&shop).await, terms(&[]));
}

/// Before anything is read.
pub async fn r17_a_range_upside_down_is_refused(f: &ShopFixture) {
    let today = f.clock.now().date_naive();
    let log = f.shop.search_log();
    let range = DayRange { from: today, to: today.pred_opt().unwrap() };
    let page = Paging::first(10);
    for refused in [log.popular(&range, &page).await, log.without_result(&range, &page).await] {
        let refused = fields(refused, "a range upside down");
        assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("from".to_owned(), FieldCode::Inconsistent)]);
    }
    let range = DayRange { from: NaiveDate::MIN, to: NaiveDate::MAX };
    let refused = fields(log.popular(&range, &page).await, "days that no database knows");
    let out = |field: &str| (field.to_owned(), FieldCode::OutOfBounds);
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [out("from"), out("to")]);
    let refused = fields(log.popular(&DayRange::last(30, today), &Paging::first(0)).await, "an empty page");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [out("limit")]);
}
