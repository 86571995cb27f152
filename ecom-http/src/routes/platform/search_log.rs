//! Routes of the search log.

use chrono::NaiveDate;
use ecom_core::ValidationErrors;
use ecom_core::platform::{DayRange, SearchTerm, SearchTermSort};
use serde::Deserialize;

use crate::dto::{List, SearchTermView};
use crate::error::ApiResult;
use crate::extract::{Cursor, Pages, Picked, Query, day};
use crate::headers::private;
use crate::resource::{Format, Reply, Shown};

/// How many days a list covers by default.
const DAYS: u64 = 30;

impl Shown for SearchTerm {
    const FIELDS: &'static [&'static str] = SearchTermView::FIELDS;
    type View<'a> = SearchTermView<'a>;

    fn view(&self, _: &Format) -> SearchTermView<'_> {
        SearchTermView::of(self)
    }
}

/// The days over which searches are counted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DayParams {
    /// The first day, such as 2026-01-31 (UTC); 29 days before `to` if absent.
    #[serde(default)]
    from: Option<String>,
    /// The last day, such as 2026-01-31 (UTC); today if absent.
    #[serde(default)]
    to: Option<String>,
}

impl DayParams {
    /// Reads the parameters. Pushes an error for each one that is not a date.
    fn check(&self, today: NaiveDate, errors: &mut ValidationErrors) -> DayRange {
        let to = day("to", self.to.as_deref(), errors).unwrap_or(today);
        let first = DayRange::last(DAYS, to);
        let from = day("from", self.from.as_deref(), errors).unwrap_or(first.from);
        DayRange { from, to }
    }
}

async fn list(
    reply: &Reply,
    (pages, cursor, picked, days): (Pages, Cursor, Picked, DayParams),
    sort: SearchTermSort,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let range = days.check(reply.app.shop.clock().now().date_naive(), &mut errors);
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let format = reply.format::<SearchTerm>(&picked, &mut errors);
    errors.into_result()?;
    let log = reply.shop().search_log();
    let (page, total) = match sort {
        SearchTermSort::Searches => log.popular(&range, &part.paging).await?,
        SearchTermSort::WithoutResult => log.without_result(&range, &part.paging).await?,
    };
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// List popular searches
///
/// Lists the queries that were searched for, the most frequent first, with their counts over the days `from` to `to`.
/// New searches appear within `ECOM_SEARCH_LOG_INTERVAL` seconds (10 by default).
#[utoipa::path(
    get, path = "/analytics/search-terms", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(Pages, Cursor, Picked, DayParams),
    responses((status = 200, description = "A page of texts", body = List<SearchTermView>))
)]
pub(crate) async fn popular(reply: Reply, Query(params): Query<(Pages, Cursor, Picked, DayParams)>) -> ApiResult {
    list(&reply, params, SearchTermSort::Searches).await
}

/// List searches without results
///
/// Lists the queries for which at least one search of these days found no product, those with the most such searches
/// first.
#[utoipa::path(
    get, path = "/analytics/zero-results", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(Pages, Cursor, Picked, DayParams),
    responses((status = 200, description = "A page of texts", body = List<SearchTermView>))
)]
pub(crate) async fn without_result(
    reply: Reply,
    Query(params): Query<(Pages, Cursor, Picked, DayParams)>,
) -> ApiResult {
    list(&reply, params, SearchTermSort::WithoutResult).await
}
