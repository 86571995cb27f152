//! Documents and calls that several tests use.

use ecom_core::Result;
use ecom_core::catalog::{AvailabilityStatus, CategorySummary, ProductStatus};
use ecom_core::clock::Timestamp;
use ecom_core::common::Attributes;
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::money::Percentage;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{Checkpoint, IndexOp, SearchDocument, SearchProvider};
use ecom_core::search::{Language, SearchQuery, SearchRequest, Synonyms};
use ecom_core::text::Slug;
use uuid::Uuid;

pub(crate) fn product(n: u128) -> ProductId {
    ProductId(Uuid::from_u128(n))
}

pub(crate) fn at(seq: i64) -> Checkpoint {
    Checkpoint {
        database: Uuid::from_u128(0xDB),
        position: OutboxPosition { seq },
        version: Uuid::from_u128(u128::from(seq.unsigned_abs())),
        language: Language::English,
    }
}

pub(crate) fn category(n: u128, name: &str) -> CategorySummary {
    let slug = Slug::from_title(name, "category");
    CategorySummary { id: CategoryId(Uuid::from_u128(n)), name: name.to_owned(), path: slug.to_string(), slug }
}

/// Returns a lamp whose other values depend on its number.
pub(crate) fn document(n: u128, revision: i64) -> SearchDocument {
    SearchDocument {
        id: product(n),
        revision,
        title: format!("Lamp number {n}"),
        brand: Some(format!("Brand {}", n % 7)),
        tags: vec![format!("tag {}", n % 11), "light".to_owned()],
        codes: vec![format!("SKU-{n}")],
        description: None,
        categories: vec![category(n % 13, "Lighting"), category(1 << 100, "Home")],
        images: Vec::new(),
        price: Some(i64::try_from(n % 1_000).unwrap()),
        list_price: Some(1_000),
        discount: Percentage::default(),
        availability: AvailabilityStatus::ALL[usize::try_from(n % 3).unwrap()],
        rating: i64::try_from(n % 501).unwrap(),
        status: ProductStatus::Active,
        created_at: Timestamp::from_timestamp_micros(i64::try_from(n).unwrap()).unwrap(),
        updated_at: Timestamp::from_timestamp_micros(i64::try_from(n).unwrap()).unwrap(),
        attributes: Attributes::default(),
        language: Language::English,
    }
}

pub(crate) fn upsert(n: u128, revision: i64) -> IndexOp {
    IndexOp::Upsert(Box::new(document(n, revision)))
}

/// Applies changes to the index in its current state, and returns how many documents were written.
pub(crate) async fn apply(provider: &dyn SearchProvider, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> Result<u64> {
    let before = provider.checkpoint().await?;
    let applied = provider.apply(ops, before, checkpoint).await?;
    Ok(applied.expect("no other process has written to the index").written)
}

/// Returns numbers and revisions of all products of the index.
pub(crate) async fn state(provider: &dyn SearchProvider) -> Vec<(u128, i64)> {
    provider.revisions(None, 1_000).await.unwrap().into_iter().map(|(id, r)| (id.0.as_u128(), r)).collect()
}

/// Returns how many products match a text.
pub(crate) async fn found(provider: &dyn SearchProvider, text: &str) -> Result<u64> {
    let query = SearchQuery { text: text.to_owned(), limit: 10, ..SearchQuery::default() };
    let request = SearchRequest::new(query, &Synonyms::default())?;
    Ok(provider.search(&request).await?.total.count)
}
