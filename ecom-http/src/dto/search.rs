//! Search results over the wire.

use ecom_core::search::Facet;
use serde::Serialize;

/// About a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SearchMeta {
    /// What was searched for.
    pub query: String,
    /// How many match.
    pub total_hits: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Counts over all matches; of each facet its own filter is left out.
    pub facets: Facets,
}

/// Counts by facet; those that were asked for.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct Facets {
    /// By category, with everything below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<FacetView>>,
    /// By brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brands: Option<Vec<FacetView>>,
    /// By price range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Vec<FacetView>>,
    /// By tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<FacetView>>,
    /// By whole stars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<Vec<FacetView>>,
    /// By availability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Vec<FacetView>>,
}

/// One count of a facet.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FacetView {
    /// What to filter by.
    pub value: String,
    /// What to show.
    pub label: String,
    /// How many match.
    pub count: u64,
}

impl Facets {
    pub(crate) fn of(all: impl IntoIterator<Item = (Facet, Vec<FacetView>)>) -> Self {
        let mut out = Self::default();
        for (facet, values) in all {
            let place = match facet {
                Facet::Categories => &mut out.categories,
                Facet::Brands => &mut out.brands,
                Facet::Prices => &mut out.prices,
                Facet::Tags => &mut out.tags,
                Facet::Rating => &mut out.rating,
                Facet::Availability => &mut out.availability,
            };
            *place = Some(values);
        }
        out
    }
}
