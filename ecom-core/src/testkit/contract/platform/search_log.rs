//! The contract of [`SearchLogRepository`](crate::port::SearchLogRepository).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use uuid::Uuid;

use crate::domain::platform::analytics::DayRange;
use crate::domain::platform::search_log::{SearchCount, SearchTerm, SearchTermSort};
use crate::error::ErrorCode;
use crate::paging::{Keyset, Page, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::code_of;

suite! {
    /// Runs the suite of [`SearchLogRepository`](crate::port::SearchLogRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    search_log_suite, search_log: fixture => &fixture.storage, __search_log_tests: [
        counts_of_a_day_and_a_term_add_up,
        the_text_is_that_of_the_last_day,
        a_range_has_both_of_its_days,
        a_list_is_sorted_by_its_count_and_pages_both_ways,
        terms_that_always_had_a_result_are_not_listed_without_one,
        many_counts_are_added_at_once,
        concurrent_counts_are_all_added,
        the_oldest_days_are_removed_first,
        a_cursor_of_another_list_is_refused,
    ]
}

const SEARCHES: SearchTermSort = SearchTermSort::Searches;
const WITHOUT_RESULT: SearchTermSort = SearchTermSort::WithoutResult;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> DayRange {
    DayRange { from: day(from), to: day(to) }
}

/// A range with every day of these tests.
fn always() -> DayRange {
    range("0001-01-01", "9999-12-31")
}

fn term(text: &str, searches: u64, without_result: u64, partial_result: u64) -> SearchTerm {
    SearchTerm { id: SearchTerm::id_of(text), text: text.to_owned(), searches, without_result, partial_result }
}

fn count(on: &str, text: &str, searches: u64, without_result: u64, partial_result: u64) -> SearchCount {
    SearchCount { day: day(on), term: term(text, searches, without_result, partial_result) }
}

async fn add(storage: &Arc<dyn Storage>, counts: &[SearchCount]) {
    attempt!(storage, search_log.add(counts)).unwrap();
}

async fn list(storage: &Arc<dyn Storage>, range: &DayRange, sort: SearchTermSort, paging: &Paging) -> Page<SearchTerm> {
    read!(storage, search_log.list(range, sort, paging))
}

/// Returns the whole list.
async fn all(storage: &Arc<dyn Storage>, range: &DayRange, sort: SearchTermSort) -> Vec<SearchTerm> {
    list(storage, range, sort, &Paging::first(10_000)).await.items
}

async fn total(storage: &Arc<dyn Storage>, range: &DayRange, sort: SearchTermSort, bound: u64) -> Total {
    read!(storage, search_log.count(range, sort, bound))
}

/// Within a call, within a transaction and between transactions.
pub async fn counts_of_a_day_and_a_term_add_up(storage: &Arc<dyn Storage>) {
    let contract = "Counts are added to those of the same day and term.";
    add(storage, &[]).await;
    same(all(storage, &always(), SEARCHES).await, Vec::<SearchTerm>::new(), contract, "no counts");
    add(storage, &[count("2026-01-02", "lamp", 3, 1, 2), count("2026-01-02", "rug", 1, 0, 0)]).await;
    let mut tx = storage.begin().await.unwrap();
    tx.search_log().add(&[count("2026-01-02", "lamp", 4, 4, 0)]).await.unwrap();
    tx.search_log().add(&[count("2026-01-03", "lamp", 10, 0, 5)]).await.unwrap();
    tx.commit().await.unwrap();
    let first = range("2026-01-02", "2026-01-02");
    same(all(storage, &first, SEARCHES).await, [term("lamp", 7, 5, 2), term("rug", 1, 0, 0)], contract, "one day");
    let both = all(storage, &always(), SEARCHES).await;
    same(both, [term("lamp", 17, 5, 7), term("rug", 1, 0, 0)], contract, "two days");
    let many = 3_000_000_000_000_000;
    add(storage, &[count("2026-01-03", "rug", many, many, many)]).await;
    let found = all(storage, &always(), SEARCHES).await;
    same(found.first(), Some(&term("rug", many + 1, many, many)), contract, "many searches");
    let mut tx = storage.begin().await.unwrap();
    tx.search_log().add(&[count("2026-01-02", "vase", 1, 0, 0)]).await.unwrap();
    tx.rollback().await.unwrap();
    same(all(storage, &always(), SEARCHES).await, found, "A rollback removes the counts.", "`vase`");
}

