//! The search of products.

use std::collections::BTreeMap;
use std::time::Instant;

use ecom_core::catalog::{AvailabilityStatus, Product, ProductStatus};
use ecom_core::money::{Currency, ExactDecimal, Money, Rating};
use ecom_core::paging::Total;
use ecom_core::search::{Facet, FacetValue, SearchFilter, SearchPage, SearchQuery, SearchSort};
use ecom_core::text::check_text;
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use super::at_least::AtLeastParams;
use crate::dto::{FacetView, Facets, HighlightsView, List, ListFrame, ProductView, SearchMeta};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Pages, Query, Shape, prices, word};
use crate::headers::public;
use crate::resource::Reply;

/// The parameters of a search. Some of them can be repeated.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchParams {
    /// The text to search for, at most 500 characters and 32 words and numbers. An empty or absent text matches all
    /// products.
    #[serde(default)]
    q: Option<String>,
    /// Finds only products in one of these categories or their descendants. A category is given by its id, slug or
    /// path. The parameter can be repeated, up to 50 times.
    #[serde(default)]
    category: Vec<String>,
    /// Finds only products of one of these brands, ignoring case. The parameter can be repeated, up to 50 times.
    #[serde(default)]
    brand: Vec<String>,
    /// Finds only products with all of these tags, ignoring case. The parameter can be repeated, up to 50 times.
    #[serde(default)]
    tag: Vec<String>,
    /// Finds only products whose lowest final price is at least this amount, in the shop's currency.
    #[serde(default)]
    min_price: Option<String>,
    /// Finds only products whose lowest final price is at most this amount, in the shop's currency.
    #[serde(default)]
    max_price: Option<String>,
    /// Finds only products with one of these availabilities: `in_stock`, `limited` or `out_of_stock`. The parameter can
    /// be repeated.
    #[serde(default)]
    availability: Vec<String>,
    /// Finds only products whose mean rating is at least this, 0–5 with at most two decimal places.
    #[serde(default)]
    min_rating: Option<String>,
    /// Finds only products with all of these top-level attributes, each given as `name:value`, ignoring case. The
    /// parameter can be repeated, up to 50 times.
    #[serde(default)]
    attribute: Vec<String>,
    /// The sort order: `relevance` (default), `price_asc`, `price_desc`, `rating_desc` or `created_desc`.
    #[serde(default)]
    sort: Option<String>,
    /// The facets to count, separated by commas: `categories`, `brands`, `prices`, `tags`, `rating`, `availability`, or
    /// `all`. None is counted if the parameter is absent.
    #[serde(default)]
    facets: Option<String>,
    /// Whether to return `meta.search.highlights`. Default false.
    #[serde(default)]
    highlight: Option<bool>,
    /// Whether the search counts in the search log, which the lists of search terms show. Default true. Clients for the
    /// staff of the shop send false, so that these lists show what shoppers search for.
    #[serde(default)]
    analytics: Option<bool>,
}

/// The maximum number of hits to skip.
const MAX_OFFSET: u64 = SearchQuery::MAX_OFFSET;
/// How often a parameter can be repeated.
const MAX_VALUES: usize = 50;

const fn facet_name(f: Facet) -> &'static str {
    match f {
        Facet::Categories => "categories",
        Facet::Brands => "brands",
        Facet::Prices => "prices",
        Facet::Tags => "tags",
        Facet::Rating => "rating",
        Facet::Availability => "availability",
    }
}

fn checked(p: &SearchParams, currency: Currency, e: &mut ValidationErrors) -> SearchQuery {
    if let Some(q) = &p.q {
        check_text("q", q, 0, 500, e);
    }
    for (field, values) in [
        ("category", &p.category),
        ("brand", &p.brand),
        ("tag", &p.tag),
        ("availability", &p.availability),
        ("attribute", &p.attribute),
    ] {
        if values.len() > MAX_VALUES {
            e.out_of_bounds(field, format!("must have at most {MAX_VALUES} values"));
        }
        for v in values.iter().take(MAX_VALUES) {
            check_text(field, v, 1, 4_000, e);
        }
    }
    let sort = word("sort", p.sort.as_deref(), &SearchSort::ALL, SearchSort::as_str, e).unwrap_or_default();
    let (min_price, max_price) = prices(p.min_price.as_deref(), p.max_price.as_deref(), currency, e);
    let availability = p
        .availability
        .iter()
        .filter_map(|a| word("availability", Some(a), &AvailabilityStatus::ALL, AvailabilityStatus::as_str, e))
        .collect();
    let min_rating = p.min_rating.as_deref().and_then(|text| match text.parse::<ExactDecimal>() {
        Err(why) => {
            e.push("min_rating", FieldCode::Malformed, why.to_string());
            None
        }
        Ok(d) => match Rating::exact(d.0) {
            Err(why) => {
                e.out_of_bounds("min_rating", why.to_string());
                None
            }
            Ok(r) => Some(i64::from(r.hundredths())),
        },
    });
    let attributes = p
        .attribute
        .iter()
        .filter_map(|a| {
            let pair = a.split_once(':').filter(|(name, _)| !name.is_empty());
            if pair.is_none() {
                e.push("attribute", FieldCode::Malformed, "must have the form `name:value`");
            }
            pair.map(|(n, v)| (n.to_owned(), v.to_owned()))
        })
        .collect();
    let facets = match p.facets.as_deref() {
        None => Vec::new(),
        Some("all") => Facet::ALL.to_vec(),
        Some(text) => text
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .filter_map(|n| word("facets", Some(n), &Facet::ALL, facet_name, e))
            .collect(),
    };
    SearchQuery {
        text: p.q.clone().unwrap_or_default(),
        filter: SearchFilter {
            categories: Vec::new(),
            brands: p.brand.clone(),
            tags: p.tag.clone(),
            min_price,
            max_price,
            availability,
            min_rating,
            attributes,
            status: Some(ProductStatus::Active),
        },
        sort,
        facets,
        ..SearchQuery::default()
    }
}

