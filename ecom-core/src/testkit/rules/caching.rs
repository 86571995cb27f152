//! The topics of the rules whose reads go through the cache.

use super::{
    access, cache, errors, imports, index, lists, logins, oidc, own_rows, products, read_your_writes, removal, reviews,
    search_cache, search_fallback, search_log, search_settings, soft_delete, staleness, stock, tree, versions,
};

suite! {
    /// Runs the topics of [`shop_suite!`](crate::shop_suite) whose reads go through the cache, for a cache whose other
    /// parts run the whole suite with another one. Takes the path of an `async fn() -> ShopFixture`.
    shop_cache_suite, shop_cache: fixture => &fixture, {
        access: __shop_access,
        cache: __shop_cache,
        errors: __shop_errors,
        imports: __shop_imports,
        index: __shop_index,
        lists: __shop_lists,
        logins: __shop_logins,
        oidc: __shop_oidc,
        own_rows: __shop_own_rows,
        products: __shop_products,
        read_your_writes: __shop_read_your_writes,
        removal: __shop_removal,
        reviews: __shop_reviews,
        search_cache: __shop_search_cache,
        search_fallback: __shop_search_fallback,
        search_log: __shop_search_log,
        search_settings: __shop_search_settings,
        soft_delete: __shop_soft_delete,
        staleness: __shop_staleness,
        stock: __shop_stock,
        tree: __shop_tree,
        versions: __shop_versions,
    }
}
