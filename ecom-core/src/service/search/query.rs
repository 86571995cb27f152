//! Search: the provider finds, the shop shows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::CategoryId;
use crate::money::check_price_currency;
use crate::paging::Total;
use crate::port::search::{Facet, SearchCapabilities, SearchQuery};
use crate::service::catalog::product::ProductService;
use crate::service::run::context::Context;
use crate::service::run::read_through::Cached;

/// One value of a facet, with a label for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FacetValue {
    /// What a filter takes: a category id, a brand, a tag, a price bound in minor units, whole stars, an
    /// availability.
    pub value: String,
    /// What people read: a category's name, else the value.
    pub label: String,
    /// How many matches have it.
    pub count: u64,
}

/// A page of search results.
#[derive(Debug, Clone)]
pub struct SearchPage {
    /// Products as they are now, in the order of the hits. One that went since the index saw it is left out.
    pub products: Vec<Arc<Cached<Product>>>,
    /// How many match, by the index.
    pub total: Total,
    /// The counts that were asked for.
    pub facets: Vec<(Facet, Vec<FacetValue>)>,
}

/// Searches of a shop.
#[derive(Debug, Clone, Copy)]
pub struct SearchService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> SearchService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// What the provider can do.
    pub fn capabilities(&self) -> SearchCapabilities {
        self.cx.search.capabilities()
    }

    fn check(&self, query: &SearchQuery) -> Result<()> {
        query.check()?;
        check_price_currency([query.filter.min_price, query.filter.max_price], self.cx.config.currency)
    }

    /// Searches. Found by the index, shown from cache or database: prices and stock are current.
    ///
    /// # Errors
    /// `Validation` for a query out of the bounds of [`SearchQuery::check`], `CURRENCY_MISMATCH`, `Unsupported`,
    /// `Unavailable`.
    pub async fn search(&self, query: &SearchQuery) -> Result<SearchPage> {
        let found = if query.price_bounds.is_empty() && query.facets.contains(&Facet::Prices) {
            let query = SearchQuery { price_bounds: self.cx.config.price_bounds.clone(), ..query.clone() };
            self.check(&query)?;
            self.cx.search.search(&query).await?
        } else {
            self.check(query)?;
            self.cx.search.search(query).await?
        };
        let ids: Vec<_> = found.hits.iter().map(|h| h.id).collect();
        let products = ProductService::new(self.cx, self.who).get_many(&ids).await?;
        let mut names = HashMap::new();
        let categories: Vec<CategoryId> = found
            .facets
            .iter()
            .filter(|(f, _)| *f == Facet::Categories)
            .flat_map(|(_, counts)| counts.iter().filter_map(|c| c.value.parse().ok()))
            .collect();
        if !categories.is_empty() {
            let read = self.cx.storage.connect().await?.categories().get_many(&categories, IncludeDeleted::No).await?;
            names.extend(read.into_iter().map(|c| (c.id.to_string(), c.name)));
        }
        let facets = found
            .facets
            .into_iter()
            .map(|(facet, counts)| {
                let values = counts
                    .into_iter()
                    .map(|c| FacetValue {
                        label: names.get(&c.value).cloned().unwrap_or_else(|| c.value.clone()),
                        value: c.value,
                        count: c.count,
                    })
                    .collect();
                (facet, values)
            })
            .collect();
        Ok(SearchPage { products, total: found.total, facets })
    }
}
