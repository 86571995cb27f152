//! Orders, with their lines, discounts, bills and history.

use crate::clock::Timestamp;
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::sales::bill::{Bill, BillFilter, BillSort};
use crate::domain::sales::cart::CartState;
use crate::domain::sales::order::{
    Order, OrderCancellation, OrderChange, OrderFilter, OrderLine, OrderLineFilter, OrderRecord, OrderSort, OrderStatus,
};
use crate::error::Result;
use crate::id::{BillId, CartId, CustomerId, OrderId, OrderLineId, ProductId, SkuId};
use crate::paging::{Page, Paging, Total};

/// A kind of document that has numbers of its own (R43).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NumberedDocument {
    /// An order.
    Order,
    /// A bill or a credit note.
    Bill,
}

impl NumberedDocument {
    /// Returns the number of a document: its prefix, the year of its date in UTC, and a counter that never restarts.
    ///
    /// ```
    /// use ecom_core::port::NumberedDocument;
    ///
    /// assert_eq!(NumberedDocument::Order.number(2026, 123), "ORD-2026-000123");
    /// ```
    pub fn number(self, year: i32, counter: i64) -> String {
        let prefix = match self {
            Self::Order => "ORD",
            Self::Bill => "BILL",
        };
        format!("{prefix}-{year}-{counter:06}")
    }
}

/// What other rows say about an order, for an audit. All of it was read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTrace {
    /// The order.
    pub id: OrderId,
    /// The version of the order.
    pub version: i64,
    /// The number of entries of its history.
    pub entries: i64,
    /// The status after the change that led to this version; `None` if the history does not have it.
    pub status: Option<OrderStatus>,
    /// The state of the cart that the order was made from; `None` if there is no such cart, or no longer.
    pub cart: Option<CartState>,
}

