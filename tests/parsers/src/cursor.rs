use axum::http::StatusCode;
use ecom_core::paging::Keyset;

use crate::shop::{TestShop, kept};

/// Lists that page by cursor, each with the name of its order.
pub const LISTS: [(&str, &str); 17] = [
    ("/products?status=any&sort=created_desc", "created_desc"),
    ("/products?sort=created_asc", "created_asc"),
    ("/products?sort=price_asc&min_price=1", "price_asc"),
    ("/products?sort=price_desc", "price_desc"),
    ("/products?sort=title_asc", "title_asc"),
    ("/products?sort=title_desc", "title_desc"),
    ("/products?sort=rating_desc", "rating_desc"),
    ("/categories?", "name"),
    ("/reviews?sort=created_desc", "created_desc"),
    ("/reviews?sort=rating_desc", "rating_desc"),
    ("/customers?sort=name_asc", "name_asc"),
    ("/orders?sort=placed_desc", "placed_desc"),
    ("/order-lines?sort=placed_asc", "placed_asc"),
    ("/bills?sort=date_desc", "date_desc"),
    ("/carts?", "created_desc"),
    ("/api-keys?", "created_desc"),
    ("/analytics/search-terms?sort=searches_desc", "searches_desc"),
];

thread_local! {
    static SHOP: &'static TestShop = {
        let shop = TestShop::open();
        shop.fill();
        kept(shop)
    };
}

/// Cursors: a text that is accepted names one position, whose own text names the same one, and opens the lists of its
/// order only. Every list answers every cursor with a page or a refusal.
///
/// The input is the cursor, or its JSON.
pub fn cursor(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let text = &if text.starts_with('{') { encoded(text) } else { text.to_owned() };
    for (list, order) in LISTS {
        let read = Keyset::decode(text, order);
        if let Ok(position) = &read {
            assert_eq!(position.sort, order, "{text:?}");
            let again = position.encode();
            assert_eq!(Keyset::decode(&again, order).as_ref().ok(), Some(position), "{text:?}");
            for (_, other) in LISTS.iter().filter(|(_, other)| *other != order) {
                assert!(Keyset::decode(text, other).is_err(), "{text:?} opens {other} and {order}");
            }
        }
        let Some(answer) = SHOP.with(|shop| shop.get(&format!("{list}&per_page=1&cursor={text}"))) else { continue };
        match answer.status {
            // An empty text is the first page, and a text with other characters, such as `&`, is a parameter more.
            StatusCode::OK if read.is_ok() || text.is_empty() || !is_plain(text) => {}
            _ => answer.is_refusal(&format!("{list} {text}")),
        }
        if read.is_err() && is_plain(text) {
            break;
        }
    }
}

fn encoded(json: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
}

/// Returns true if a query string contains the text as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
