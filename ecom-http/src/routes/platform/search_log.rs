//! Routes of the search log.

use ecom_core::ValidationErrors;
use ecom_core::platform::{SearchTerm, SearchTermSort};

use super::analytics::DayParams;
use crate::csv::{Accepted, Output, table};
use crate::dto::{List, SearchTermView};
use crate::error::ApiResult;
use crate::extract::{Cursor, Pages, Picked, Query};
use crate::headers::private;
use crate::resource::{Format, Reply, Shown};

impl Shown for SearchTerm {
    const FIELDS: &'static [&'static str] = SearchTermView::FIELDS;
    type View<'a> = SearchTermView<'a>;

    fn view(&self, _: &Format) -> SearchTermView<'_> {
        SearchTermView::of(self)
    }
}

/// The parameters of a list of texts.
type Params = (Pages, Cursor, Picked, DayParams, Output);

async fn list(
    reply: &Reply,
    accepted: Accepted,
    (pages, cursor, picked, days, output): Params,
    sort: SearchTermSort,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let range = days.check(reply, &mut errors);
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let is_csv = output.is_csv(accepted, &mut errors);
    let format = reply.format::<SearchTerm>(&picked, &mut errors);
    errors.into_result()?;
    let log = reply.shop().search_log();
    let (page, total) = match sort {
        SearchTermSort::Searches => log.popular(&range, &part.paging).await?,
        SearchTermSort::WithoutResult => log.without_result(&range, &part.paging).await?,
    };
    let frame = reply.frame(&page, total, &part);
    if is_csv {
        let name = match sort {
            SearchTermSort::Searches => "search-terms",
            SearchTermSort::WithoutResult => "zero-results",
        };
        let rows = page.items.iter().map(|term| term.view(&format));
        return table(name, &format.fields.of(SearchTerm::FIELDS), rows, Some(&frame.links));
    }
    Ok(private(format.rows(frame, page.items.iter())?.respond(), None))
}

/// List popular searches
///
/// Lists the queries that were searched for, the most frequent first, with their counts over the days `from` to `to`.
/// New searches appear within `ECOM_SEARCH_LOG_INTERVAL` seconds (10 by default).
#[utoipa::path(
    get, path = "/analytics/search-terms", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(Pages, Cursor, Picked, DayParams, Output),
    responses((
        status = 200, description = "A page of texts",
        content((List<SearchTermView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn popular(reply: Reply, accepted: Accepted, Query(params): Query<Params>) -> ApiResult {
    list(&reply, accepted, params, SearchTermSort::Searches).await
}

/// List searches without results
///
/// Lists the queries for which at least one search of these days found no product, those with the most such searches
/// first.
#[utoipa::path(
    get, path = "/analytics/zero-results", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(Pages, Cursor, Picked, DayParams, Output),
    responses((
        status = 200, description = "A page of texts",
        content((List<SearchTermView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn without_result(reply: Reply, accepted: Accepted, Query(params): Query<Params>) -> ApiResult {
    list(&reply, accepted, params, SearchTermSort::WithoutResult).await
}
