//! The routes of the search settings. Each is read and replaced as a whole.

use ecom_core::platform::{Setting, SettingName};
use ecom_core::search::{SearchRule, Synonym};

use crate::dto::{Item, RulesInput, RulesView, SynonymsInput, SynonymsView};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{IfMatch, IfMatchHeader, Json, Numbers, Query, Shape};
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

fn stamp<T>(setting: &Setting<T>) -> Stamp {
    Stamp { id: setting.id.0, version: setting.audit.version, revision: setting.audit.version }
}

impl Shown for Setting<Vec<Synonym>> {
    const FIELDS: &'static [&'static str] = SynonymsView::FIELDS;
    type View<'a> = SynonymsView<'a>;

    fn view(&self, _: &Format) -> SynonymsView<'_> {
        SynonymsView::of(self)
    }
}

impl Resource for Setting<Vec<Synonym>> {
    const COLLECTION: &'static str = "/search";

    fn stamp(&self) -> Stamp {
        stamp(self)
    }

    fn name(&self) -> String {
        "synonyms".to_owned()
    }
}

impl Shown for Setting<Vec<SearchRule>> {
    const FIELDS: &'static [&'static str] = RulesView::FIELDS;
    type View<'a> = RulesView<'a>;

    fn view(&self, _: &Format) -> RulesView<'_> {
        RulesView::of(self)
    }
}

impl Resource for Setting<Vec<SearchRule>> {
    const COLLECTION: &'static str = "/search";

    fn stamp(&self) -> Stamp {
        stamp(self)
    }

    fn name(&self) -> String {
        "rules".to_owned()
    }
}

/// Read the synonyms
#[utoipa::path(
    get, path = "/search/synonyms", tag = "search settings", security(("bearer" = ["search:read"])), params(Shape),
    responses((status = 200, description = "The synonyms of the shop", body = Item<SynonymsView>), NotModified)
)]
pub(super) async fn synonyms(reply: Reply, Query((shape,)): Query<(Shape,)>) -> ApiResult {
    let format = reply.only_format::<Setting<Vec<Synonym>>>(&shape)?;
    reply.personal(&reply.shop().search_settings().synonyms().await?, &format)
}

/// Replace the synonyms
///
/// The index does not change. Searches of this process use the new synonyms at once, and other processes use them
/// within `ECOM_POLL_INTERVAL`. An entry without `input` holds words and phrases that mean the same. With `input`, the
/// synonyms are one-way: a search for it also finds the products of its synonyms.
#[utoipa::path(
    put, path = "/search/synonyms", tag = "search settings",
    security(("bearer" = ["search:write"])), params(IfMatchHeader, Numbers),
    request_body = SynonymsInput,
    responses((status = 200, description = "The new synonyms", body = Item<SynonymsView>))
)]
pub(super) async fn replace_synonyms(
    reply: Reply,
    if_match: IfMatch,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<SynonymsInput>,
) -> ApiResult {
    let w = Write::to(SettingName::Synonyms.id(), reply, if_match);
    let read = w.read(input.version)?;
    let done = w.shop().search_settings().replace_synonyms(read, input.synonyms).await;
    w.written(&w.done(done)?, &numbers)
}

/// Read the rules
#[utoipa::path(
    get, path = "/search/rules", tag = "search settings", security(("bearer" = ["search:read"])), params(Shape),
    responses((status = 200, description = "The rules of the shop", body = Item<RulesView>), NotModified)
)]
pub(super) async fn rules(reply: Reply, Query((shape,)): Query<(Shape,)>) -> ApiResult {
    let format = reply.only_format::<Setting<Vec<SearchRule>>>(&shape)?;
    reply.personal(&reply.shop().search_settings().rules().await?, &format)
}

/// Replace the rules
///
/// Searches of this process use the new rules at once, and those of other processes within `ECOM_POLL_INTERVAL`. A rule
/// applies to the searches that meet all of its conditions: the words of the query, a filter by a category, and the
/// time. It pins products to the top, hides products, or multiplies the scores of some.
#[utoipa::path(
    put, path = "/search/rules", tag = "search settings",
    security(("bearer" = ["search:write"])), params(IfMatchHeader, Numbers), request_body = RulesInput,
    responses((status = 200, description = "The new rules", body = Item<RulesView>))
)]
pub(super) async fn replace_rules(
    reply: Reply,
    if_match: IfMatch,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<RulesInput>,
) -> ApiResult {
    let w = Write::to(SettingName::SearchRules.id(), reply, if_match);
    let read = w.read(input.version)?;
    let done = w.shop().search_settings().replace_rules(read, input.rules).await;
    w.written(&w.done(done)?, &numbers)
}
