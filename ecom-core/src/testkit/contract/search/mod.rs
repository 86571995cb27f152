//! What every [`SearchProvider`] must do.
//!
//! Capabilities decide what is asked of a provider: what one lacks it must refuse with `UNSUPPORTED`.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests: a broken expectation panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::{Just, Strategy as _, any, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::{Attributes, AvailabilityStatus, OutboxPosition, ProductStatus};
use crate::error::{Error, ErrorCode};
use crate::id::{CategoryId, ProductId};
use crate::paging::Total;
use crate::port::{
    Checkpoint, Facet, FacetCount, IndexOp, SearchDocument, SearchFilter, SearchProvider, SearchQuery, SearchResults,
    SearchSort,
};

/// Runs the suite of [`SearchProvider`].
///
/// Takes the path of an `async fn() -> (Arc<dyn SearchProvider>, Box<dyn Any + Send>)` that makes a fresh, empty
/// provider and what must outlive it. The crate that uses it needs tokio with `macros` and `rt-multi-thread`. Use
/// it once per module.
#[macro_export]
macro_rules! search_suite {
    ($make:path) => {
        $crate::search_suite! { @each $make, [
            a_new_index_is_empty_and_answers,
            every_text_field_is_searched,
            all_words_must_match_in_any_field,
            fields_weigh_in_the_order_of_the_document,
            exact_matches_rank_above_typos_and_prefixes,
            words_are_stemmed,
            typos_one_edit_from_four_letters_two_from_eight,
            prefix_matches_the_last_word_only,
            accents_and_case_do_not_matter,
            codes_match_whole_and_exactly,
            user_text_is_never_a_query_language,
            r17_what_is_out_of_bounds_is_refused,
            r06_category_filter_takes_the_subtree,
            filters_hold_all_together,
            filters_narrow_a_text,
            attributes_filter_by_their_json_text,
            sorts_order_and_put_the_priceless_last,
            paging_is_stable_and_the_total_exact,
            facets_count_all_matches,
            facets_leave_out_the_filter_of_their_own_field,
            facets_join_spellings_and_have_at_most_100_values,
            what_a_provider_cannot_do_it_refuses,
            r14_late_older_revision_never_wins,
            r14_a_deleted_product_stays_deleted_for_late_documents,
            r14_order_within_a_batch_counts,
            r14_checkpoint_and_documents_move_together,
            r14_random_histories_equal_the_model,
            revisions_list_live_documents_by_id,
            a_batch_is_seen_whole_or_not_at_all,
            a_rebuild_replaces_everything_and_serves_meanwhile,
            r14_changes_during_a_rebuild_are_replayed_onto_it,
            a_dropped_rebuild_leaves_the_old_index,
        ] }
    };
    (@each $make:path, [$($test:ident,)*]) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            let (provider, guard) = $make().await;
            $crate::testkit::search::$test(&*provider).await;
            drop(provider);
            drop(guard);
        }
    )*};
}

fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

fn number(id: ProductId) -> u128 {
    id.0.as_u128()
}

fn category(n: u128) -> CategoryId {
    CategoryId(Uuid::from_u128(n << 64 | n))
}

fn at(seq: i64) -> Checkpoint {
    Checkpoint { database: Uuid::from_u128(0xDB), position: OutboxPosition { seq } }
}

fn micros(n: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(1_700_000_000_000_000 + n).unwrap()
}

/// A document with a title and little else.
fn titled(n: u128, title: &str) -> SearchDocument {
    SearchDocument {
        id: product(n),
        revision: 1,
        title: title.to_owned(),
        brand: None,
        tags: Vec::new(),
        category_names: Vec::new(),
        codes: Vec::new(),
        description: None,
        categories: Vec::new(),
        price: Some(1_000),
        availability: AvailabilityStatus::InStock,
        rating: 0,
        status: ProductStatus::Active,
        created_at: micros(0),
        attributes: Attributes::default(),
    }
}

fn upsert(document: SearchDocument) -> IndexOp {
    IndexOp::Upsert(Box::new(document))
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

async fn load(provider: &dyn SearchProvider, documents: Vec<SearchDocument>) {
    assert!(provider.acquire_writer().await.unwrap(), "a fresh provider must be able to write");
    let n = documents.len() as u64;
    let applied = provider.apply(documents.into_iter().map(upsert).collect(), at(1)).await.unwrap();
    assert_eq!(applied, n, "documents of a new index are all applied");
}

fn text(text: &str) -> SearchQuery {
    SearchQuery { text: text.to_owned(), limit: 100, ..SearchQuery::default() }
}

fn filtered(filter: SearchFilter) -> SearchQuery {
    SearchQuery { filter, sort: SearchSort::PriceAsc, limit: 100, ..SearchQuery::default() }
}

fn exactly(count: u64) -> Total {
    Total { count, exact: true }
}

/// The hits in order; the total must agree with them where the page holds them all.
async fn hits(provider: &dyn SearchProvider, query: &SearchQuery) -> Vec<u128> {
    let found = provider.search(query).await.unwrap_or_else(|e| panic!("{query:?} fails: {e:?}"));
    let hits: Vec<u128> = found.hits.iter().map(|h| number(h.id)).collect();
    if query.offset == 0 && hits.len() < query.limit as usize {
        assert_eq!(found.total, exactly(hits.len() as u64), "the total of {query:?}");
    }
    assert!(found.hits.windows(2).all(|w| query.sort != SearchSort::Relevance || w[0].score >= w[1].score));
    hits
}

async fn finds(provider: &dyn SearchProvider, typed: &str) -> BTreeSet<u128> {
    hits(provider, &text(typed)).await.into_iter().collect()
}

fn set<const N: usize>(numbers: [u128; N]) -> BTreeSet<u128> {
    numbers.into()
}

fn facet(results: &SearchResults, facet: Facet) -> Vec<(&str, u64)> {
    let (_, counts) =
        results.facets.iter().find(|(f, _)| *f == facet).unwrap_or_else(|| panic!("{facet:?} is missing"));
    counts.iter().map(|FacetCount { value, count }| (value.as_str(), *count)).collect()
}

async fn refused(provider: &dyn SearchProvider, query: &SearchQuery, code: ErrorCode, what: &str) {
    match provider.search(query).await {
        Ok(_) => panic!("{what} must be refused"),
        Err(e) => assert_eq!(e.code(), code, "{what}: {e:?}"),
    }
}

/// Whether text is searched; a provider that cannot says so here.
async fn has_text(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().full_text;
    if !able {
        refused(provider, &text("lamp"), ErrorCode::Unsupported, "a text").await;
    }
    able
}

/// A new index has nothing, no checkpoint, and answers.
pub async fn a_new_index_is_empty_and_answers(provider: &dyn SearchProvider) {
    provider.ping().await.unwrap();
    assert!(!provider.name().is_empty());
    assert_eq!(provider.checkpoint().await.unwrap(), None);
    assert!(provider.acquire_writer().await.unwrap());
    assert!(provider.acquire_writer().await.unwrap(), "who has the right to write keeps it");
    assert_eq!(provider.checkpoint().await.unwrap(), None);
    assert_eq!(provider.revisions(None, 10).await.unwrap(), []);
    let found = provider.search(&text("")).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(0)));
    provider.ping().await.unwrap();
}

