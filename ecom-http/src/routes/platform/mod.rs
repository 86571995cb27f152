//! Routes of the platform.

mod audit;
mod job;

use utoipa_axum::routes;

use super::{Area, Tag};
use crate::app::Routes;

/// The platform, as an area of the API.
pub(super) const AREA: Area = Area {
    routes,
    tags: &[Tag { name: "admin", text: "The operation of the shop", conflicts: &[] }],
    links: &[("jobs", "/admin/jobs")],
};

/// Returns the routes of the platform.
fn routes() -> Routes {
    vec![
        routes!(audit::run),
        routes!(job::reindex),
        routes!(job::verify),
        routes!(job::list),
        routes!(job::read),
        routes!(job::retry),
    ]
}
