//! Documents, queries and reads that several topics use.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Attributes;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::ErrorCode;
use crate::id::{CategoryId, ProductId};
use crate::paging::Total;
use crate::port::search::{
    Checkpoint, Facet, FacetCount, IndexOp, SearchDocument, SearchFilter, SearchProvider, SearchQuery, SearchResults,
    SearchSort,
};

pub(super) fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

pub(super) fn number(id: ProductId) -> u128 {
    id.0.as_u128()
}

pub(super) fn category(n: u128) -> CategoryId {
    CategoryId(Uuid::from_u128(n << 64 | n))
}

pub(super) fn at(seq: i64) -> Checkpoint {
    Checkpoint { database: Uuid::from_u128(0xDB), position: OutboxPosition { seq } }
}

pub(super) fn micros(n: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(1_700_000_000_000_000 + n).unwrap()
}

/// A document with a title and little else.
pub(super) fn titled(n: u128, title: &str) -> SearchDocument {
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

pub(super) fn upsert(document: SearchDocument) -> IndexOp {
    IndexOp::Upsert(Box::new(document))
}

pub(super) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

pub(super) async fn load(provider: &dyn SearchProvider, documents: Vec<SearchDocument>) {
    assert!(provider.acquire_writer().await.unwrap(), "a fresh provider must be able to write");
    let n = documents.len() as u64;
    let applied = provider.apply(documents.into_iter().map(upsert).collect(), at(1)).await.unwrap();
    assert_eq!(applied, n, "documents of a new index are all applied");
}

pub(super) fn text(text: &str) -> SearchQuery {
    SearchQuery { text: text.to_owned(), limit: 100, ..SearchQuery::default() }
}

pub(super) fn filtered(filter: SearchFilter) -> SearchQuery {
    SearchQuery { filter, sort: SearchSort::PriceAsc, limit: 100, ..SearchQuery::default() }
}

pub(super) fn exactly(count: u64) -> Total {
    Total { count, exact: true }
}

/// The hits in order; the total must agree with them where the page holds them all.
pub(super) async fn hits(provider: &dyn SearchProvider, query: &SearchQuery) -> Vec<u128> {
    let found = provider.search(query).await.unwrap_or_else(|e| panic!("{query:?} fails: {e:?}"));
    let hits: Vec<u128> = found.hits.iter().map(|h| number(h.id)).collect();
    if query.offset == 0 && hits.len() < query.limit as usize {
        assert_eq!(found.total, exactly(hits.len() as u64), "the total of {query:?}");
    }
    assert!(found.hits.windows(2).all(|w| query.sort != SearchSort::Relevance || w[0].score >= w[1].score));
    hits
}

pub(super) async fn finds(provider: &dyn SearchProvider, typed: &str) -> BTreeSet<u128> {
    hits(provider, &text(typed)).await.into_iter().collect()
}

pub(super) fn set<const N: usize>(numbers: [u128; N]) -> BTreeSet<u128> {
    numbers.into()
}

pub(super) fn facet(results: &SearchResults, facet: Facet) -> Vec<(&str, u64)> {
    let (_, counts) =
        results.facets.iter().find(|(f, _)| *f == facet).unwrap_or_else(|| panic!("{facet:?} is missing"));
    counts.iter().map(|FacetCount { value, count }| (value.as_str(), *count)).collect()
}

pub(super) async fn refused(provider: &dyn SearchProvider, query: &SearchQuery, code: ErrorCode, what: &str) {
    match provider.search(query).await {
        Ok(_) => panic!("{what} must be refused"),
        Err(e) => assert_eq!(e.code(), code, "{what}: {e:?}"),
    }
}

/// Whether text is searched; a provider that cannot says so here.
pub(super) async fn has_text(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().full_text;
    if !able {
        refused(provider, &text("lamp"), ErrorCode::Unsupported, "a text").await;
    }
    able
}

/// Six documents that differ in everything that can be filtered and counted.
pub(super) fn catalog() -> Vec<SearchDocument> {
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

pub(super) async fn state(provider: &dyn SearchProvider) -> Vec<(u128, i64)> {
    provider.revisions(None, 1_000).await.unwrap().into_iter().map(|(id, r)| (number(id), r)).collect()
}

pub(super) fn revised(n: u128, revision: i64) -> SearchDocument {
    SearchDocument { revision, price: Some(revision), ..titled(n, "Lamp") }
}

/// The prices of what is found show which document the index has.
pub(super) async fn priced(provider: &dyn SearchProvider, price: i64) -> Vec<u128> {
    hits(
        provider,
        &filtered(SearchFilter { min_price: Some(price), max_price: Some(price), ..SearchFilter::default() }),
    )
    .await
}
