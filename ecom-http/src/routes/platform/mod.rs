//! Routes of the platform.

mod audit;

use utoipa_axum::routes;

use super::Area;
use crate::app::Routes;

/// The platform, as an area of the API.
pub(super) const AREA: Area = Area { routes, tags: &[("admin", "The operation of the shop")], links: &[] };

/// Returns the routes of the platform.
fn routes() -> Routes {
    vec![routes!(audit::run)]
}
