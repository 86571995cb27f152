//! Compares two search engines on the products of one shop, before the shop moves from one to the other.

use std::collections::HashSet;

use super::query::SearchService;
use crate::domain::catalog::product::ProductStatus;
use crate::domain::common::IncludeDeleted;
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::error::Result;
use crate::id::ProductId;
use crate::text::fold_key;

/// How two search engines answer the same searches.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct SearchComparison {
    /// The number of texts that were searched for.
    pub texts: u64,
    /// How much the engines agree on their first 10 hits, 0 to 1: for each text, the number of common products divided
    /// by the larger number of hits, and the mean over all texts. A text without hits on either engine counts as 1;
    /// without texts it is 1.
    pub overlap: f64,
    /// The texts with the smallest overlap, at most [`Self::MAX_WORST`], and their overlap. Those with 1 are left out.
    pub worst: Vec<(String, f64)>,
    /// The number of products whose title was searched for.
    pub titles: u64,
    /// The share of these titles that have their product among the first 3 hits of this engine, 0 to 1; 1 without
    /// titles.
    pub known_here: f64,
    /// The same share for the other engine.
    pub known_there: f64,
}

impl SearchComparison {
    /// The maximum number of texts in [`Self::worst`].
    pub const MAX_WORST: usize = 20;
}

/// How many hits of a text are compared.
const COMPARED: u32 = 10;
/// Among how many hits the product of a title must be.
const TOP: u32 = 3;
/// How many ids of products are read at once.
const PAGE: u32 = 1_000;

impl SearchService<'_> {
    /// Searches on the engine of this shop and on that of another one for each of the texts, and for the titles of at
    /// most `sample` active products, which are spread evenly over all products. Both shops must have the same
    /// database, and both indexes must be in step with it
    /// ([`IndexSyncService::catch_up`](super::index::IndexSyncService)). Synonyms and rules apply. No result is taken
    /// from the cache, and the searches do not count in the search log.
    ///
    /// # Errors
    /// `Validation` for a text out of the bounds of [`SearchQuery::check`], `Unsupported`, `Unavailable`.
    pub async fn compare(&self, other: &SearchService<'_>, texts: &[String], sample: u32) -> Result<SearchComparison> {
        let mut overlaps = Vec::with_capacity(texts.len());
        for text in texts {
            let here: HashSet<ProductId> = self.first(text, COMPARED).await?.into_iter().collect();
            let there: HashSet<ProductId> = other.first(text, COMPARED).await?.into_iter().collect();
            overlaps.push((text.clone(), share(here.intersection(&there).count(), here.len().max(there.len()))));
        }
        let overlap = mean(overlaps.iter().map(|(_, overlap)| *overlap));
        overlaps.retain(|(_, overlap)| *overlap < 1.0);
        overlaps.sort_by(|a, b| a.1.total_cmp(&b.1));
        overlaps.truncate(SearchComparison::MAX_WORST);
        let (mut titles, mut here, mut there) = (0, 0, 0);
        for (id, title) in self.titles(sample).await? {
            titles += 1;
            here += usize::from(self.knows(id, &title).await?);
            there += usize::from(other.knows(id, &title).await?);
        }
        Ok(SearchComparison {
            texts: texts.len() as u64,
            overlap,
            worst: overlaps,
            titles: titles as u64,
            known_here: share(here, titles),
            known_there: share(there, titles),
        })
    }

    /// Returns the first hits of a text.
    async fn first(&self, text: &str, limit: u32) -> Result<Vec<ProductId>> {
        let filter = SearchFilter { status: Some(ProductStatus::Active), ..SearchFilter::default() };
        let query = SearchQuery { text: text.to_owned(), filter, limit, ..SearchQuery::default() };
        let request = self.request(query).await?;
        Ok(self.cx.indices.main.provider.search(&request).await?.hits.into_iter().map(|hit| hit.id).collect())
    }

    /// Returns whether the first hits of a title contain its product, or another one with the same title.
    async fn knows(&self, id: ProductId, title: &str) -> Result<bool> {
        let hits = self.first(title, TOP).await?;
        if hits.contains(&id) {
            return Ok(true);
        }
        let found = self.cx.storage.connect().await?.products().get_many(&hits, IncludeDeleted::No).await?;
        Ok(found.iter().any(|product| fold_key(&product.title) == fold_key(title)))
    }

    /// Returns the ids and titles of at most `sample` active products, without those whose title is too long to be
    /// searched for.
    async fn titles(&self, sample: u32) -> Result<Vec<(ProductId, String)>> {
        let mut ids: Vec<ProductId> = Vec::new();
        loop {
            let page = self.cx.storage.connect().await?.products().revisions(ids.last().copied(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            ids.extend(page.into_iter().map(|(id, _)| id));
        }
        let sample = sample as usize;
        let is_searchable =
            |text: &str| SearchQuery { text: text.to_owned(), ..SearchQuery::default() }.check().is_ok();
        // The places of an even spread, and then those between them, in place of products that are not active.
        let step = ids.len().div_ceil(sample.max(1)).max(1);
        let spread: Vec<ProductId> = (0..step).flat_map(|from| ids.iter().copied().skip(from).step_by(step)).collect();
        let mut titles = Vec::new();
        for chunk in spread.chunks(sample.clamp(1, PAGE as usize)) {
            if titles.len() >= sample {
                break;
            }
            let found = self.cx.storage.connect().await?.products().get_many(chunk, IncludeDeleted::No).await?;
            let active = found.into_iter().filter(|product| product.status == ProductStatus::Active);
            titles.extend(active.filter(|p| is_searchable(&p.title)).map(|p| (p.id, p.title)));
        }
        titles.truncate(sample);
        Ok(titles)
    }
}

/// Returns `part` by `whole`; 1 if there is nothing.
fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    if whole == 0 { 1.0 } else { number(part) / number(whole) }
}

/// Returns the mean; 1 if there is nothing.
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX));
    if count == 0.0 { 1.0 } else { values.sum::<f64>() / count }
}
