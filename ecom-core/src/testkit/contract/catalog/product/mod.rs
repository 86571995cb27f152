//! The contract of [`ProductRepository`](crate::port::ProductRepository), one file per topic.

mod deletion;
mod filters;
mod names;
mod paging;
mod records;
mod support;

suite! {
    /// Runs the suite of [`ProductRepository`](crate::port::ProductRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    product_suite, product: fixture => &fixture.storage, {
        records: __product_records,
        deletion: __product_deletion,
        names: __product_names,
        filters: __product_filters,
        paging: __product_paging,
    }
}