/// Title, brand, tags, category names, codes and description are searched; an empty text matches everything.
pub async fn every_text_field_is_searched(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Walnut desk"),
            SearchDocument { brand: Some("Nordholm".into()), ..titled(2, "Chair") },
            SearchDocument { tags: strings(["ergonomic", "office"]), ..titled(3, "Chair") },
            SearchDocument { category_names: strings(["Armchairs", "Furniture"]), ..titled(4, "Chair") },
            SearchDocument { codes: strings(["QX777"]), ..titled(5, "Chair") },
            SearchDocument { description: Some("Covered in corduroy.".into()), ..titled(6, "Chair") },
        ],
    )
    .await;
    for (typed, n) in [("walnut", 1), ("nordholm", 2), ("office", 3), ("furniture", 4), ("qx777", 5), ("corduroy", 6)] {
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    assert_eq!(finds(provider, "").await, set([1, 2, 3, 4, 5, 6]));
    assert_eq!(finds(provider, " \t ").await, set([1, 2, 3, 4, 5, 6]));
    assert_eq!(finds(provider, "unheard").await, set([]));
}

/// Each word must match, each in whatever field.
pub async fn all_words_must_match_in_any_field(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            SearchDocument { brand: Some("Acme".into()), ..titled(1, "Kettle green") },
            SearchDocument { brand: Some("Borea".into()), ..titled(2, "Kettle green") },
            SearchDocument {
                brand: Some("Acme".into()),
                description: Some("For a kettle.".into()),
                ..titled(3, "Lid")
            },
        ],
    )
    .await;
    assert_eq!(finds(provider, "acme kettle").await, set([1, 3]));
    assert_eq!(finds(provider, "kettle acme green").await, set([1]));
    assert_eq!(finds(provider, "kettle acme purple").await, set([]));
}

/// Title over brand over tags over category names over codes over description.
pub async fn fields_weigh_in_the_order_of_the_document(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    // Ids run against the expected order, and the weak matches are short and the strong ones long.
    let long = "of a rather long text that goes on and on about other things";
    load(
        provider,
        vec![
            SearchDocument { description: Some("Zephyr zephyr zephyr".into()), ..titled(1, "Thing") },
            SearchDocument { codes: strings(["ZEPHYR"]), ..titled(2, "Thing") },
            SearchDocument { category_names: strings(["Zephyr"]), ..titled(3, "Thing") },
            SearchDocument { tags: strings(["zephyr"]), ..titled(4, "Thing") },
            SearchDocument { brand: Some(format!("Zephyr {long}")), ..titled(5, "Thing") },
            titled(6, &format!("Zephyr {long}")),
        ],
    )
    .await;
    assert_eq!(hits(provider, &text("zephyr")).await, [6, 5, 4, 3, 2, 1]);
}

/// A word as typed beats a similar one, wherever they stand.
pub async fn exact_matches_rank_above_typos_and_prefixes(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Camela"),
            SearchDocument { description: Some("A bag for any camera you may have.".into()), ..titled(2, "Bag") },
            titled(3, "Cameraman"),
            titled(4, "Camera"),
            titled(5, "Camera and lens with strap and more"),
        ],
    )
    .await;
    let found = hits(provider, &text("camera")).await;
    assert_eq!(found[..2], [4, 5], "titles first, the shorter one before");
    assert_eq!(found[2], 2, "a description as typed over a title with a typo or a longer word");
    assert_eq!(found[3..].iter().copied().collect::<BTreeSet<_>>(), set([1, 3]));
}

/// English inflections match each other.
pub async fn words_are_stemmed(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Running shoes"), titled(2, "Chef's knives, boxes")]).await;
    for typed in ["run shoe", "runs shoes", "running SHOE"] {
        assert_eq!(finds(provider, typed).await, set([1]), "{typed}");
    }
    for typed in ["box chef", "chefs boxes", "boxed chef's", "chef\u{2019}s box"] {
        assert_eq!(finds(provider, typed).await, set([2]), "{typed}");
    }
}

