//! Documents, queries and calls that several topics use. Each helper records the call for which the test waits, and
//! panics with a message if the call fails.

use std::collections::BTreeSet;
use std::fmt::Display;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Attributes;
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::language::Language;
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery, SearchRequest, SearchSort};
use crate::domain::search::synonyms::Synonyms;
use crate::error::ErrorCode;
use crate::id::{CategoryId, ProductId};
use crate::money::Percentage;
use crate::paging::Total;
use crate::port::search::{
    Applied, BuildStart, Checkpoint, FacetCount, IndexBuild, IndexOp, SearchDocument, SearchProvider, SearchResults,
};
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::{skipped, step};
use crate::testkit::sample::usd;
use crate::text::Slug;

pub(super) fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

pub(super) fn number(id: ProductId) -> u128 {
    id.0.as_u128()
}

pub(super) fn category(n: u128) -> CategoryId {
    CategoryId(Uuid::from_u128(n << 64 | n))
}

/// Returns categories with these ids and without names.
pub(super) fn within(ids: &[CategoryId]) -> Vec<CategorySummary> {
    let of = |id: &CategoryId| CategorySummary {
        id: *id,
        name: String::new(),
        slug: Slug::from_title("x", "x"),
        path: "x".to_owned(),
    };
    ids.iter().map(of).collect()
}

/// Returns categories with these names.
pub(super) fn named<const N: usize>(names: [&str; N]) -> Vec<CategorySummary> {
    let ids = within(&(1..=names.len() as u128).map(category).collect::<Vec<_>>());
    ids.into_iter().zip(names).map(|(c, name)| CategorySummary { name: name.to_owned(), ..c }).collect()
}

pub(super) fn at(seq: i64) -> Checkpoint {
    Checkpoint {
        database: Uuid::from_u128(0xDB),
        position: OutboxPosition { seq },
        version: Uuid::from_u128(u128::from(seq.unsigned_abs())),
        language: Language::English,
    }
}

pub(super) fn micros(n: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(1_700_000_000_000_000 + n).unwrap()
}

/// Returns a document with a title and few other values.
pub(super) fn titled(n: u128, title: &str) -> SearchDocument {
    SearchDocument {
        id: product(n),
        revision: 1,
        title: title.to_owned(),
        brand: None,
        tags: Vec::new(),
        codes: Vec::new(),
        description: None,
        categories: Vec::new(),
        images: Vec::new(),
        price: Some(1_000),
        list_price: Some(1_000),
        discount: Percentage::default(),
        availability: AvailabilityStatus::InStock,
        rating: 0,
        status: ProductStatus::Active,
        created_at: micros(0),
        updated_at: micros(0),
        attributes: Attributes::default(),
        language: Language::English,
    }
}

/// Returns a lamp whose price is its revision, so that the price of a hit shows the revision in the index.
pub(super) fn revised(n: u128, revision: i64) -> SearchDocument {
    SearchDocument { revision, price: Some(revision), ..titled(n, "Lamp") }
}

pub(super) fn upsert(document: SearchDocument) -> IndexOp {
    IndexOp::Upsert(Box::new(document))
}

pub(super) fn delete(n: u128, revision: i64) -> IndexOp {
    IndexOp::Delete { id: product(n), revision }
}

pub(super) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

