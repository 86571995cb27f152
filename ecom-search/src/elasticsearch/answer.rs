//! Reads the answers of the server.

use std::collections::HashMap;

use ecom_core::id::ProductId;
use ecom_core::port::{FacetCount, SearchHit};
use ecom_core::search::Facet;
use serde::Deserialize;
use serde_json::Value;

use super::error::refused;
use super::query::name;
use crate::remote::Failure;
use crate::terms::{MAX_FACET_VALUES, split_spelling};

/// The answer to a search.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Found {
    hits: Hits,
    #[serde(default)]
    aggregations: HashMap<String, Aggregation>,
}

#[derive(Debug, Default, Deserialize)]
struct Hits {
    /// Absent if the call asks for no total.
    #[serde(default)]
    total: Count,
    hits: Vec<Hit>,
}

#[derive(Debug, Default, Deserialize)]
struct Count {
    value: u64,
}

#[derive(Debug, Deserialize)]
struct Hit {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_score")]
    score: Option<f32>,
    #[serde(default)]
    fields: HashMap<String, Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct Aggregation {
    #[serde(default)]
    counts: Buckets,
    #[serde(default)]
    spelled: Buckets,
}

#[derive(Debug, Default, Deserialize)]
struct Buckets {
    #[serde(default)]
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    /// None for the buckets of filters.
    key: Option<String>,
    doc_count: u64,
    #[serde(default)]
    spelled: Buckets,
}

impl Found {
    pub(super) fn of(answer: Value) -> Result<Self, Failure> {
        serde_json::from_value(answer).map_err(|_| Failure::Garbled("hits"))
    }

    pub(super) fn total(&self) -> u64 {
        self.hits.total.value
    }

    pub(super) fn hits(&self) -> Result<Vec<SearchHit>, Failure> {
        self.hits.hits.iter().map(|hit| Ok(SearchHit { id: hit.id()?, score: hit.score.unwrap_or(0.0) })).collect()
    }

    pub(super) fn ids(&self) -> Result<Vec<ProductId>, Failure> {
        self.hits.hits.iter().map(Hit::id).collect()
    }

    /// Returns the ids of the hits with the values of a field of whole numbers.
    pub(super) fn numbers(&self, field: &str) -> Result<Vec<(ProductId, i64)>, Failure> {
        let number = |hit: &Hit| hit.fields.get(field).and_then(|values| values.first()).and_then(Value::as_i64);
        let pair = |hit: &Hit| Ok((hit.id()?, number(hit).ok_or(Failure::Garbled("a revision"))?));
        self.hits.hits.iter().map(pair).collect()
    }

    /// Returns the keys of tags whose spellings are not in the answer.
    pub(super) fn unspelled(&self) -> Vec<String> {
        let Some(tags) = self.aggregations.get(name(Facet::Tags)) else { return Vec::new() };
        let spelled = tags.spelled.spellings();
        let keys = tags.counts.buckets.iter().filter_map(|bucket| bucket.key.clone());
        keys.filter(|key| !spelled.contains_key(key.as_str())).collect()
    }

    /// Returns the counts of a facet. `spellings` is the answer to [`super::query::Calls::spellings`] for the keys
    /// `unspelled`.
    pub(super) fn facet(
        &self,
        facet: Facet,
        price_bounds: &[i64],
        unspelled: &[String],
        spellings: &Self,
    ) -> Vec<FacetCount> {
        let Some(aggregation) = self.aggregations.get(name(facet)) else { return Vec::new() };
        let buckets = &aggregation.counts.buckets;
        let ranges = |values: Vec<i64>| {
            let counted = values.iter().zip(buckets).filter(|(_, bucket)| bucket.doc_count > 0);
            counted.map(|(value, bucket)| FacetCount { value: value.to_string(), count: bucket.doc_count }).collect()
        };
        let spelled: HashMap<&str, &str> = match facet {
            Facet::Prices => return ranges(price_bounds.to_vec()),
            Facet::Rating => return ranges((1..=5).collect()),
            Facet::Categories | Facet::Availability => HashMap::new(),
            Facet::Brands => buckets.iter().flat_map(|bucket| bucket.spelled.spellings()).collect(),
            Facet::Tags => {
                let mut spelled = aggregation.spelled.spellings();
                for (at, key) in unspelled.iter().enumerate() {
                    let read = spellings.aggregations.get(&at.to_string()).map(|found| found.spelled.spellings());
                    spelled.extend(read.and_then(|found| found.get_key_value(key.as_str()).map(|(k, v)| (*k, *v))));
                }
                spelled
            }
        };
        let count = |bucket: &Bucket| {
            let key = bucket.key.as_deref()?;
            let value = spelled.get(key).copied().unwrap_or(key).to_owned();
            Some(FacetCount { value, count: bucket.doc_count })
        };
        let mut counts: Vec<FacetCount> = buckets.iter().filter_map(count).collect();
        counts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        counts.truncate(MAX_FACET_VALUES);
        counts
    }
}

impl Hit {
    fn id(&self) -> Result<ProductId, Failure> {
        self.id.parse().map_err(|_| Failure::Garbled("the id of a product"))
    }
}

impl Buckets {
    /// Returns the most frequent spelling of each key: buckets are sorted by their counts.
    fn spellings(&self) -> HashMap<&str, &str> {
        let mut spelled = HashMap::new();
        for (key, spelling) in self.buckets.iter().filter_map(|b| b.key.as_deref()).map(split_spelling) {
            spelled.entry(key).or_insert(spelling);
        }
        spelled
    }
}

/// What became of the items of a bulk call.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The number of documents that were written.
    pub(super) applied: u64,
    /// The positions of the items that the server was too busy for.
    pub(super) busy: Vec<usize>,
    /// The items that the server refused, with its reason. Repeating them is pointless.
    pub(super) refused: Vec<(usize, String)>,
}

impl Written {
    /// Reads the answer to a bulk call of `sent` items.
    pub(super) fn of(answer: &Value, sent: usize) -> Result<Self, Failure> {
        let items = answer.get("items").and_then(Value::as_array).filter(|items| items.len() == sent);
        let mut written = Self::default();
        for (at, item) in items.ok_or(Failure::Garbled("the items of the bulk call"))?.iter().enumerate() {
            let item = item.get("index").ok_or(Failure::Garbled("the result of an item"))?;
            let status = item.get("status").and_then(Value::as_u64).ok_or(Failure::Garbled("the status of an item"))?;
            let error = item.get("error").cloned().unwrap_or_default();
            match status {
                200..=299 => written.applied += 1,
                // The index has this revision or a newer one.
                409 => {}
                429 | 503 => written.busy.push(at),
                400 | 413 => {
                    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
                    written.refused.push((at, format!("{status} {}: {}", text("type"), text("reason"))));
                }
                // The index or the server is broken, and not the document.
                _ => return Err(refused(u16::try_from(status).unwrap_or(500), &error)),
            }
        }
        Ok(written)
    }
}