/// None under 4 letters, one from 4, two from 8; a swap of neighbours is one.
pub async fn typos_one_edit_from_four_letters_two_from_eight(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "cup"), titled(2, "lamp"), titled(3, "blanket"), titled(4, "keyboard")]).await;
    for (typed, n) in [
        ("cup", 1),
        ("lemp", 2),
        ("lapm", 2),
        ("laamp", 2),
        ("blankat", 3),
        ("lanket", 3),
        ("keyboord", 4),
        ("kayboord", 4),
        ("keyboardxx", 4),
    ] {
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    for typed in ["cop", "cpu", "lemb", "blenkat", "kayboort"] {
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
    assert_eq!(finds(provider, "lemp cup").await, set([]), "all words must match, with typos too");
}

/// Shoppers type on: the last word may be unfinished, no other.
pub async fn prefix_matches_the_last_word_only(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Wireless headphones"), titled(2, "Wired headset")]).await;
    assert_eq!(finds(provider, "wireless headp").await, set([1]));
    assert_eq!(finds(provider, "head").await, set([1, 2]));
    assert_eq!(finds(provider, "h").await, set([1, 2]));
    assert_eq!(finds(provider, "headp wireless").await, set([]));
    assert_eq!(finds(provider, "eadphon").await, set([]), "a prefix starts where the word starts");
}

/// Accents, composed or not, and case are folded on both sides.
pub async fn accents_and_case_do_not_matter(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Crème brûlée"),
            titled(2, "CREME BRULEE dish"),
            titled(3, "Cre\u{300}me bru\u{302}le\u{301}e cup"),
        ],
    )
    .await;
    for typed in ["creme brulee", "Crème Brûlée", "CRÈME BRÛLÉE", "cre\u{300}me brule\u{301}e"] {
        assert_eq!(finds(provider, typed).await, set([1, 2, 3]), "{typed}");
    }
}

