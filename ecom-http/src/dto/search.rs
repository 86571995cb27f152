//! The representations of search results and of the search settings.

use chrono::{DateTime, Utc};
use ecom_core::platform::Setting;
use ecom_core::search::{Facet, SearchRule, Synonym};
use serde::{Deserialize, Serialize};

/// Information about a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SearchMeta {
    /// The text that was searched for; empty if there was none.
    pub query: String,
    /// The number of products that match all words of the text, and the filters.
    pub total_hits: u64,
    /// The number of further products that match at least half of the words, and the filters. They follow after the last
    /// match if the matches do not fill a page; otherwise the number is 0.
    pub partial_hits: u64,
    /// How long the search took, in milliseconds.
    pub took_ms: u64,
    /// The counts of all matches by facet. The counts of a facet leave out the filter on the same field, so that they
    /// show how many products other values of the filter would find.
    pub facets: Facets,
}

/// The requested counts of matches, by facet. A facet that was not requested is absent.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct Facets {
    /// Counts by category, including the products of its descendants. Values are category ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<FacetView>>,
    /// Counts by brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brands: Option<Vec<FacetView>>,
    /// Counts by price range. Values are the lower bounds of the ranges, in the major unit of the currency. A range ends
    /// below the next bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Vec<FacetView>>,
    /// Counts by tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<FacetView>>,
    /// Counts by rating: 1 to 5 stars or more. A product with 4.5 stars counts in the values 1, 2, 3 and 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rating: Option<Vec<FacetView>>,
    /// Counts by availability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Vec<FacetView>>,
}

/// The count of one value of a facet.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FacetView {
    /// The value.
    pub value: String,
    /// The parameters of the filter that the value stands for, such as `min_price=25.00&max_price=49.99`. In place of
    /// the parameters of this filter, they find the products that are counted.
    pub filter: String,
    /// The text to display for the value.
    pub label: String,
    /// The number of matches with the value.
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

/// The synonyms of a shop.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SynonymsView<'a> {
    /// The entries: at most 5,000.
    pub synonyms: &'a [Synonym],
    /// The version, which increases with every edit. Writes name it (R1).
    pub version: i64,
    /// When the synonyms were last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who last edited the synonyms.
    pub updated_by: &'a str,
}

impl<'a> SynonymsView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &["synonyms", "version", "updated_at", "updated_by"];

    pub(crate) fn of(setting: &'a Setting<Vec<Synonym>>) -> Self {
        let audit = &setting.audit;
        Self {
            synonyms: &setting.value,
            version: audit.version,
            updated_at: audit.updated_at,
            updated_by: audit.updated_by.as_str(),
        }
    }
}

/// The synonyms of a shop, as a client sends them.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SynonymsInput {
    /// The entries: at most 5,000.
    pub synonyms: Vec<Synonym>,
    /// The version that the client has read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The search rules of a shop.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RulesView<'a> {
    /// The rules: at most 1,000, in the order in which their products are pinned.
    pub rules: &'a [SearchRule],
    /// The version, which increases with every edit. Writes name it (R1).
    pub version: i64,
    /// When the rules were last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who last edited the rules.
    pub updated_by: &'a str,
}

impl<'a> RulesView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &["rules", "version", "updated_at", "updated_by"];

    pub(crate) fn of(setting: &'a Setting<Vec<SearchRule>>) -> Self {
        let audit = &setting.audit;
        Self {
            rules: &setting.value,
            version: audit.version,
            updated_at: audit.updated_at,
            updated_by: audit.updated_by.as_str(),
        }
    }
}

/// The search rules of a shop, as a client sends them.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesInput {
    /// The rules: at most 1,000, in the order in which their products are pinned.
    pub rules: Vec<SearchRule>,
    /// The version that the client has read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}
