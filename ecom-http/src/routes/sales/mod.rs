//! Routes of sales.

mod bill;
mod cart;
mod customer;
mod order;

use ecom_core::ErrorCode;
use utoipa_axum::routes;

use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// Sales, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::SALES,
    routes,
    tags: &[
        Tag {
            name: "customers",
            text: "Customers and their addresses",
            conflicts: &[ErrorCode::Duplicate, ErrorCode::HasSales],
        },
        Tag {
            name: "carts",
            text: "Carts and their lines",
            conflicts: &[
                ErrorCode::CartExpired,
                ErrorCode::CartOrdered,
                ErrorCode::CartMerged,
                ErrorCode::PriceMismatch,
                ErrorCode::InsufficientStock,
                ErrorCode::Duplicate,
            ],
        },
        Tag {
            name: "orders",
            text: "Orders and their lines",
            conflicts: &[
                ErrorCode::PriceMismatch,
                ErrorCode::InsufficientStock,
                ErrorCode::OrderStatusConflict,
                ErrorCode::BillFrozen,
                ErrorCode::CurrencyMismatch,
                ErrorCode::Duplicate,
            ],
        },
        Tag {
            name: "bills",
            text: "Bills and credit notes",
            conflicts: &[ErrorCode::BillFrozen, ErrorCode::OrderStatusConflict, ErrorCode::CurrencyMismatch],
        },
    ],
    links: &[
        ("customers", "/customers"),
        ("addresses", "/addresses"),
        ("carts", "/carts"),
        ("orders", "/orders"),
        ("order_lines", "/order-lines"),
        ("bills", "/bills"),
    ],
};

/// Returns the routes of sales.
fn routes() -> Routes {
    vec![
        routes!(customer::list, customer::create),
        routes!(customer::read, customer::replace, customer::patch, customer::delete),
        routes!(customer::restore),
        routes!(customer::erase),
        routes!(customer::addresses_of, customer::create_address),
        routes!(customer::list_addresses),
        routes!(customer::read_address, customer::replace_address, customer::patch_address, customer::delete_address),
        routes!(cart::list, cart::create),
        routes!(cart::read, cart::patch, cart::delete),
        routes!(cart::add_line, cart::clear),
        routes!(cart::change_line, cart::remove_line),
        routes!(cart::merge),
        routes!(cart::assign),
        routes!(cart::checkout),
        routes!(cart::order),
        routes!(order::list, order::place),
        routes!(order::read, order::patch, order::delete),
        routes!(order::restore),
        routes!(order::edit),
        routes!(order::lines, order::add_line),
        routes!(order::list_lines),
        routes!(order::read_line, order::change_line, order::remove_line),
        routes!(order::cancel),
        routes!(order::start),
        routes!(order::deliver),
        routes!(order::history),
        routes!(order::explain),
        routes!(order::of_customer),
        routes!(bill::list),
        routes!(bill::read, bill::patch),
        routes!(bill::of_order),
        routes!(bill::newest_of_order),
    ]
}