/// A code or barcode is one token: found whole, in any case, never by a part of it or with a typo.
pub async fn codes_match_whole_and_exactly(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            SearchDocument { codes: strings(["AB-1234/X", "4006381333931"]), ..titled(1, "Lamp") },
            SearchDocument { codes: strings(["AB-1234/Y", "4006381333932"]), ..titled(2, "Lamp") },
            SearchDocument { codes: strings(["Kit 7 Blue"]), ..titled(3, "Lamp") },
        ],
    )
    .await;
    for (typed, n) in [
        ("AB-1234/X", 1),
        ("ab-1234/x", 1),
        ("4006381333931", 1),
        ("4006381333932", 2),
        ("lamp ab-1234/y", 2),
        ("ab-1234/y lamp", 2),
        ("kit 7 blue", 3),
    ] {
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    for typed in ["AB-1234", "1234", "AB-1234/Z", "400638133393", "4006381333930", "ab 1234 x"] {
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
}

/// Operators, quotes and wildcards are text.
pub async fn user_text_is_never_a_query_language(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Lamp"), titled(2, "Kettle"), titled(3, "Title")]).await;
    for typed in
        ["\"lamp\"", "lamp*", "-lamp", "+lamp", "(lamp", "lamp)", "lamp^", "lamp & *", "[lamp}", "lamp\\", "lamp!"]
    {
        assert_eq!(finds(provider, typed).await, set([1]), "{typed}");
    }
    for typed in [
        "lamp OR kettle",
        "NOT lamp",
        "lamp AND kettle",
        "title:lamp",
        "lamp^2",
        "* : ^",
        "*",
        "_exists_:title",
        "[a TO z]",
        "/l.mp/",
        "{\"match_all\":{}}",
        "lamp~9",
        "\\",
        "\"",
        "id:*",
        "la?p*x",
        "' or 1=1 --",
        "\0",
        "\u{1F4A1}",
    ] {
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
}

/// Bounds of the port: never slow, always said.
pub async fn r17_what_is_out_of_bounds_is_refused(provider: &dyn SearchProvider) {
    load(provider, vec![titled(1, "Lamp")]).await;
    let code = ErrorCode::Validation;
    refused(provider, &SearchQuery { offset: 10_001, ..text("") }, code, "an offset over 10,000").await;
    refused(provider, &SearchQuery { limit: 1_001, ..text("") }, code, "a limit over 1,000").await;
    if provider.capabilities().facets {
        let query = |price_bounds| SearchQuery { facets: vec![Facet::Prices], price_bounds, ..text("") };
        refused(provider, &query(vec![2, 1]), code, "falling price bounds").await;
        refused(provider, &query((0..101).collect()), code, "101 price bounds").await;
    }
    let found = provider.search(&SearchQuery { offset: 10_000, limit: 1_000, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(1)));
    let found = provider.search(&SearchQuery { limit: 0, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(1)), "a limit of 0 asks for the total");
    if !has_text(provider).await {
        return;
    }
    // Cut or refused, but never tried as it is.
    for long in ["lamp ".repeat(200), "x".repeat(513), "x-".repeat(250), "lamp ".repeat(33), "ö".repeat(1_000_000)] {
        match provider.search(&text(&long)).await {
            Ok(_) => {}
            Err(e) => assert_eq!(e.code(), code, "a long text: {e:?}"),
        }
    }
    assert_eq!(finds(provider, "lamp lamp lamp lamp lamp lamp lamp lamp").await, set([1]));
}

/// R6: documents name the categories above their own; any of those finds them.
pub async fn r06_category_filter_takes_the_subtree(provider: &dyn SearchProvider) {
    let (root, audio, phones, garden) = (category(1), category(2), category(3), category(4));
    load(
        provider,
        vec![
            SearchDocument { categories: vec![root], price: Some(1), ..titled(1, "a") },
            SearchDocument { categories: vec![audio, root], price: Some(2), ..titled(2, "b") },
            SearchDocument { categories: vec![phones, audio, root, root], price: Some(3), ..titled(3, "c") },
            SearchDocument { categories: vec![garden], price: Some(4), ..titled(4, "d") },
            SearchDocument { price: Some(5), ..titled(5, "e") },
        ],
    )
    .await;
    for (categories, expected) in [
        (vec![root], vec![1, 2, 3]),
        (vec![audio], vec![2, 3]),
        (vec![phones], vec![3]),
        (vec![phones, garden], vec![3, 4]),
        (vec![category(9)], vec![]),
        (vec![], vec![1, 2, 3, 4, 5]),
    ] {
        let query = filtered(SearchFilter { categories: categories.clone(), ..SearchFilter::default() });
        assert_eq!(hits(provider, &query).await, expected, "{categories:?}");
    }
}

/// Six documents that differ in everything that can be filtered and counted.
fn catalog() -> Vec<SearchDocument> {
    use AvailabilityStatus as A;
    use ProductStatus as S;
    let (home, light, desk) = (category(1), category(2), category(3));
    let of = |n: u128, brand: &str, tags: Vec<String>, categories, price: i64, availability, rating, status| {
        SearchDocument {
            brand: Some(brand.to_owned()),
            tags,
            categories,
            price: Some(price),
            availability,
            rating,
            status,
            created_at: micros(i64::try_from(n).unwrap()),
            ..titled(n, "Lamp")
        }
    };
    vec![
        of(1, "Straße", strings(["Red", "new"]), vec![home, light], 500, A::InStock, 450, S::Active),
        of(2, "STRASSE", strings(["red"]), vec![home, light], 1_000, A::Limited, 400, S::Active),
        of(3, "Borea", strings(["Blue", "NEW"]), vec![home, desk], 1_500, A::OutOfStock, 399, S::Active),
        of(4, "Borea", strings(["red", "new", "sale"]), vec![home, desk], 2_000, A::InStock, 0, S::Draft),
        of(5, "Café", vec![], vec![home], 2_500, A::InStock, 500, S::Archived),
        SearchDocument { price: None, availability: A::OutOfStock, ..titled(6, "Lamp") },
    ]
}

/// Every filter, its bounds, and all of them at once.
pub async fn filters_hold_all_together(provider: &dyn SearchProvider) {
    load(provider, catalog()).await;
    let none = SearchFilter::default;
    let brands = |b: &[&str]| b.iter().map(|b| (*b).to_owned()).collect::<Vec<_>>();
    for (filter, expected) in [
        (SearchFilter { brands: brands(&["strasse"]), ..none() }, vec![1, 2]),
        (SearchFilter { brands: brands(&[" BOREA ", "café"]), ..none() }, vec![3, 4, 5]),
        (SearchFilter { brands: brands(&["cafe"]), ..none() }, vec![]),
        (SearchFilter { brands: brands(&["bor"]), ..none() }, vec![]),
        (SearchFilter { tags: brands(&["RED"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: brands(&["red", "New"]), ..none() }, vec![1, 4]),
        (SearchFilter { tags: brands(&["red", "red"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: brands(&["red", "blue"]), ..none() }, vec![]),
        (SearchFilter { min_price: Some(1_000), max_price: Some(2_000), ..none() }, vec![2, 3, 4]),
        (SearchFilter { min_price: Some(2_001), ..none() }, vec![5]),
        (SearchFilter { max_price: Some(999), ..none() }, vec![1]),
        (SearchFilter { min_price: Some(i64::MIN), max_price: Some(i64::MAX), ..none() }, vec![1, 2, 3, 4, 5]),
        (SearchFilter { min_price: Some(2), max_price: Some(1), ..none() }, vec![]),
        (SearchFilter { availability: vec![AvailabilityStatus::OutOfStock], ..none() }, vec![3, 6]),
        (
            SearchFilter { availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::Limited], ..none() },
            vec![1, 2, 4, 5],
        ),
        (SearchFilter { min_rating: Some(400), ..none() }, vec![1, 2, 5]),
        (SearchFilter { status: Some(ProductStatus::Active), ..none() }, vec![1, 2, 3, 6]),
        (SearchFilter { status: Some(ProductStatus::Draft), ..none() }, vec![4]),
        (
            SearchFilter {
                categories: vec![category(2), category(3)],
                brands: brands(&["strasse", "borea"]),
                tags: brands(&["new"]),
                min_price: Some(500),
                max_price: Some(1_999),
                availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::OutOfStock],
                min_rating: Some(399),
                status: Some(ProductStatus::Active),
                ..none()
            },
            vec![1, 3],
        ),
    ] {
        let query = filtered(filter);
        assert_eq!(hits(provider, &query).await, expected, "{query:?}");
        if provider.capabilities().facets {
            // Counting what is filtered by must not change what is found.
            let counting = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..query };
            assert_eq!(hits(provider, &counting).await, expected, "{counting:?}");
        }
    }
}

/// Text and filters hold together.
pub async fn filters_narrow_a_text(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    let mut documents = catalog();
    documents.push(SearchDocument { brand: Some("Borea".into()), ..titled(7, "Kettle") });
    load(provider, documents).await;
    let filter = SearchFilter { brands: strings(["borea"]), ..SearchFilter::default() };
    assert_eq!(hits(provider, &SearchQuery { text: "lamp".into(), ..filtered(filter.clone()) }).await, [3, 4]);
    assert_eq!(hits(provider, &SearchQuery { text: "kettle".into(), ..filtered(filter.clone()) }).await, [7]);
    assert_eq!(hits(provider, &SearchQuery { text: "kettle lamp".into(), ..filtered(filter) }).await, [0u128; 0]);
}

/// Top-level attributes, case-insensitively, by the text of their JSON.
pub async fn attributes_filter_by_their_json_text(provider: &dyn SearchProvider) {
    let by = |name: &str, value: &str| {
        filtered(SearchFilter { attributes: vec![(name.to_owned(), value.to_owned())], ..SearchFilter::default() })
    };
    if !provider.capabilities().attribute_filters {
        return refused(provider, &by("color", "red"), ErrorCode::Unsupported, "a filter by attribute").await;
    }
    let with = |n: u128, value: serde_json::Value| SearchDocument {
        attributes: serde_json::from_value(value).unwrap(),
        price: Some(i64::try_from(n).unwrap()),
        ..titled(n, "x")
    };
    load(
        provider,
        vec![
            with(1, json!({"color": "Red", "size": 42, "organic": true})),
            with(2, json!({"color": "Dark red", "size": 4.5, "organic": false})),
            with(3, json!({"colour": "red", "inner": {"color": "red"}, "size": "42"})),
        ],
    )
    .await;
    assert_eq!(hits(provider, &by("color", "RED")).await, [1]);
    assert_eq!(hits(provider, &by("color", "dark RED")).await, [2]);
    assert_eq!(hits(provider, &by("color", "dark")).await, [0u128; 0], "the whole value");
    assert_eq!(hits(provider, &by("size", "42")).await, [1, 3]);
    assert_eq!(hits(provider, &by("size", "4.5")).await, [2]);
    assert_eq!(hits(provider, &by("organic", "true")).await, [1]);
    let both = SearchFilter {
        attributes: vec![("color".into(), "red".into()), ("organic".into(), "false".into())],
        ..SearchFilter::default()
    };
    assert_eq!(hits(provider, &filtered(both)).await, [0u128; 0], "all of them must hold");
}

/// Every sort; ties by id; without a price last in both directions.
pub async fn sorts_order_and_put_the_priceless_last(provider: &dyn SearchProvider) {
    let of = |n: u128, price, rating, created| SearchDocument {
        price,
        rating,
        created_at: micros(created),
        ..titled(n, "Lamp")
    };
    load(
        provider,
        vec![
            of(5, Some(300), 100, 1),
            of(4, None, 500, 5),
            of(3, Some(0), 500, -4_000_000_000_000_000),
            of(2, Some(300), 0, 3),
            of(1, None, 250, 5),
        ],
    )
    .await;
    for (sort, expected) in [
        (SearchSort::PriceAsc, [3, 2, 5, 1, 4]),
        (SearchSort::PriceDesc, [2, 5, 3, 1, 4]),
        (SearchSort::RatingDesc, [3, 4, 1, 5, 2]),
        (SearchSort::CreatedDesc, [1, 4, 2, 5, 3]),
        (SearchSort::Relevance, [1, 4, 2, 5, 3]),
    ] {
        assert_eq!(hits(provider, &SearchQuery { sort, ..text("") }).await, expected, "{sort:?}");
        if sort != SearchSort::Relevance && provider.capabilities().full_text {
            assert_eq!(hits(provider, &SearchQuery { sort, ..text("lamp") }).await, expected, "{sort:?} with a text");
        }
    }
}

/// Pages neither overlap nor leave out, also where everything ties and the index was filled in several steps.
pub async fn paging_is_stable_and_the_total_exact(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    let all: Vec<u128> = (1..=57).collect();
    for (step, batch) in all.chunks(10).enumerate() {
        let ops = batch.iter().rev().map(|n| upsert(titled(*n, "Lamp"))).collect();
        provider.apply(ops, at(2 + i64::try_from(step).unwrap())).await.unwrap();
    }
    for sort in SearchSort::ALL {
        for typed in if provider.capabilities().full_text { vec!["", "lamp", "lamb"] } else { vec![""] } {
            let mut seen = Vec::new();
            for offset in (0..60).step_by(9) {
                let query = SearchQuery { sort, offset, limit: 9, ..text(typed) };
                let found = provider.search(&query).await.unwrap();
                assert_eq!(found.total, exactly(57), "{sort:?} at {offset}");
                seen.extend(found.hits.iter().map(|h| number(h.id)));
            }
            assert_eq!(seen, all, "{sort:?} of `{typed}`: ties are ordered by id");
        }
    }
    let found = provider.search(&SearchQuery { offset: 57, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(57)));
}

/// Whether facets are counted; a provider that cannot says so here.
async fn has_facets(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().facets;
    if !able {
        let query = SearchQuery { facets: vec![Facet::Brands], ..text("") };
        refused(provider, &query, ErrorCode::Unsupported, "a facet").await;
    }
    able
}

/// All matches count, not those of the page; values that none has are left out.
pub async fn facets_count_all_matches(provider: &dyn SearchProvider) {
    if !has_facets(provider).await {
        return;
    }
    load(provider, catalog()).await;
    let query = SearchQuery {
        facets: Facet::ALL.to_vec(),
        price_bounds: vec![1_000, 2_000, 3_000],
        limit: 1,
        offset: 1,
        ..text("")
    };
    let found = provider.search(&query).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (1, exactly(6)));
    assert_eq!(found.facets.iter().map(|(f, _)| *f).collect::<Vec<_>>(), Facet::ALL, "in the order asked for");
    let ids = [1, 2, 3].map(|n| category(n).to_string());
    assert_eq!(facet(&found, Facet::Categories), [(ids[0].as_str(), 5), (&ids[1], 2), (&ids[2], 2)]);
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(brands[2].0, "Café", "as written");
    assert!(brands.iter().any(|b| b.0 == "Borea"));
    assert_eq!(
        facet(&found, Facet::Prices),
        [("1000", 2), ("2000", 2)],
        "from the bound up; those below count nowhere"
    );
    let tags: Vec<(String, u64)> = facet(&found, Facet::Tags).into_iter().map(|(v, n)| (v.to_lowercase(), n)).collect();
    let mut sorted = tags.clone();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    assert_eq!(sorted, [("new".into(), 3), ("red".into(), 3), ("blue".into(), 1), ("sale".into(), 1)]);
    assert!(tags.is_sorted_by_key(|t| std::cmp::Reverse(t.1)), "most first");
    assert_eq!(facet(&found, Facet::Rating), [("0", 2), ("3", 1), ("4", 2), ("5", 1)], "whole stars, by value");
    assert_eq!(facet(&found, Facet::Availability), [("in_stock", 3), ("out_of_stock", 2), ("limited", 1)]);
    if provider.capabilities().full_text {
        let none = provider.search(&SearchQuery { text: "unheard".into(), ..query }).await.unwrap();
        assert!(none.facets.iter().all(|(_, counts)| counts.is_empty()), "{none:?}");
    }
}

/// Each facet counts what would match if its own filter were not there, and all others hold.
pub async fn facets_leave_out_the_filter_of_their_own_field(provider: &dyn SearchProvider) {
    if !has_facets(provider).await || !provider.capabilities().disjunctive_facets {
        return;
    }
    load(provider, catalog()).await;
    let filter = SearchFilter {
        brands: strings(["strasse"]),
        max_price: Some(1_500),
        status: Some(ProductStatus::Active),
        ..SearchFilter::default()
    };
    let query = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0, 1_000], ..filtered(filter.clone()) };
    let found = provider.search(&query).await.unwrap();
    assert_eq!(found.hits.iter().map(|h| number(h.id)).collect::<Vec<_>>(), [1, 2]);
    // Without the brand filter: 1, 2, 3.
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(brands[1].0, "Borea");
    // Without the price filter nothing more of that brand is active: 1, 2.
    assert_eq!(facet(&found, Facet::Prices), [("0", 1), ("1000", 1)]);
    // All filters: 1, 2.
    assert_eq!(facet(&found, Facet::Rating), [("4", 2)]);
    assert_eq!(
        facet(&found, Facet::Availability).into_iter().collect::<BTreeMap<_, _>>(),
        [("in_stock", 1), ("limited", 1)].into()
    );
    // Every kind of filter alone: its own facet is as without it, the total is not.
    let open = provider
        .search(&SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0, 1_000], ..text("") })
        .await
        .unwrap();
    let none = SearchFilter::default;
    for (of, filter, total) in [
        (Facet::Categories, SearchFilter { categories: vec![category(2)], ..none() }, 2),
        (Facet::Brands, SearchFilter { brands: strings(["borea"]), ..none() }, 2),
        (Facet::Prices, SearchFilter { min_price: Some(1_600), ..none() }, 2),
        (Facet::Tags, SearchFilter { tags: strings(["red", "new"]), ..none() }, 2),
        (Facet::Rating, SearchFilter { min_rating: Some(450), ..none() }, 2),
        (Facet::Availability, SearchFilter { availability: vec![AvailabilityStatus::Limited], ..none() }, 1),
    ] {
        let found = provider
            .search(&SearchQuery { facets: vec![of], price_bounds: vec![0, 1_000], ..filtered(filter.clone()) })
            .await
            .unwrap();
        assert_eq!(found.total, exactly(total), "{of:?}");
        assert_eq!(facet(&found, of), facet(&open, of), "{of:?} leaves out its own filter");
        // Other facets take it.
        let other = if of == Facet::Brands { Facet::Categories } else { Facet::Brands };
        let found = provider.search(&SearchQuery { facets: vec![other], ..filtered(filter) }).await.unwrap();
        assert!(
            facet(&found, other).iter().map(|c| c.1).max().unwrap() <= total,
            "{other:?} takes the filter of {of:?}"
        );
    }
    // A document that fails two filters counts for neither facet.
    let two = SearchFilter { brands: strings(["borea"]), min_rating: Some(450), ..none() };
    let found =
        provider.search(&SearchQuery { facets: vec![Facet::Brands, Facet::Rating], ..filtered(two) }).await.unwrap();
    assert_eq!(found.total, exactly(0));
    assert_eq!(facet(&found, Facet::Brands).iter().map(|b| b.1).collect::<Vec<_>>(), [1, 1], "1 and 5");
    assert_eq!(facet(&found, Facet::Rating), [("0", 1), ("3", 1)], "4 and 3");
}

