//! Routes of the catalog.

mod category;
mod product;
mod sku;

use utoipa_axum::routes;

use crate::app::Routes;

/// Returns the routes of the catalog.
pub(crate) fn routes() -> Routes {
    vec![
        routes!(product::list, product::create),
        routes!(product::read, product::replace, product::patch, product::delete),
        routes!(product::restore),
        routes!(sku::of_product, sku::create),
        routes!(sku::find),
        routes!(sku::read, sku::replace, sku::patch, sku::delete),
        routes!(sku::restore),
        routes!(category::list, category::create),
        routes!(category::tree),
        routes!(category::read, category::replace, category::patch, category::delete),
        routes!(category::children),
        routes!(category::ancestors),
        routes!(category::move_to),
        routes!(category::restore),
    ]
}