port! {
    /// The orders of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait OrderRepository / ForwardOrders(&mut self): Send {
        /// Returns an order with its lines, in at most two statements.
        async fn get(&mut self, id: OrderId, deleted: IncludeDeleted) -> Result<Option<Order>>;

        /// Returns the id of the order with this number, which may be soft-deleted.
        async fn id_of_number(&mut self, number: &str) -> Result<Option<OrderId>>;

        /// Returns, for each of these carts from which an order was made, the cart and the order.
        async fn of_carts(&mut self, carts: &[CartId]) -> Result<Vec<(CartId, OrderId)>>;

        /// Returns the customer of each of these orders that exists, soft-deleted ones included; `None` for an order of
        /// a guest.
        async fn customers(&mut self, ids: &[OrderId]) -> Result<Vec<(OrderId, Option<CustomerId>)>>;

        /// Returns a page of orders with their lines, in two statements.
        async fn list(&mut self, filter: &OrderFilter, sort: OrderSort, paging: &Paging) -> Result<Page<Order>>;

        /// Counts the orders that match, up to `bound`.
        async fn count(&mut self, filter: &OrderFilter, bound: u64) -> Result<Total>;

        /// Returns a page of the lines of all orders: one statement. Lines with the quantity 0 are not among them.
        async fn lines(
            &mut self,
            filter: &OrderLineFilter,
            sort: OrderSort,
            paging: &Paging,
        ) -> Result<Page<OrderLine>>;

        /// Counts the lines that match, up to `bound`.
        async fn count_lines(&mut self, filter: &OrderLineFilter, bound: u64) -> Result<Total>;

        /// Returns those of these orders that exist, soft-deleted ones included, with all that belongs to them, by id.
        /// It needs a fixed number of statements.
        async fn records(&mut self, ids: &[OrderId]) -> Result<Vec<OrderRecord>>;

        /// As [`Self::records`], and locks the orders until the end of the transaction, in id order (R24).
        async fn lock(&mut self, ids: &[OrderId]) -> Result<Vec<OrderRecord>>;

        /// Inserts orders with all that belongs to them, and the first entries of their histories. It needs a fixed
        /// number of statements for 128 rows of each kind.
        ///
        /// # Errors
        /// `DUPLICATE` on `number`, `bill_number`, `cart_id` or `external_id`.
        async fn insert(&mut self, records: &[OrderRecord], changes: &[OrderChange]) -> Result<()>;

        /// Writes the difference between two states of an order, which the caller has locked, the entry of its history,
        /// and what the change has canceled ([`OrderCancellation::between`]).
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the order has another version than `before`, `DUPLICATE` on `bill_number`.
        async fn update(&mut self, before: &OrderRecord, after: &OrderRecord, change: &OrderChange) -> Result<()>;

        /// Erases the personal data of at most `limit` orders of a customer that were not erased yet, in the order of
        /// their ids, soft-deleted ones included (R45): the buyer, the addresses, the tracking reference, the
        /// attributes of the order and its lines, the external reference, and the data of the history. Each order is
        /// locked (R24), gets the time of the erasure, the next version, and an entry of its history of the kind
        /// [`ChangeKind::Erased`](crate::sales::ChangeKind::Erased). Amounts, numbers, lines and bills stay.
        ///
        /// Returns the orders with their new versions: fewer than `limit` if no other one is left. It needs a fixed
        /// number of statements for 128 orders.
        async fn erase(
            &mut self,
            customer: CustomerId,
            limit: u32,
            at: Timestamp,
            by: &Actor,
        ) -> Result<Vec<(OrderId, i64)>>;

        /// Assigns the orders that guests placed with an email address to a customer, and returns their ids and new
        /// versions, sorted by id. The transaction holds the customer. Soft-deleted orders are included, erased ones
        /// are not. Two addresses match if they differ at most in the case of ASCII letters, because other spellings
        /// can belong to different people. Each order is locked (R24) and gets the next version. An entry of the kind
        /// [`ChangeKind::Patched`](crate::sales::ChangeKind::Patched), with the `customer_id`, is added to its history.
        ///
        /// All orders of the address are assigned, however many there are. The number of statements is the same for 1
        /// and for 128 orders.
        async fn link(
            &mut self,
            email: &str,
            customer: CustomerId,
            at: Timestamp,
            by: &Actor,
        ) -> Result<Vec<(OrderId, i64)>>;

        /// Returns what was canceled of an order, oldest first.
        async fn cancellations(&mut self, id: OrderId) -> Result<Vec<OrderCancellation>>;

        /// Returns the ids of at most `limit` orders that have more canceled units than [`Self::cancellations`]
        /// returns, because a release that did not record cancellations has written them. They are sorted by id and
        /// come after `after`.
        async fn without_cancellations(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderId>>;

        /// Adds cancellations of orders that the caller has locked. [`Self::update`] does this for its own change.
        async fn add_cancellations(&mut self, cancellations: &[OrderCancellation]) -> Result<()>;

        /// Returns the history of an order, oldest first.
        async fn history(&mut self, id: OrderId) -> Result<Vec<OrderChange>>;

        /// Returns those of these SKUs that a line of an order refers to. Canceled and soft-deleted orders count too.
        /// If the transaction has locked the SKUs, no line is added to them until it ends.
        async fn sold_skus(&mut self, ids: &[SkuId]) -> Result<Vec<SkuId>>;

        /// As [`Self::sold_skus`], of products: those of which a line sells a SKU.
        async fn sold_products(&mut self, ids: &[ProductId]) -> Result<Vec<ProductId>>;

        /// Returns the ids of at most `limit` orders after one, by id, soft-deleted ones included.
        async fn ids_after(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderId>>;

        /// Returns what other rows say about each of these orders.
        async fn traces(&mut self, ids: &[OrderId]) -> Result<Vec<OrderTrace>>;

        /// Returns the sum of the stock movements of each line of these orders that has movements.
        async fn moved(&mut self, ids: &[OrderId]) -> Result<Vec<(OrderLineId, i64)>>;

        /// Takes `count` numbers of a kind of document, for documents of a year (R43). Each is greater than those that
        /// this process took before, and no other transaction takes it. Numbers that an import or a caller has used are
        /// skipped. If a transaction that runs at the same time uses one, the insert fails with `DUPLICATE`.
        async fn next_numbers(&mut self, kind: NumberedDocument, year: i32, count: usize) -> Result<Vec<String>>;
    }
}

port! {
    /// The bills and credit notes of a shop. This trait only reads them; [`OrderRepository`] writes them. A bill is
    /// hidden if its [`Audit::deleted_at`](crate::common::Audit::deleted_at) is set, which is that of its order.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait BillRepository / ForwardBills(&mut self): Send {
        /// Returns a bill.
        async fn get(&mut self, id: BillId, deleted: IncludeDeleted) -> Result<Option<Bill>>;

        /// Returns the bill with this number.
        async fn get_by_number(&mut self, number: &str, deleted: IncludeDeleted) -> Result<Option<Bill>>;

        /// Returns the bills of an order, and then its credit notes, each by seq.
        async fn of_order(&mut self, order: OrderId, deleted: IncludeDeleted) -> Result<Vec<Bill>>;

        /// Returns a page of bills.
        async fn list(&mut self, filter: &BillFilter, sort: BillSort, paging: &Paging) -> Result<Page<Bill>>;

        /// Counts the bills that match, up to `bound`.
        async fn count(&mut self, filter: &BillFilter, bound: u64) -> Result<Total>;
    }
}