/// One value per folded key, whatever the spelling; the most frequent hundred.
pub async fn facets_join_spellings_and_have_at_most_100_values(provider: &dyn SearchProvider) {
    if !has_facets(provider).await {
        return;
    }
    load(provider, Vec::new()).await;
    let of = |n: u128, brand: String| SearchDocument { brand: Some(brand), ..titled(n, "x") };
    let first = (0..150).map(|n| upsert(of(n, format!("Brand {n}")))).collect();
    provider.apply(first, at(2)).await.unwrap();
    // The last ten are the most frequent, partly written in another way and in another step.
    let more = (140..150).map(|n| upsert(of(n + 100, format!("BRAND  {n}")))).collect();
    provider.apply(more, at(3)).await.unwrap();
    let query = SearchQuery { facets: vec![Facet::Brands, Facet::Brands], ..text("") };
    let found = provider.search(&query).await.unwrap();
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.len(), 100);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [[2; 10].as_slice(), &[1; 90]].concat());
    let keys: BTreeSet<String> = brands.iter().map(|b| crate::text::fold_key(b.0)).collect();
    assert_eq!(keys.len(), 100);
    assert!((140..150).all(|n| keys.contains(&format!("brand {n}"))));
}

/// What the capabilities exclude fails with `UNSUPPORTED`, and nothing else does.
pub async fn what_a_provider_cannot_do_it_refuses(provider: &dyn SearchProvider) {
    load(provider, catalog()).await;
    let can = provider.capabilities();
    let facets = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
    let attribute = SearchFilter { attributes: vec![("a".into(), "b".into())], ..SearchFilter::default() };
    for (what, able, query) in [
        ("text", can.full_text, text("lamp")),
        ("facets", can.facets, facets),
        ("attributes", can.attribute_filters, filtered(attribute)),
    ] {
        match provider.search(&query).await {
            Ok(_) => assert!(able, "{what} must be refused"),
            Err(e) => assert!(!able && matches!(e, Error::Unsupported { .. }), "{what}: {e:?}"),
        }
    }
}