/// Texts of all kinds, of the maximum length, and in another spelling.
pub async fn the_text_is_that_of_the_last_day(storage: &Arc<dyn Storage>) {
    let contract = "A term has the text that was added last on its last day.";
    let spelled = |on, text: &str, searches| {
        let mut count = count(on, "red shoes", searches, 0, 0);
        text.clone_into(&mut count.term.text);
        count
    };
    for (on, text) in [("2026-01-05", "Red Shoes"), ("2026-01-05", "RED shoes"), ("2026-01-03", "red SHOES")] {
        add(storage, &[spelled(on, text, 1)]).await;
    }
    let texts = async |range| -> Vec<String> {
        all(storage, &range, SEARCHES).await.into_iter().map(|term| term.text).collect()
    };
    same(texts(always()).await, ["RED shoes"], contract, "all days");
    let long = "ü".repeat(512);
    for text in ["'); --", "%_\\", "größe 🛋", long.as_str()] {
        add(storage, &[count("2026-02-01", text, 1, 1, 0)]).await;
        let found = texts(range("2026-02-01", "2026-02-01")).await;
        holds(found.iter().any(|found| found == text), "A text is read as it was written.", text);
    }
}

/// Days outside of the range do not count.
pub async fn a_range_has_both_of_its_days(storage: &Arc<dyn Storage>) {
    for (n, on) in ["0001-01-01", "2025-12-31", "2026-01-01", "2026-01-02", "9999-12-31"].into_iter().enumerate() {
        add(storage, &[count(on, "lamp", 10_u64.pow(u32::try_from(n).unwrap()), 0, 0)]).await;
    }
    let contract = "A list has the counts of the days of its range.";
    for (from, to, searches) in [
        ("0001-01-01", "9999-12-31", 11_111),
        ("2025-12-31", "2026-01-01", 110),
        ("2026-01-01", "2026-01-01", 100),
        ("2026-01-02", "9999-12-30", 1_000),
        ("0001-01-02", "2025-12-30", 0),
        ("2026-01-03", "2026-01-02", 0),
    ] {
        let about = format!("{from} to {to}");
        let found = all(storage, &range(from, to), SEARCHES).await;
        same(found.iter().map(|term| term.searches).sum::<u64>(), searches, contract, &about);
        let terms = u64::from(searches > 0);
        let counted = total(storage, &range(from, to), SEARCHES, 10).await;
        same(counted, Total { count: terms, exact: true }, contract, &about);
    }
}

