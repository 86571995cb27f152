//! Routes of the catalog.

mod category;
mod feed;
mod import;
pub(crate) mod media;
mod product;
mod review;
mod sku;

use ecom_core::ErrorCode;
use utoipa_axum::routes;

pub(super) use self::product::id_of;
use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// The catalog, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::CATALOG,
    routes,
    tags: &[
        Tag {
            name: "products",
            text: "Products with their SKUs",
            conflicts: &[
                ErrorCode::Duplicate,
                ErrorCode::HasSales,
                ErrorCode::FlatWriteRefused,
                ErrorCode::CurrencyMismatch,
            ],
        },
        Tag {
            name: "skus",
            text: "SKUs, the variants of products, which have prices and stock",
            conflicts: &[ErrorCode::Duplicate, ErrorCode::HasSales, ErrorCode::CurrencyMismatch],
        },
        Tag {
            name: "categories",
            text: "The tree of categories",
            conflicts: &[ErrorCode::Duplicate, ErrorCode::CategoryCycle, ErrorCode::CategoryNotEmpty],
        },
        Tag {
            name: "reviews",
            text: "Reviews of products, from which their ratings follow",
            conflicts: &[ErrorCode::Duplicate],
        },
        Tag {
            name: "imports",
            text: "Imports of products from other systems, and the feeds from which the shop imports by itself",
            conflicts: &[],
        },
    ],
    links: &[
        ("products", "/products"),
        ("categories", "/categories"),
        ("category_tree", "/categories/tree"),
        ("feeds", "/admin/feeds"),
        ("reviews", "/reviews"),
    ],
};

/// Returns the routes of the catalog.
fn routes() -> Routes {
    vec![
        routes!(import::import_products),
        routes!(feed::feeds),
        routes!(feed::read_feed),
        routes!(feed::run_feed),
        routes!(product::list, product::create),
        routes!(product::read, product::replace, product::patch, product::delete),
        routes!(product::restore),
        routes!(media::add_image),
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