async fn state(provider: &dyn SearchProvider) -> Vec<(u128, i64)> {
    provider.revisions(None, 1_000).await.unwrap().into_iter().map(|(id, r)| (number(id), r)).collect()
}

fn revised(n: u128, revision: i64) -> SearchDocument {
    SearchDocument { revision, price: Some(revision), ..titled(n, "Lamp") }
}

/// The prices of what is found show which document the index has.
async fn priced(provider: &dyn SearchProvider, price: i64) -> Vec<u128> {
    hits(
        provider,
        &filtered(SearchFilter { min_price: Some(price), max_price: Some(price), ..SearchFilter::default() }),
    )
    .await
}

/// R14: a document that is not newer than what the index has changes nothing.
pub async fn r14_late_older_revision_never_wins(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let late = vec![upsert(revised(1, 4)), upsert(revised(2, 5)), IndexOp::Delete { id: product(1), revision: 5 }];
    assert_eq!(provider.apply(late, at(2)).await.unwrap(), 0);
    assert_eq!(state(provider).await, [(1, 5), (2, 5)]);
    assert_eq!(priced(provider, 5).await, [1, 2]);
    assert_eq!(provider.apply(vec![upsert(revised(1, 6)), upsert(revised(2, 3))], at(3)).await.unwrap(), 1);
    assert_eq!(state(provider).await, [(1, 6), (2, 5)]);
    assert_eq!((priced(provider, 6).await, priced(provider, 5).await), (vec![1], vec![2]), "the old one is gone");
}

