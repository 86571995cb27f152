//! The topics of the rules that depend on the search engine.

use super::{index, search_settings};

suite! {
    /// Runs the tests of [`shop_suite!`](crate::shop_suite) that depend on the search engine, for a search engine whose
    /// other parts run the whole suite with another one. Takes the path of an `async fn() -> ShopFixture`.
    shop_search_suite, shop_search: fixture => &fixture, {
        index: __shop_index,
        search_settings: __shop_search_settings,
    }
}
