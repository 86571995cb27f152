//! Routes of the catalog.

mod category;
mod product;
mod review;
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
        ("reviews", "Reviews of products, from which their ratings follow"),
    ],
    links: &[
        ("products", "/products"),
        ("categories", "/categories"),
        ("category_tree", "/categories/tree"),
        ("reviews", "/reviews"),
    ],
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
        routes!(review::of_product, review::create),
        routes!(review::list),
        routes!(review::read, review::replace, review::patch, review::delete),
        routes!(category::list, category::create),
        routes!(category::tree),
        routes!(category::read, category::replace, category::patch, category::delete),
        routes!(category::children),
        routes!(category::ancestors),
        routes!(category::move_to),
        routes!(category::restore),
    ]
}
