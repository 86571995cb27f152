use axum::http::StatusCode;

use crate::shop::{TestShop, kept};

/// The paths of lists with filters.
const PATHS: [&str; 18] = [
    "/products",
    "/products/search",
    "/products/suggest",
    "/skus",
    "/categories",
    "/categories/tree",
    "/reviews",
    "/customers",
    "/addresses",
    "/carts",
    "/orders",
    "/order-lines",
    "/bills",
    "/users",
    "/roles",
    "/api-keys",
    "/admin/jobs",
    "/analytics/search-terms",
];

thread_local! {
    static SHOP: &'static TestShop = {
        let shop = TestShop::open();
        shop.fill();
        kept(shop)
    };
}

/// Filters: every query string has a page, whose links lead to pages, or is refused with the fields that are wrong.
///
/// The input is a path below the prefix of the API, with a query string.
pub fn filters(input: &[u8]) {
    let Ok(target) = std::str::from_utf8(input) else { return };
    let path = target.split('?').next().unwrap_or_default();
    if !PATHS.contains(&path) {
        return;
    }
    SHOP.with(|shop| {
        let Some(answer) = shop.get(target) else { return };
        match answer.status {
            StatusCode::OK => {
                assert!(answer.body["data"].is_array() || answer.body["data"].is_object(), "{target:?}");
                for (name, link) in answer.body["links"].as_object().into_iter().flatten() {
                    let link = link.as_str().and_then(|link| link.strip_prefix("/api/v1")).expect("a path of the API");
                    let page = shop.get(link).unwrap_or_else(|| panic!("{target:?} has the link {link:?}"));
                    assert_eq!(page.status, StatusCode::OK, "{target:?}: {name} {link:?}: {}", page.body);
                    if name == "self" {
                        assert_eq!(page.body["data"], answer.body["data"], "{target:?}");
                    }
                }
            }
            StatusCode::URI_TOO_LONG => assert!(target.len() > 8_000, "{target:?}"),
            _ => answer.is_refusal(target),
        }
    });
}