/// R14: a delete is remembered, so that what comes late does not bring the product back; a newer one does.
pub async fn r14_a_deleted_product_stays_deleted_for_late_documents(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let delete = |n, revision| IndexOp::Delete { id: product(n), revision };
    assert_eq!(provider.apply(vec![delete(1, 6), delete(9, 3)], at(2)).await.unwrap(), 2);
    assert_eq!(state(provider).await, [(2, 5)]);
    assert_eq!(hits(provider, &text("")).await, [2]);
    for sort in SearchSort::ALL {
        assert_eq!(hits(provider, &SearchQuery { sort, ..text("") }).await, [2], "{sort:?}");
    }
    if provider.capabilities().facets {
        let query = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
        let found = provider.search(&query).await.unwrap();
        assert_eq!(facet(&found, Facet::Rating), [("0", 1)], "what is deleted counts nowhere");
        assert_eq!(facet(&found, Facet::Availability), [("in_stock", 1)]);
    }
    let late = vec![upsert(revised(1, 5)), upsert(revised(1, 6)), upsert(revised(9, 2)), delete(1, 6)];
    assert_eq!(provider.apply(late, at(3)).await.unwrap(), 0);
    assert_eq!(state(provider).await, [(2, 5)]);
    assert_eq!(provider.apply(vec![upsert(revised(1, 7)), upsert(revised(9, 4))], at(4)).await.unwrap(), 2);
    assert_eq!(state(provider).await, [(1, 7), (2, 5), (9, 4)]);
    assert_eq!(hits(provider, &text("")).await, [1, 2, 9]);
}

/// R14: the rule holds between the ops of one batch too.
pub async fn r14_order_within_a_batch_counts(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    let delete = |n, revision| IndexOp::Delete { id: product(n), revision };
    let batch = vec![
        upsert(revised(1, 1)),
        upsert(revised(1, 3)),
        upsert(revised(1, 2)),
        delete(2, 4),
        upsert(revised(2, 3)),
        upsert(revised(3, 1)),
        delete(3, 2),
        upsert(revised(3, 3)),
        upsert(revised(4, 1)),
        delete(4, 2),
    ];
    assert_eq!(provider.apply(batch, at(2)).await.unwrap(), 8);
    assert_eq!(state(provider).await, [(1, 3), (3, 3)]);
    assert_eq!(priced(provider, 3).await, [1, 3]);
    assert_eq!(hits(provider, &text("")).await, [1, 3]);
}

/// The checkpoint reads back as it was applied, with and without documents.
pub async fn r14_checkpoint_and_documents_move_together(provider: &dyn SearchProvider) {
    assert!(provider.acquire_writer().await.unwrap());
    let mut last = None;
    for seq in [3, 9, i64::MAX - 1] {
        assert_eq!(provider.checkpoint().await.unwrap(), last);
        assert_eq!(provider.apply(vec![upsert(revised(1, seq))], at(seq)).await.unwrap(), 1);
        last = Some(at(seq));
        assert_eq!(provider.checkpoint().await.unwrap(), last);
        assert_eq!(state(provider).await, [(1, seq)]);
    }
    assert_eq!(provider.apply(Vec::new(), at(i64::MAX)).await.unwrap(), 0);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(i64::MAX)), "it moves without documents too");
    assert_eq!(provider.apply(Vec::new(), at(i64::MAX)).await.unwrap(), 0, "applying again changes nothing");
    let other = Checkpoint { database: Uuid::from_u128(0xDC), position: OutboxPosition { seq: 1 } };
    assert_eq!(provider.apply(Vec::new(), other).await.unwrap(), 0);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(other));
}

/// R14: after any batches of any revisions in any order, the index has the highest revision of each product.
pub async fn r14_random_histories_equal_the_model(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    // Deterministic, so that a failure repeats.
    let mut runner = TestRunner::deterministic();
    let op = prop_oneof![3 => Just(false), 1 => Just(true)];
    let batches = proptest::collection::vec((0..12u128, 1..40i64, op, any::<bool>()), 0..25);
    // Revision, and whether it is live.
    let mut model: BTreeMap<u128, (i64, bool)> = BTreeMap::new();
    for round in 0..40 {
        // Later rounds reach higher, so that something changes in each.
        let batch = batches.new_tree(&mut runner).unwrap().current();
        let mut expected = 0;
        let mut ops = Vec::new();
        for (n, revision, delete, late) in batch {
            let revision = if late { revision } else { revision + round * 4 };
            if model.get(&n).is_none_or(|(r, _)| revision > *r) {
                model.insert(n, (revision, !delete));
                expected += 1;
            }
            ops.push(if delete { IndexOp::Delete { id: product(n), revision } } else { upsert(revised(n, revision)) });
        }
        let debug = format!("round {round}: {ops:?}");
        assert_eq!(provider.apply(ops, at(round + 2)).await.unwrap(), expected, "{debug}");
        let live: Vec<(u128, i64)> = model.iter().filter(|(_, v)| v.1).map(|(n, v)| (*n, v.0)).collect();
        assert_eq!(state(provider).await, live, "{debug}");
        let mut by_price = live.clone();
        by_price.sort_by_key(|(n, price)| (*price, *n));
        let found = hits(provider, &filtered(SearchFilter::default())).await;
        assert_eq!(found, by_price.iter().map(|l| l.0).collect::<Vec<_>>(), "{debug}");
        assert_eq!(provider.checkpoint().await.unwrap(), Some(at(round + 2)));
    }
}

