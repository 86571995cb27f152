//! Routes of the catalog.

mod category;
mod product;
mod sku;

use utoipa_axum::routes;

use super::Area;
use crate::app::Routes;

/// The catalog, as an area of the API.
pub(super) const AREA: Area = Area {
    routes,
    tags: &[
        ("products", "Products with their SKUs"),
        ("skus", "SKUs, the variants of products, which have prices and stock"),
        ("categories", "The tree of categories"),
    ],
    links: &[("products", "/products"), ("categories", "/categories"), ("category_tree", "/categories/tree")],
};

/// Returns the routes of the catalog.
fn routes() -> Routes {
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