/// Search products
///
/// Searches the active products by full text, with filters and facets. The text tolerates typing errors, its last word
/// may be incomplete, and words match however they are split, joined or hyphenated. If the products that match all
/// words do not fill the first page, products that match at least half of them follow: `meta.search.total_hits` counts
/// the former, `meta.search.partial_hits` the latter, and `meta.pagination` both. At most 10,000 hits can be skipped.
#[utoipa::path(
    get, path = "/products/search", tag = "search", security(()), params(SearchParams, AtLeastParams, Pages, Shape),
    responses(
        (status = 200, description = "A page of products, with `meta.search`", body = List<ProductView>),
    )
)]
pub(super) async fn search(
    reply: Reply,
    Query((p, fresh, pages, shape)): Query<(SearchParams, AtLeastParams, Pages, Shape)>,
) -> ApiResult {
    let currency = reply.config().currency;
    let mut errors = ValidationErrors::default();
    let mut query = checked(&p, currency, &mut errors);
    let part = pages.check(&reply.app.config, &mut errors);
    if part.offset > MAX_OFFSET {
        errors.out_of_bounds(
            part.offset_name(),
            format!("must not skip more than {MAX_OFFSET} hits: add filters instead"),
        );
    }
    let at_least = fresh.check(&mut errors);
    let format = reply.format::<Product>(&shape, &mut errors);
    errors.into_result()?;
    query.offset = part.offset;
    query.limit = part.per_page;
    // First, because the names of categories are those after the write, too.
    at_least.applied(&reply).await?;
    for c in &p.category {
        let found = reply.shop().categories().resolve(c).await.map_err(|e| ApiError::reference(e, "category"))?;
        query.filter.categories.push(found.value.id);
    }

    let service = reply.shop().search();
    let service = if p.analytics == Some(false) { service.uncounted() } else { service };
    let start = Instant::now();
    let found = service.search(&query).await.map_err(by_parameter)?;
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let hit = found.hit;
    let highlights = p.highlight.unwrap_or_default().then(|| highlights(&found));
    let bounds = &reply.config().price_bounds;
    let meta = SearchMeta {
        query: query.text,
        total_hits: found.total.count,
        partial_hits: found.partial,
        took_ms,
        highlights,
        facets: Facets::of(found.facets.into_iter().map(|(facet, values)| {
            (facet, values.into_iter().map(|v| facet_view(facet, v, bounds, currency)).collect())
        })),
    };
    let end = part.offset + u64::from(part.per_page);
    // The pages go on with what follows the matches.
    let listed = Total { count: found.total.count + found.partial, ..found.total };
    let more = listed.count > end && end <= MAX_OFFSET;
    let mut frame = ListFrame::page(None, more, Some(listed), &part, &reply.target);
    frame.meta.search = Some(meta);
    let list = reply.rows(frame, &found.products, &format)?;
    Ok(public(list.respond(), None, Some(hit)))
}

/// Returns the highlights of the products of a search, by their ids.
fn highlights(found: &SearchPage) -> BTreeMap<Uuid, HighlightsView> {
    let marked = found.products.iter().map(|product| product.id.0).zip(found.highlights());
    marked.map(|(id, highlights)| (id, HighlightsView::of(&highlights))).collect()
}

/// Replaces the fields of a search query in an error by the names of their parameters.
pub(super) fn by_parameter(error: Error) -> Error {
    let Error::Validation(mut errors) = error else { return error };
    for e in &mut errors.0 {
        let name = e.field.strip_prefix("filter.").unwrap_or(&e.field);
        let end = name.find(['[', '.']).unwrap_or(name.len());
        let parameter = String::from(match &name[..end] {
            "text" => "q",
            "categories" => "category",
            "brands" => "brand",
            "tags" => "tag",
            "attributes" => "attribute",
            other => other,
        });
        e.field = parameter;
    }
    Error::Validation(errors)
}

/// Returns the representation of a facet value. Prices are in the major unit, as in the filters.
fn facet_view(facet: Facet, v: FacetValue, bounds: &[i64], currency: Currency) -> FacetView {
    let major = |minor: i64| Money::from_minor(minor, currency).amount().to_string();
    let (value, label) = (v.value, v.label);
    let (value, label, filter) = match (facet, value.parse::<i64>()) {
        (Facet::Prices, Ok(low)) => {
            let min = major(low);
            let max = bounds.iter().find(|b| **b > low).map(|next| major(next.saturating_sub(1)));
            let label = format!("{min}–{}", max.as_deref().unwrap_or_default());
            let parameters = [Some(("min_price", min.clone())), max.map(|max| ("max_price", max))];
            (min, label, parameters.into_iter().flatten().collect())
        }
        _ => {
            let parameter = match facet {
                Facet::Categories => "category",
                Facet::Brands => "brand",
                Facet::Tags => "tag",
                Facet::Availability => "availability",
                Facet::Rating => "min_rating",
                Facet::Prices => "min_price",
            };
            (value.clone(), label, vec![(parameter, value)])
        }
    };
    let filter = form_urlencoded::Serializer::new(String::new()).extend_pairs(filter).finish();
    FacetView { value, label, filter, count: v.count }
}