/// Pages of `revisions` go on where the last one ended, over all steps that filled the index.
pub async fn revisions_list_live_documents_by_id(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    // Ids far apart, in both halves of their bits.
    let n = |i: u128| (i % 7) << 96 | i << 3;
    let mut expected = Vec::new();
    for step in 0..5u128 {
        let ids: Vec<u128> = (0..11).map(|i| n(step * 11 + i)).collect();
        provider.apply(ids.iter().map(|i| upsert(revised(*i, 3))).collect(), at(2)).await.unwrap();
        expected.extend(ids.into_iter().map(|i| (product(i), 3)));
    }
    let gone = n(20);
    provider.apply(vec![IndexOp::Delete { id: product(gone), revision: 4 }], at(3)).await.unwrap();
    expected.retain(|(id, _)| number(*id) != gone);
    expected.sort_unstable();
    let mut seen: Vec<(ProductId, i64)> = Vec::new();
    loop {
        let page = provider.revisions(seen.last().map(|l| l.0), 7).await.unwrap();
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

/// Searches that run while batches are applied see each of them whole or not at all.
pub async fn a_batch_is_seen_whole_or_not_at_all(provider: &dyn SearchProvider) {
    let batch = |revision| (1..=20).map(|n| upsert(revised(n, revision))).collect::<Vec<_>>();
    load(provider, Vec::new()).await;
    provider.apply(batch(1), at(2)).await.unwrap();
    let done = AtomicBool::new(false);
    let write = async {
        for revision in 2..12 {
            assert_eq!(provider.apply(batch(revision), at(revision + 1)).await.unwrap(), 20);
            assert_eq!(priced(provider, revision).await.len(), 20, "searchable on return");
        }
        done.store(true, Ordering::SeqCst);
    };
    let read = async {
        let mut searches = 0;
        while !done.load(Ordering::SeqCst) {
            let found = provider.search(&filtered(SearchFilter::default())).await.unwrap();
            assert_eq!(found.total, exactly(20));
            let price = 1 + searches % 12;
            let n = priced(provider, price).await.len();
            assert!(n == 0 || n == 20, "{n} of 20 have the price {price}");
            searches += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}

/// The new index replaces the old one at once and whole; until then the old one serves and takes changes.
pub async fn a_rebuild_replaces_everything_and_serves_meanwhile(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5), revised(3, 5)]).await;
    let mut build = provider.begin_rebuild().await.unwrap();
    build.add(vec![revised(2, 4), revised(7, 2)]).await.unwrap();
    build.add(Vec::new()).await.unwrap();
    build.add(vec![revised(8, 1)]).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 2, 3], "the old one serves");
    assert_eq!(state(provider).await, [(1, 5), (2, 5), (3, 5)]);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)));
    provider.apply(vec![upsert(revised(4, 1))], at(2)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 2, 3, 4], "the old one takes changes");
    build.publish(at(77)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [2, 7, 8]);
    assert_eq!(state(provider).await, [(2, 4), (7, 2), (8, 1)], "an older revision too: it is what the database has");
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(77)));
    assert!(provider.acquire_writer().await.unwrap());
    assert_eq!(provider.apply(vec![upsert(revised(2, 5)), upsert(revised(8, 1))], at(78)).await.unwrap(), 1);
    assert_eq!(state(provider).await, [(2, 5), (7, 2), (8, 1)]);
    // A second one, over the first.
    let build = provider.begin_rebuild().await.unwrap();
    build.publish(at(80)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [0u128; 0]);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(80)));
}

/// R14: a rebuild as of a checkpoint, then everything since: the result is the model, whatever went where.
pub async fn r14_changes_during_a_rebuild_are_replayed_onto_it(provider: &dyn SearchProvider) {
    load(provider, (1..=10).map(|n| revised(n, 1)).collect()).await;
    let mut build = provider.begin_rebuild().await.unwrap();
    build.add((1..=5).map(|n| revised(n, 1)).collect()).await.unwrap();
    let since = || {
        vec![
            upsert(revised(2, 2)),
            IndexOp::Delete { id: product(3), revision: 2 },
            upsert(revised(9, 3)),
            upsert(revised(11, 1)),
        ]
    };
    assert_eq!(provider.apply(since(), at(9)).await.unwrap(), 4);
    // The rest is read from the database after the change, so that it has part of it already.
    build.add((6..=10).map(|n| revised(n, if n == 9 { 3 } else { 1 })).collect()).await.unwrap();
    build.publish(at(1)).await.unwrap();
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)), "where the replay starts");
    assert_eq!(provider.apply(since(), at(9)).await.unwrap(), 3);
    let expected = [(1, 1), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 3), (10, 1), (11, 1)];
    assert_eq!(state(provider).await, expected);
}

/// A build that is not published changes nothing, and another one can follow.
pub async fn a_dropped_rebuild_leaves_the_old_index(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5)]).await;
    for _ in 0..2 {
        let mut build = provider.begin_rebuild().await.unwrap();
        build.add(vec![revised(2, 1)]).await.unwrap();
        drop(build);
        assert_eq!(state(provider).await, [(1, 5)]);
        assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)));
    }
    provider.apply(vec![upsert(revised(3, 1))], at(2)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 3]);
}

/// A provider as a factory of the suite returns it.
pub type Fixture = (Arc<dyn SearchProvider>, Box<dyn std::any::Any + Send>);

#[cfg(test)]
mod tests {
    /// A test that the macro does not list would never run.
    #[test]
    fn every_test_of_the_suite_is_in_its_list() {
        let source = include_str!("mod.rs");
        let list = source.split_once("macro_rules!").unwrap().1.split_once("\n}\n").unwrap().0;
        for test in source.split("\npub async fn ").skip(1).map(|f| f.split('(').next().unwrap()) {
            assert!(list.contains(&format!(" {test},\n")), "search_suite! does not list {test}");
        }
    }
}
