//! Routes of the platform.

mod analytics;
mod audit;
mod audit_log;
mod job;
mod live;
mod search_log;
mod webhook;

use utoipa_axum::routes;

use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// The platform, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::PLATFORM,
    routes,
    tags: &[
        Tag { name: "admin", text: "The operation of the shop", conflicts: &[] },
        Tag { name: "events", text: "What happens in the shop, live", conflicts: &[] },
        Tag { name: "webhooks", text: "Calls of other systems when something happens in the shop", conflicts: &[] },
        Tag { name: "analytics", text: "Sales, stock, searches and views, as figures by day", conflicts: &[] },
    ],
    links: &[
        ("audit_log", "/admin/audit-log"),
        ("events", "/events"),
        ("jobs", "/admin/jobs"),
        ("job_queues", "/admin/job-queues"),
        ("funnel", "/analytics/funnel"),
        ("low_stock", "/analytics/low-stock"),
        ("sales", "/analytics/sales"),
        ("search_terms", "/analytics/search-terms"),
        ("webhooks", "/webhooks"),
        ("webhook_deliveries", "/webhooks/deliveries"),
        ("top_products", "/analytics/top-products"),
        ("zero_results", "/analytics/zero-results"),
    ],
};

/// Returns the routes of the platform.
fn routes() -> Routes {
    vec![
        routes!(analytics::sales),
        routes!(analytics::funnel),
        routes!(analytics::top_products),
        routes!(analytics::low_stock),
        routes!(analytics::rebuild),
        routes!(analytics::count_event),
        routes!(audit::run),
        routes!(audit_log::audit_log),
        routes!(job::reindex),
        routes!(job::verify),
        routes!(job::list),
        routes!(job::read),
        routes!(job::rejected),
        routes!(job::retry),
        routes!(job::cancel),
        routes!(job::queues),
        routes!(job::pause),
        routes!(job::resume),
        routes!(live::events),
        routes!(live::ticket),
        routes!(search_log::popular),
        routes!(search_log::without_result),
        routes!(webhook::list, webhook::create),
        routes!(webhook::deliveries),
        routes!(webhook::delivery),
        routes!(webhook::replay),
        routes!(webhook::read, webhook::patch, webhook::delete),
        routes!(webhook::rotate_secret),
        routes!(webhook::test),
    ]
}
