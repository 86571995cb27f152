//! The contract of [`OrderRepository`](crate::port::OrderRepository) and
//! [`BillRepository`](crate::port::BillRepository), one file per topic.

mod bills;
mod lists;
mod numbers;
mod records;
mod references;
mod support;

suite! {
    /// Runs the suite of [`OrderRepository`](crate::port::OrderRepository) and
    /// [`BillRepository`](crate::port::BillRepository). Takes the path of an `async fn() -> StorageFixture`; see
    /// [`testkit`](crate::testkit).
    order_suite, order: fixture => &fixture.storage, {
        records: __order_records,
        references: __order_references,
        numbers: __order_numbers,
        lists: __order_lists,
        bills: __order_bills,
    }
}
