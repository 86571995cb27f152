//! Suggestions while typing, and related products.

use ecom_core::catalog::Product;
use ecom_core::search::SearchService;
use ecom_core::text::check_text;
use ecom_core::{FieldCode, ValidationErrors};
use serde::Deserialize;

use super::at_least::AtLeastParams;
use crate::dto::{Item, List, ListFrame, ProductView, SuggestionsView, json};
use crate::error::ApiResult;
use crate::extract::{ByKey, Key, Numbers, Query, Shape, Wish as _};
use crate::headers::public;
use crate::resource::Reply;
use crate::routes::catalog::id_of;

/// How many suggestions of each kind, or related products, are returned by default.
const PROPOSED: u32 = 10;
/// The most that a client can ask for.
const MAX_PROPOSED: u32 = SearchService::MAX_PROPOSED;

/// The parameters of suggestions.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SuggestParams {
    /// The text that the shopper has typed so far, at most 500 characters and 32 words and numbers. Its last word may
    /// be incomplete. A text without words has no suggestions.
    #[serde(default)]
    q: Option<String>,
}

/// How many are returned.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LimitParams {
    /// The maximum number of results; for suggestions, of each kind. 1 to 50, 10 by default.
    #[serde(default)]
    limit: Option<u32>,
}

impl LimitParams {
    fn check(&self, errors: &mut ValidationErrors) -> u32 {
        let limit = self.limit.unwrap_or(PROPOSED);
        if !(1..=MAX_PROPOSED).contains(&limit) {
            errors.push("limit", FieldCode::OutOfBounds, format!("must be between 1 and {MAX_PROPOSED}"));
        }
        limit
    }
}

/// Get suggestions
///
/// Returns query completions, categories, brands and active products for a text whose last word may be incomplete.
#[utoipa::path(
    get, path = "/products/suggest", tag = "search",
    security(()), params(SuggestParams, AtLeastParams, LimitParams, Numbers),
    responses((status = 200, description = "The suggestions", body = Item<SuggestionsView>))
)]
pub(super) async fn suggest(
    reply: Reply,
    Query((p, fresh, limit, numbers)): Query<(SuggestParams, AtLeastParams, LimitParams, Numbers)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let text = p.q.unwrap_or_default();
    check_text("q", &text, 0, 500, &mut errors);
    let limit = limit.check(&mut errors);
    let at_least = fresh.check(&mut errors);
    errors.into_result()?;
    at_least.applied(&reply).await?;
    let found = reply.shop().search().suggest(&text, limit).await.map_err(super::query::by_parameter)?;
    let numbers = numbers.numbers().unwrap_or(reply.app.config.numbers);
    let view = SuggestionsView::of(&found, numbers);
    let suggested = Item::new(view, reply.target.path_and_query());
    Ok(public(json(axum::http::StatusCode::OK, &suggested)?, None, Some(found.hit)))
}

/// List related products
///
/// Lists active products that are similar to a product, in three groups: products of its categories that share words of
/// its title, brand or tags, the most similar first; the other products of its categories, the best rated first; and
/// products of other categories that share such words, the most similar first.
#[utoipa::path(
    get, path = "/products/{id}/related", tag = "search",
    security(()), params(ByKey, AtLeastParams, LimitParams, Shape),
    responses((status = 200, description = "The related products", body = List<ProductView>))
)]
pub(super) async fn related(
    reply: Reply,
    key: Key,
    Query((fresh, limit, shape)): Query<(AtLeastParams, LimitParams, Shape)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let limit = limit.check(&mut errors);
    let at_least = fresh.check(&mut errors);
    let format = reply.format::<Product>(&shape, &mut errors);
    errors.into_result()?;
    at_least.applied(&reply).await?;
    let id = id_of(&reply, key).await?;
    let found = reply.shop().search().related(id, limit).await?;
    let list = reply.rows(ListFrame::whole(&reply.target), &found.products, &format)?;
    Ok(public(list.respond(), None, Some(found.hit)))
}