/// By offset and by cursor, with equal counts.
pub async fn a_list_is_sorted_by_its_count_and_pages_both_ways(storage: &Arc<dyn Storage>) {
    let mut sums: BTreeMap<Uuid, SearchTerm> = BTreeMap::new();
    for (n, on) in ["2026-01-01", "2026-01-02", "2026-01-03"].into_iter().enumerate() {
        let n = n as u64;
        let counts: Vec<SearchCount> =
            (0..40).map(|i| count(on, &format!("text {i}"), 1 + (i + n) % 3, (i * n) % 3, i % 2)).collect();
        add(storage, &counts).await;
        for SearchCount { term, .. } in counts {
            sums.entry(term.id).and_modify(|sum| sum.add(term.clone())).or_insert(term);
        }
    }
    let contract = "A list is sorted by its count, the highest first, and then by id; its pages follow on each other.";
    for sort in SearchTermSort::ALL {
        let mut expected: Vec<SearchTerm> = sums.values().filter(|term| sort.count(term) > 0).cloned().collect();
        expected.sort_by_key(|term| (std::cmp::Reverse(sort.count(term)), term.id));
        same(all(storage, &always(), *sort).await, expected.as_slice(), contract, sort.as_str());
        let (mut found, mut after, mut pages) = (Vec::new(), None, Pages::over(expected.len()));
        loop {
            pages.turn();
            let page = list(storage, &always(), *sort, &Paging::Keyset { after, limit: 7 }).await;
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        same(&found, &expected, contract, format_args!("{} by cursor", sort.as_str()));
        for offset in (0..=expected.len() + 7).step_by(7) {
            let paging = Paging::Offset { offset: offset as u64, limit: 7 };
            let page = list(storage, &always(), *sort, &paging).await;
            let expected: Vec<_> = expected.iter().skip(offset).take(7).cloned().collect();
            same(page.items, expected, contract, format_args!("{} from row {offset}", sort.as_str()));
        }
        let n = expected.len() as u64;
        for (bound, counted) in [(n, Total { count: n, exact: true }), (3, Total { count: 3, exact: false })] {
            same(total(storage, &always(), *sort, bound).await, counted, "A count stops at its bound.", bound);
        }
    }
}

/// A partial result is a result.
pub async fn terms_that_always_had_a_result_are_not_listed_without_one(storage: &Arc<dyn Storage>) {
    let counts = [("a", 9, 0, 0), ("b", 9, 0, 9), ("c", 1, 1, 0), ("d", 8, 2, 1)]
        .map(|(t, s, w, p)| count("2026-01-02", t, s, w, p));
    add(storage, &counts).await;
    let found = all(storage, &always(), WITHOUT_RESULT).await;
    let contract = "The list `WithoutResult` has the terms with searches that found nothing.";
    same(found, [term("d", 8, 2, 1), term("c", 1, 1, 0)], contract, "two of four terms");
    same(total(storage, &always(), WITHOUT_RESULT, 10).await.count, 2, contract, "`count`");
    same(total(storage, &always(), SEARCHES, 10).await.count, 4, contract, "`count`");
}

/// More than fit into one statement.
pub async fn many_counts_are_added_at_once(storage: &Arc<dyn Storage>) {
    let counts: Vec<SearchCount> =
        (0..1_000).map(|i| count("2026-01-02", &format!("text {i}"), i + 1, i, 0)).rev().collect();
    add(storage, &counts).await;
    add(storage, &counts[..300]).await;
    let found = all(storage, &always(), SEARCHES).await;
    let contract = "All counts of a call are added.";
    same(found.len(), 1_000, contract, "1,000 terms");
    let sum = found.iter().map(|term| term.searches).sum::<u64>();
    let expected = counts.iter().chain(&counts[..300]).map(|count| count.term.searches).sum::<u64>();
    same(sum, expected, contract, "their searches");
}

/// As of several processes, in different orders.
pub async fn concurrent_counts_are_all_added(storage: &Arc<dyn Storage>) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4_usize {
        let storage = storage.clone();
        tasks.spawn(async move {
            for round in 0..5 {
                let mut counts: Vec<SearchCount> =
                    (0..50).map(|i| count("2026-01-02", &format!("text {i}"), 1, 0, 0)).collect();
                counts.rotate_left(n * 11 + round);
                // The services repeat a transaction that collides with another one.
                while let Err(error) = attempt!(storage, search_log.add(&counts)) {
                    assert!(error.is_contention(), "{error:?}");
                }
            }
        });
    }
    tasks.join_all().await;
    let found = all(storage, &always(), SEARCHES).await;
    let contract = "Counts that are added at the same time are all added.";
    same(found.len(), 50, contract, "50 terms");
    holds(found.iter().all(|term| term.searches == 20), contract, format_args!("{found:?}"));
}

/// In steps, and up to a day.
pub async fn the_oldest_days_are_removed_first(storage: &Arc<dyn Storage>) {
    let mut counts = Vec::new();
    for on in ["2025-12-30", "2025-12-31", "2026-01-01"] {
        counts.extend((0..5).map(|i| count(on, &format!("text {i}"), 1, 0, 0)));
    }
    add(storage, &counts).await;
    let contract = "`trim` removes at most `limit` rows of earlier days, the oldest first, and returns how many.";
    let left = async |day: &str| -> usize { all(storage, &range(day, day), SEARCHES).await.len() };
    for (limit, gone, days) in
        [(0, 0, (5, 5, 5)), (3, 3, (2, 5, 5)), (4, 4, (0, 3, 5)), (3, 3, (0, 0, 5)), (10, 0, (0, 0, 5))]
    {
        let done = attempt!(storage, search_log.trim(day("2026-01-01"), limit)).unwrap();
        let found = (left("2025-12-30").await, left("2025-12-31").await, left("2026-01-01").await);
        same((done, found), (gone, days), contract, format_args!("limit {limit}"));
    }
    let done = attempt!(storage, search_log.trim(day("2026-01-02"), 100)).unwrap();
    same((done, left("2026-01-01").await), (5, 0), contract, "the last day");
}

/// The key of the position has another kind.
pub async fn a_cursor_of_another_list_is_refused(storage: &Arc<dyn Storage>) {
    for key in [SortKey::Text("a".to_owned()), SortKey::Id] {
        let after = Keyset { sort: SEARCHES.as_str().to_owned(), key, id: Uuid::nil() };
        let paging = Paging::Keyset { after: Some(after), limit: 10 };
        let mut db = storage.connect().await.unwrap();
        let refused = db.search_log().list(&always(), SEARCHES, &paging).await;
        assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation);
    }
}
