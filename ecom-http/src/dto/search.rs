//! The representations of search results and of the search settings.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::catalog::{Category, Product};
use ecom_core::platform::Setting;
use ecom_core::search::{Facet, Highlights, Piece, SearchRule, Suggestions, Synonym};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Amount;

/// Information about a search.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SearchMeta {
    /// The text that was searched for; empty if there was none.
    pub query: String,
    /// The number of matches: products that have every required word of the text, and pinned products, within the
    /// filters.
    pub total_hits: u64,
    /// The number of further products that match at least half of the words, and the filters. They follow after the
    /// last match if the matches do not fill the first page; otherwise the number is 0.
    pub partial_hits: u64,
    /// How long the search took, in milliseconds.
    pub took_ms: u64,
    /// The highlights of the products of the page, by their ids. Absent unless `highlight=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, HighlightsView>>)]
    pub highlights: Option<BTreeMap<Uuid, HighlightsView>>,
    /// The counts of all matches by facet. The counts of a facet leave out the filter on the same field, so that they
    /// show how many products other values of the filter would find.
    pub facets: Facets,
}

/// The highlights of a product. The texts are HTML: matches are in `<em>`, and all other characters that have a meaning
/// in HTML are escaped.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct HighlightsView {
    /// The title with its matches marked; null if nothing in it matches.
    #[schema(example = "Desk <em>Lamp</em>")]
    pub title: Option<String>,
    /// An excerpt of the description with its matches marked; null if nothing in it matches.
    pub description: Option<String>,
}

impl HighlightsView {
    pub(crate) fn of(highlights: &Highlights) -> Self {
        let html = |pieces: &Vec<Piece>| {
            let mut html = String::new();
            for piece in pieces {
                let (open, close) = if piece.is_match { ("<em>", "</em>") } else { ("", "") };
                html.push_str(open);
                for c in piece.text.chars() {
                    match c {
                        '&' => html.push_str("&amp;"),
                        '<' => html.push_str("&lt;"),
                        '>' => html.push_str("&gt;"),
                        '"' => html.push_str("&quot;"),
                        '\'' => html.push_str("&#39;"),
                        _ => html.push(c),
                    }
                }
                html.push_str(close);
            }
            html
        };
        Self { title: highlights.title.as_ref().map(html), description: highlights.description.as_ref().map(html) }
    }
}

/// Suggestions for a text that a shopper is typing.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SuggestionsView<'a> {
    /// Texts to search for: the typed one with its last word completed.
    pub queries: &'a [String],
    /// Categories whose name has all typed words, those with the most products first.
    pub categories: Vec<SuggestedCategory<'a>>,
    /// Brands whose name has all typed words, those with the most products first.
    pub brands: &'a [String],
    /// The active products that the text finds, the best first.
    pub products: Vec<SuggestedProduct<'a>>,
}

/// A category that is suggested.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SuggestedCategory<'a> {
    /// The id of the category.
    pub id: Uuid,
    /// The name of the category.
    pub name: &'a str,
    /// The slugs from the root to the category, separated by slashes.
    pub path: &'a str,
}

/// A product that is suggested.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SuggestedProduct<'a> {
    /// The id of the product.
    pub id: Uuid,
    /// The title.
    pub title: &'a str,
    /// The name of the product in URLs.
    pub slug: &'a str,
    /// The brand; null if there is none.
    pub brand: Option<&'a str>,
    /// The address of the primary image; null if there is none.
    pub image: Option<&'a str>,
    /// The lowest final price of the SKUs; null without SKUs.
    pub lowest_price: Option<Amount>,
}

impl<'a> SuggestionsView<'a> {
    /// Returns the representation. `numbers` is whether prices are JSON numbers.
    pub(crate) fn of(found: &'a Suggestions, numbers: bool) -> Self {
        let category = |c: &'a Category| SuggestedCategory { id: c.id.0, name: &c.name, path: &c.path };
        let product = |p: &'a Product| SuggestedProduct {
            id: p.id.0,
            title: &p.title,
            slug: p.slug.as_str(),
            brand: p.brand.as_deref(),
            image: p.images.iter().find(|image| image.primary).map(|image| image.url.as_str()),
            lowest_price: p.price_range().map(|(low, _)| Amount::new(low.amount(), numbers)),
        };
        Self {
            queries: &found.queries,
            categories: found.categories.iter().map(category).collect(),
            brands: &found.brands,
            products: found.products.iter().map(|p| product(p)).collect(),
        }
    }
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
    /// Counts by price range. Values are the lower bounds of the ranges, in the major unit of the currency. A range
    /// ends below the next bound.
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
    /// The query parameters that select this value, such as `min_price=25.00&max_price=49.99`. A search with them in
    /// place of its parameters for the same filter finds the products that are counted.
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
    /// The entries: at most 5,000, with at most 20,000 words and phrases.
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