pub(super) fn set<const N: usize>(numbers: [u128; N]) -> BTreeSet<u128> {
    numbers.into()
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

/// Acquires the right to write.
pub(super) async fn acquire(provider: &dyn SearchProvider) {
    step("`acquire_writer`");
    let acquired = succeeds(provider.acquire_writer().await, "`acquire_writer`");
    holds(
        acquired,
        "`acquire_writer` returns true if no other provider writes to the index, however often it is called.",
        "`acquire_writer` returns false",
    );
}

/// Gives up the right to write.
pub(super) async fn release(provider: &dyn SearchProvider) {
    step("`release_writer`");
    succeeds(provider.release_writer().await, "`release_writer`");
}

/// Applies changes to the index in its current state, and returns how many the provider reports as written.
pub(super) async fn apply(provider: &dyn SearchProvider, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> u64 {
    step("`checkpoint` before `apply`");
    let before = succeeds(provider.checkpoint().await, "`checkpoint` before `apply`");
    let call = format!("`apply` of {} ops at {}", ops.len(), checkpoint.position.seq);
    step(&call);
    let applied = succeeds(provider.apply(ops, before, checkpoint).await, &call);
    let Applied { written, refused } = applied.unwrap_or_else(|| {
        panic!("`apply` accepts the checkpoint that the index has.\n     case: {call} returns `None` after {before:?}")
    });
    same(refused, 0, "`apply` refuses no document of the suite for good.", call);
    written
}

/// Applies changes, of which `expected` have a higher revision than the index.
pub(super) async fn applies(
    provider: &dyn SearchProvider,
    ops: Vec<IndexOp>,
    checkpoint: Checkpoint,
    expected: u64,
    about: &str,
) {
    let applied = apply(provider, ops, checkpoint).await;
    same(
        applied,
        expected,
        "`apply` returns how many ops it has written: those with a higher revision than the index.",
        about,
    );
}

/// Fills a new index.
pub(super) async fn load(provider: &dyn SearchProvider, documents: Vec<SearchDocument>) {
    acquire(provider).await;
    let n = documents.len() as u64;
    applies(provider, documents.into_iter().map(upsert).collect(), at(1), n, "the documents of a new index").await;
}

pub(super) async fn checkpoint_is(provider: &dyn SearchProvider, expected: Option<Checkpoint>, about: &str) {
    step("`checkpoint`");
    let found = succeeds(provider.checkpoint().await, "`checkpoint`");
    same(
        found,
        expected,
        "`checkpoint` returns the checkpoint that was applied or published last, and `None` for a new index.",
        about,
    );
}

/// Returns a page of `revisions`, and checks that it is in order, begins after `after` and respects the limit.
pub(super) async fn page(provider: &dyn SearchProvider, after: Option<ProductId>, limit: u32) -> Vec<(ProductId, i64)> {
    let call = format!("`revisions` after {:?}, at most {limit}", after.map(number));
    step(&call);
    let page = succeeds(provider.revisions(after, limit).await, &call);
    holds(page.len() <= limit as usize, "A page of `revisions` has at most `limit` documents.", &call);
    let numbers: Vec<u128> = page.iter().map(|(id, _)| number(*id)).collect();
    holds(
        numbers.is_sorted_by(|a, b| a < b),
        "A page of `revisions` is sorted by id in ascending order, each id once.",
        format_args!("{call} returns {numbers:?}"),
    );
    holds(
        page.first().is_none_or(|(id, _)| Some(*id) > after),
        "A page of `revisions` begins above `after`. Otherwise `verify` would never end.",
        format_args!("{call} returns {numbers:?}"),
    );
    page
}

pub(super) async fn state(provider: &dyn SearchProvider) -> Vec<(u128, i64)> {
    page(provider, None, 1_000).await.into_iter().map(|(id, r)| (number(id), r)).collect()
}

pub(super) async fn state_is(provider: &dyn SearchProvider, expected: &[(u128, i64)], about: impl Display) {
    let contract = "`revisions` lists the live documents, each in its highest revision.";
    same(state(provider).await, expected, contract, about);
}

/// Begins a new build.
pub(super) async fn begin(provider: &dyn SearchProvider) -> Box<dyn IndexBuild> {
    let build = begin_at(provider, at(1).into(), None).await;
    let contract = "A build is new if `begin_rebuild` has no `since`.";
    same(build.continued(), None, contract, "`continued` of a build");
    build
}

/// Begins a build, or continues one that has begun at or after `since`.
pub(super) async fn begin_at(
    provider: &dyn SearchProvider,
    start: BuildStart,
    since: Option<i64>,
) -> Box<dyn IndexBuild> {
    step("`begin_rebuild`");
    let since = since.map(|seq| OutboxPosition { seq });
    succeeds(provider.begin_rebuild(start, since).await, "`begin_rebuild`")
}

/// Adds documents to a build, which then has all products up to the last one of them.
pub(super) async fn add(build: &mut dyn IndexBuild, documents: Vec<SearchDocument>) {
    let call = format!("`add` of {} documents to a rebuild", documents.len());
    step(&call);
    let after = documents.iter().map(|document| document.id).max().unwrap_or(product(0));
    succeeds(build.add(documents, after).await, call);
}

pub(super) async fn publish(build: Box<dyn IndexBuild>, checkpoint: Checkpoint) {
    step("`publish` of a rebuild");
    let refused = succeeds(build.publish(checkpoint).await, "`publish` of a rebuild");
    same(refused, 0, "A rebuild refuses no document of the suite.", "`publish`");
}

/// Returns the request of a query, without anything that a shop adds to it.
pub(super) fn request(query: &SearchQuery) -> SearchRequest {
    SearchRequest::new(query.clone(), &Synonyms::default())
        .unwrap_or_else(|why| panic!("the suite itself is at fault: {query:?} is out of bounds: {why}"))
}

/// Searches, and checks the properties of all results.
pub(super) async fn search(provider: &dyn SearchProvider, query: &SearchQuery) -> SearchResults {
    search_for(provider, &request(query)).await
}

/// [`search`] with what a shop adds to a query.
pub(super) async fn search_for(provider: &dyn SearchProvider, request: &SearchRequest) -> SearchResults {
    let query = request.query();
    step(format_args!("`search` of {request:?}"));
    let found = succeeds(provider.search(request).await, format_args!("`search` of {request:?}"));
    let hits = numbers(&found);
    let n = hits.len() as u64;
    holds(n <= u64::from(query.limit), "A page has at most `limit` hits.", format_args!("{query:?} returns {n}"));
    same(
        hits.iter().collect::<BTreeSet<_>>().len(),
        hits.len(),
        "A page contains each product at most once.",
        format_args!("{hits:?}"),
    );
    if query.offset == 0 && n < u64::from(query.limit) {
        same(
            found.total.count + found.partial,
            n,
            "The total counts all matches, and `partial` those that follow, so that both together are the number of hits \
             if the first page is not full.",
            format_args!("{query:?}"),
        );
    }
    holds(
        query.sort != SearchSort::Relevance || found.hits.windows(2).all(|w| w[0].score >= w[1].score),
        "Hits sorted by relevance have descending scores.",
        format_args!("{query:?} returns {:?}", found.hits),
    );
    let facets: Vec<Facet> = found.facets.iter().map(|(facet, _)| *facet).collect();
    let mut asked = Vec::new();
    for facet in &query.facets {
        if !asked.contains(facet) {
            asked.push(*facet);
        }
    }
    same(facets, asked, "The facets are returned in the order of the query, each once.", format_args!("{query:?}"));
    found
}

/// Returns the numbers of the hits that match every word, in order.
pub(super) async fn hits(provider: &dyn SearchProvider, query: &SearchQuery) -> Vec<u128> {
    split_hits(provider, query).await.0
}

/// Returns the numbers of the hits that match every word, and of those that match most of them, each in order.
pub(super) async fn split_hits(provider: &dyn SearchProvider, query: &SearchQuery) -> (Vec<u128>, Vec<u128>) {
    let request = request(query);
    split(&request, &search_for(provider, &request).await)
}

/// Returns the numbers of the hits that match every word, and of those that match most of them, each in order.
pub(super) fn split(request: &SearchRequest, found: &SearchResults) -> (Vec<u128>, Vec<u128>) {
    let matches = usize::try_from(found.total.count.saturating_sub(request.query().offset)).unwrap_or(usize::MAX);
    let mut hits = numbers(found);
    let rest = hits.split_off(matches.min(hits.len()));
    (hits, rest)
}

/// Returns the numbers of the hits, in order.
pub(super) fn numbers(found: &SearchResults) -> Vec<u128> {
    found.hits.iter().map(|hit| number(hit.id)).collect()
}

/// Panics unless the hits are these, in this order. `contract` is the violated part of the contract.
pub(super) async fn hits_are<const N: usize>(
    provider: &dyn SearchProvider,
    query: &SearchQuery,
    expected: [u128; N],
    contract: &str,
) {
    let found = hits(provider, query).await;
    same(found, expected, contract, format_args!("the hits of {query:?}"));
}

/// Panics unless the text finds exactly these documents, in any order. `contract` is the violated part of the contract.
pub(super) async fn finds<const N: usize>(
    provider: &dyn SearchProvider,
    typed: &str,
    expected: [u128; N],
    contract: &str,
) {
    let found: BTreeSet<u128> = hits(provider, &text(typed)).await.into_iter().collect();
    same(found, set(expected), contract, format_args!("the hits of the text {typed:?}"));
}

/// Returns the products with this price, which is their revision in documents of [`revised`].
pub(super) async fn priced(provider: &dyn SearchProvider, price: i64) -> Vec<u128> {
    let filter = SearchFilter { min_price: Some(usd(price)), max_price: Some(usd(price)), ..SearchFilter::default() };
    hits(provider, &filtered(filter)).await
}

pub(super) fn facet(results: &SearchResults, facet: Facet) -> Vec<(&str, u64)> {
    let counts = results.facets.iter().find(|(f, _)| *f == facet).map(|(_, counts)| counts.as_slice());
    counts.unwrap_or_default().iter().map(|FacetCount { value, count }| (value.as_str(), *count)).collect()
}

pub(super) async fn refused(provider: &dyn SearchProvider, query: &SearchQuery, lacks: &str) {
    step(format_args!("`search` of {query:?}"));
    let contract = "A query that needs a missing capability fails with `UNSUPPORTED`.";
    match provider.search(&request(query)).await {
        Ok(_) => panic!("{contract}\n     case: {query:?} succeeds, although the provider lacks {lacks}"),
        Err(e) => same(e.code(), ErrorCode::Unsupported, contract, format_args!("{query:?} without {lacks}: {e:?}")),
    }
}

/// Reports the running test as skipped.
pub(super) fn skip(topic: &str, capability: &str) {
    skipped("search", topic, &format!("the provider lacks {capability}"));
}

/// Returns whether text is searched. If not, the provider must refuse a text, and the test is reported as skipped.
pub(super) async fn has_text(provider: &dyn SearchProvider, topic: &str) -> bool {
    let able = provider.capabilities().full_text;
    if !able {
        refused(provider, &text("lamp"), "full_text").await;
        skip(topic, "full_text");
    }
    able
}

/// Returns six documents with different values in all fields that filters and facets use.
pub(super) fn catalog() -> Vec<SearchDocument> {
    use AvailabilityStatus as A;
    use ProductStatus as S;
    let (home, light, desk) = (category(1), category(2), category(3));
    let of = |n: u128,
              brand: &str,
              tags: Vec<String>,
              categories: Vec<CategoryId>,
              price: i64,
              availability,
              rating,
              status| {
        SearchDocument {
            brand: Some(brand.to_owned()),
            tags,
            categories: within(&categories),
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
