//! Documents and calls of these tests.

use ecom_core::Result;
use ecom_core::catalog::{AvailabilityStatus, ProductStatus};
use ecom_core::clock::Timestamp;
use ecom_core::common::Attributes;
use ecom_core::id::ProductId;
use ecom_core::money::Percentage;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{Checkpoint, IndexOp, SearchDocument, SearchProvider};
use ecom_core::search::{SearchQuery, SearchRequest, Synonyms};
use uuid::Uuid;

pub(crate) fn at(seq: i64) -> Checkpoint {
    Checkpoint { database: Uuid::from_u128(0xDB), position: OutboxPosition { seq }, version: Uuid::nil() }
}

pub(crate) fn document(n: u128, revision: i64) -> SearchDocument {
    SearchDocument {
        id: ProductId(Uuid::from_u128(n)),
        revision,
        title: format!("Lamp number {n}"),
        brand: None,
        tags: vec!["light".to_owned()],
        codes: vec![format!("SKU-{n}")],
        description: None,
        categories: Vec::new(),
        images: Vec::new(),
        price: Some(1_000),
        list_price: Some(1_000),
        discount: Percentage::default(),
        availability: AvailabilityStatus::InStock,
        rating: 0,
        status: ProductStatus::Active,
        created_at: Timestamp::from_timestamp_micros(1).unwrap(),
        updated_at: Timestamp::from_timestamp_micros(1).unwrap(),
        attributes: Attributes::default(),
    }
}

pub(crate) fn upsert(n: u128, revision: i64) -> IndexOp {
    IndexOp::Upsert(Box::new(document(n, revision)))
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
