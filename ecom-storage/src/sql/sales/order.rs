//! Orders, with their lines, discounts and history.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::common::{Actor, Attributes, IncludeDeleted};
use ecom_core::id::{CartId, CustomerId, OrderAdjustmentId, OrderId, OrderLineId, ProductId, SkuId};
use ecom_core::money::{Currency, Money};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::{NumberedDocument, OrderRepository, OrderTrace};
use ecom_core::sales::{
    Bill, Buyer, ChangeKind, Order, OrderAdjustment, OrderCancellation, OrderChange, OrderFilter, OrderLine,
    OrderLineFilter, OrderRecord, OrderSort, PostalAddress, Totals,
};
use ecom_core::text::fold_key;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{
    Builder, MAX_LIST, SetColumn, after_time, between, count, lock_rows, page, update_rows,
};
use crate::sql::engine::columns::{
    Column, Described, Table, Unique, Versioned, read_audit, read_external, read_totals,
};
use crate::sql::engine::dialect::{Dialect, Numbers, Sql};
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::stored::Stored;
use crate::sql::engine::value::{Row, Value};
use crate::sql::sales::bill::{self, BILLS};

/// The columns of orders.
pub static ORDERS: Table<Order> = Table {
    name: "orders",
    entity: Entity::Order,
    columns: &[
        Column::fixed("id", |o| o.id.into()),
        Column::fixed("number", |o| Value::from(&o.number)),
        Column::fixed("cart_id", |o| o.cart_id.into()),
        Column::fixed("customer_id", |o| o.customer_id.into()),
        Column::field("first_name", |o| o.buyer.first_name.as_deref().into()),
        Column::field("last_name", |o| o.buyer.last_name.as_deref().into()),
        Column::field("email", |o| o.buyer.email.as_deref().into()),
        Column::derived("email_key", |o| o.buyer.email.as_deref().map(fold_key).into()),
        Column::field("telephone", |o| o.buyer.telephone.as_deref().into()),
        Column::fixed("currency", |o| o.currency().code().into()),
        Column::fixed("exponent", |o| exponent(o.currency()).into()),
        Column::fixed("prices_include_tax", |o| i32::from(o.prices_include_tax).into()),
        Column::field("status", |o| o.status.into()),
        Column::derived("listing_state", listing_state),
        Column::field("delivery_method", |o| o.delivery_method.into()),
        Column::json("shipping_address", |o| Value::opt_json(o.shipping_address.as_ref())),
        Column::json("billing_address", |o| Value::opt_json(o.billing_address.as_ref())),
        Column::field("tracking", |o| o.tracking.as_deref().into()),
        Column::Totals(|o| &o.totals),
        Column::fixed("engine", |o| o.engine.into()),
        Column::fixed("placed_at", |o| o.placed_at.into()),
        Column::field("canceled_at", |o| o.canceled_at.into()),
        Column::field("erased_at", |o| o.erased_at.into()),
        Column::json("attributes", |o| Value::json(&o.attributes)),
        Column::External(|o| &o.external),
        Column::Audit(|o| &o.audit),
    ],
    unique: &[
        Unique { index: "orders_number", columns: &["number"], field: "number", value: |o| Some(o.number.clone()) },
        Unique {
            index: "orders_cart",
            columns: &["cart_id"],
            field: "cart_id",
            value: |o| o.cart_id.map(|c| c.to_string()),
        },
        Unique {
            index: "orders_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |o| o.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: Some(("customer_id", |o| o.customer_id.map(|c| c.0))),
};

/// The columns of lines.
static LINES: Table<OrderLine> = Table {
    name: "order_lines",
    entity: Entity::OrderLine,
    columns: &[
        Column::fixed("id", |l| l.id.into()),
        Column::fixed("order_id", |l| l.order_id.into()),
        Column::fixed("placed_at", |l| l.placed_at.into()),
        Column::fixed("position", |l| l.position.into()),
        Column::fixed("bill_seq", |l| l.bill_seq.into()),
        Column::fixed("kind", |l| l.kind.into()),
        Column::fixed("sku_id", |l| l.sku_id.into()),
        Column::fixed("product_id", |l| l.product_id.into()),
        Column::fixed("code", |l| l.code.as_deref().into()),
        Column::fixed("title", |l| Value::from(&l.title)),
        Column::json("options", |l| Value::json(&l.options)),
        Column::json("attributes", |l| Value::json(&l.attributes)),
        Column::fixed("stock_mode", |l| i32::from(l.takes_stock).into()),
        Column::field("list_price", |l| l.list_price.minor().into()),
        Column::field("unit_price", |l| l.unit_price.minor().into()),
        Column::field("quantity", |l| l.quantity.into()),
        Column::field("canceled", |l| l.canceled.into()),
        Column::field("subtotal", |l| l.totals.subtotal.minor().into()),
        Column::field("discount", |l| l.totals.discount.minor().into()),
        Column::field("tax_added", |l| l.totals.tax_added.minor().into()),
        Column::field("tax_included", |l| l.totals.tax_included.minor().into()),
        Column::field("total", |l| l.totals.total.minor().into()),
    ],
    unique: &[],
    parent: Some(("sku_id", |l| l.sku_id.map(|s| s.0))),
};

/// What a change of an order changes in its lines.
static LINE_CHANGES: [SetColumn<OrderLine>; 9] = [
    ("list_price", |l| l.list_price.minor().into()),
    ("unit_price", |l| l.unit_price.minor().into()),
    ("quantity", |l| l.quantity.into()),
    ("canceled", |l| l.canceled.into()),
    ("subtotal", |l| l.totals.subtotal.minor().into()),
    ("discount", |l| l.totals.discount.minor().into()),
    ("tax_added", |l| l.totals.tax_added.minor().into()),
    ("tax_included", |l| l.totals.tax_included.minor().into()),
    ("total", |l| l.totals.total.minor().into()),
];

/// The columns of discounts. This release writes none that a promotion gave.
static ADJUSTMENTS: Table<OrderAdjustment> = Table {
    name: "order_adjustments",
    entity: Entity::OrderAdjustment,
    columns: &[
        Column::fixed("id", |a| a.id.into()),
        Column::fixed("order_id", |a| a.order_id.into()),
        Column::fixed("order_line_id", |a| a.line_id.into()),
        Column::fixed("kind", |a| a.kind.into()),
        Column::fixed("label", |a| Value::from(&a.label)),
        Column::fixed("step", |a| a.step.into()),
        Column::fixed("amount", |a| a.amount.minor().into()),
    ],
    unique: &[],
    parent: None,
};

/// The columns of the history.
static CHANGES: Table<OrderChange> = Table {
    name: "order_changes",
    entity: Entity::Order,
    columns: &[
        Column::fixed("order_id", |c| c.order_id.into()),
        Column::fixed("seq", |c| c.seq.into()),
        Column::fixed("kind", |c| c.kind.into()),
        Column::fixed("from_status", |c| c.from.map(Stored::disk).into()),
        Column::fixed("to_status", |c| c.to.into()),
        Column::json("data", |c| Value::json(&c.data)),
        Column::fixed("actor", |c| c.actor.as_str().into()),
        Column::fixed("at", |c| c.at.into()),
    ],
    unique: &[],
    parent: None,
};

/// The columns of what was canceled.
static CANCELLATIONS: Table<OrderCancellation> = Table {
    name: "order_cancellations",
    entity: Entity::Order,
    columns: &[
        Column::fixed("order_id", |c| c.order_id.into()),
        Column::fixed("seq", |c| c.seq.into()),
        Column::fixed("order_line_id", |c| c.line_id.into()),
        Column::fixed("kind", |c| c.kind.into()),
        Column::fixed("product_id", |c| c.product_id.into()),
        Column::fixed("units", |c| c.units.into()),
        Column::fixed("subtotal", |c| c.totals.subtotal.minor().into()),
        Column::fixed("discount", |c| c.totals.discount.minor().into()),
        Column::fixed("tax_added", |c| c.totals.tax_added.minor().into()),
        Column::fixed("tax_included", |c| c.totals.tax_included.minor().into()),
        Column::fixed("total", |c| c.totals.total.minor().into()),
        Column::fixed("at", |c| c.at.into()),
    ],
    unique: &[],
    parent: None,
};

static WRITES: Versioned<Order> = Versioned::new(&ORDERS);
static GET: Sql = Sql::of(&ORDERS, "SELECT {*} FROM orders WHERE id = $1");
static ID_OF_NUMBER: Sql = Sql::new("SELECT id FROM orders WHERE number = $1");
static LIST: Sql = Sql::of(&ORDERS, "SELECT {*}");
static BY_IDS: Sql = Sql::of(&ORDERS, "SELECT {*} FROM orders WHERE id IN ");
static LIST_LINES: Sql = Sql::of(&LINES, "SELECT {*}");
// The version tells whether the row of the order was read at the same moment.
static LINES_OF: Sql = Sql::of(
    &LINES,
    "SELECT {*}, (SELECT o.version FROM orders o WHERE o.id = order_lines.order_id) FROM order_lines \
     WHERE order_id IN ",
);
static ADJUSTMENTS_OF: Sql = Sql::of(&ADJUSTMENTS, "SELECT {*} FROM order_adjustments WHERE order_id IN ");
static BILLS_OF: Sql = Sql::of(&BILLS, "SELECT {*} FROM bills WHERE order_id IN ");
static DELETE_ADJUSTMENTS: Sql = Sql::new("DELETE FROM order_adjustments WHERE order_id = $1");
static HISTORY: Sql = Sql::of(&CHANGES, "SELECT {*} FROM order_changes WHERE order_id = $1 ORDER BY seq");

static CANCELLATIONS_OF: Sql =
    Sql::of(&CANCELLATIONS, "SELECT {*} FROM order_cancellations WHERE order_id = $1 ORDER BY seq, order_line_id");
static WITHOUT_CANCELLATIONS: Sql = Sql::new(
    "SELECT DISTINCT l.order_id FROM order_lines l WHERE l.order_id > $1 AND l.canceled > 0 AND l.canceled > \
     (SELECT coalesce(SUM(c.units), 0) FROM order_cancellations c \
     WHERE c.order_id = l.order_id AND c.order_line_id = l.id) ORDER BY l.order_id LIMIT $2",
);

static NOT_ERASED: Sql =
    Sql::new("SELECT id FROM orders WHERE customer_id = $1 AND erased_at IS NULL ORDER BY id LIMIT $2");
static OF_GUESTS: Sql = Sql::new(
    "SELECT id, email FROM orders WHERE email_key = $1 AND customer_id IS NULL AND erased_at IS NULL ORDER BY id",
);
static STATES: Sql =
    Sql::new("SELECT id, version, status, customer_id, email FROM orders WHERE erased_at IS NULL AND id IN ");
static ERASE: Sql = Sql::new(
    "UPDATE orders SET first_name = NULL, last_name = NULL, email = NULL, email_key = NULL, telephone = NULL, \
     shipping_address = NULL, billing_address = NULL, tracking = NULL, source = NULL, external_id = NULL, \
     attributes = ",
);
// A subselect that ends at the first line: what sells well has very many.
static SOLD_SKUS: Sql = Sql::new(
    "SELECT s.id FROM skus s \
     WHERE (SELECT 1 FROM order_lines l WHERE l.sku_id = s.id LIMIT 1) IS NOT NULL AND s.id IN ",
);
static SOLD_PRODUCTS: Sql = Sql::new(
    "SELECT p.id FROM products p \
     WHERE (SELECT 1 FROM order_lines l WHERE l.product_id = p.id LIMIT 1) IS NOT NULL AND p.id IN ",
);
static IDS_AFTER: Sql = Sql::new("SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT $2");
static TRACES: Sql = Sql::new(
    "SELECT o.id, o.version, (SELECT COUNT(*) FROM order_changes c WHERE c.order_id = o.id), \
     (SELECT c.to_status FROM order_changes c WHERE c.order_id = o.id AND c.seq = o.version), \
     (SELECT c.state FROM carts c WHERE c.id = o.cart_id) FROM orders o WHERE o.id IN ",
);
static MOVED: Sql = Sql::new(
    "SELECT l.id, (SELECT CAST(SUM(m.delta) AS {bigint}) FROM stock_movements m WHERE m.order_line_id = l.id) \
     FROM order_lines l WHERE EXISTS (SELECT 1 FROM stock_movements m WHERE m.order_line_id = l.id) \
     AND l.order_id IN ",
);

fn exponent(currency: Currency) -> i32 {
    i32::try_from(currency.exponent()).unwrap_or(0)
}

/// Returns the status, or -1 if the order is soft-deleted.
fn listing_state(o: &Order) -> Value<'static> {
    if o.audit.is_live() { o.status.into() } else { Value::I32(Some(-1)) }
}

fn read_order(r: &Row, currency: Currency) -> Result<Order> {
    Ok(Order {
        id: OrderId(r.uuid(const { ORDERS.at("id") })?),
        number: r.string(const { ORDERS.at("number") })?,
        cart_id: r.opt_uuid(const { ORDERS.at("cart_id") })?.map(CartId),
        customer_id: r.opt_uuid(const { ORDERS.at("customer_id") })?.map(CustomerId),
        buyer: Buyer {
            first_name: r.opt_string(const { ORDERS.at("first_name") })?,
            last_name: r.opt_string(const { ORDERS.at("last_name") })?,
            email: r.opt_string(const { ORDERS.at("email") })?,
            telephone: r.opt_string(const { ORDERS.at("telephone") })?,
        },
        status: r.stored(const { ORDERS.at("status") })?,
        delivery_method: r.stored(const { ORDERS.at("delivery_method") })?,
        shipping_address: r.json::<Option<PostalAddress>>(const { ORDERS.at("shipping_address") })?,
        billing_address: r.json::<Option<PostalAddress>>(const { ORDERS.at("billing_address") })?,
        tracking: r.opt_string(const { ORDERS.at("tracking") })?,
        prices_include_tax: r.i32(const { ORDERS.at("prices_include_tax") })? != 0,
        totals: read_totals(r, const { ORDERS.at("subtotal") }, currency)?,
        engine: r.i32(const { ORDERS.at("engine") })?,
        placed_at: r.time(const { ORDERS.at("placed_at") })?,
        canceled_at: r.opt_time(const { ORDERS.at("canceled_at") })?,
        erased_at: r.opt_time(const { ORDERS.at("erased_at") })?,
        attributes: r.json(const { ORDERS.at("attributes") })?,
        external: read_external(r, const { ORDERS.at("source") })?,
        lines: Vec::new(),
        audit: read_audit(r, const { ORDERS.at("created_at") })?,
    })
}

fn read_line(r: &Row, currency: Currency) -> Result<OrderLine> {
    let money = |column: usize| Ok::<_, Error>(Money::from_minor(r.i64(column)?, currency));
    Ok(OrderLine {
        id: OrderLineId(r.uuid(const { LINES.at("id") })?),
        order_id: OrderId(r.uuid(const { LINES.at("order_id") })?),
        placed_at: r.time(const { LINES.at("placed_at") })?,
        position: r.i32(const { LINES.at("position") })?,
        bill_seq: r.i32(const { LINES.at("bill_seq") })?,
        kind: r.stored(const { LINES.at("kind") })?,
        sku_id: r.opt_uuid(const { LINES.at("sku_id") })?.map(SkuId),
        product_id: r.opt_uuid(const { LINES.at("product_id") })?.map(ProductId),
        code: r.opt_string(const { LINES.at("code") })?,
        title: r.string(const { LINES.at("title") })?,
        options: r.json(const { LINES.at("options") })?,
        attributes: r.json(const { LINES.at("attributes") })?,
        takes_stock: r.i32(const { LINES.at("stock_mode") })? != 0,
        list_price: money(const { LINES.at("list_price") })?,
        unit_price: money(const { LINES.at("unit_price") })?,
        quantity: r.i64(const { LINES.at("quantity") })?,
        canceled: r.i64(const { LINES.at("canceled") })?,
        totals: Totals {
            subtotal: money(const { LINES.at("subtotal") })?,
            shipping: Money::from_minor(0, currency),
            discount: money(const { LINES.at("discount") })?,
            tax_added: money(const { LINES.at("tax_added") })?,
            tax_included: money(const { LINES.at("tax_included") })?,
            total: money(const { LINES.at("total") })?,
        },
    })
}

fn read_adjustment(r: &Row, currency: Currency) -> Result<OrderAdjustment> {
    Ok(OrderAdjustment {
        id: OrderAdjustmentId(r.uuid(const { ADJUSTMENTS.at("id") })?),
        order_id: OrderId(r.uuid(const { ADJUSTMENTS.at("order_id") })?),
        line_id: OrderLineId(r.uuid(const { ADJUSTMENTS.at("order_line_id") })?),
        kind: r.stored(const { ADJUSTMENTS.at("kind") })?,
        label: r.string(const { ADJUSTMENTS.at("label") })?,
        step: r.i32(const { ADJUSTMENTS.at("step") })?,
        amount: Money::from_minor(r.i64(const { ADJUSTMENTS.at("amount") })?, currency),
    })
}

fn read_change(r: &Row) -> Result<OrderChange> {
    let from = const { CHANGES.at("from_status") };
    Ok(OrderChange {
        order_id: OrderId(r.uuid(const { CHANGES.at("order_id") })?),
        seq: r.i64(const { CHANGES.at("seq") })?,
        kind: r.stored(const { CHANGES.at("kind") })?,
        from: if r.is_null(from)? { None } else { Some(r.stored(from)?) },
        to: r.stored(const { CHANGES.at("to_status") })?,
        data: r.json(const { CHANGES.at("data") })?,
        actor: Actor::new(r.text(const { CHANGES.at("actor") })?),
        at: r.time(const { CHANGES.at("at") })?,
    })
}

fn read_cancellation(r: &Row, currency: Currency) -> Result<OrderCancellation> {
    let money = |column: usize| Ok::<_, Error>(Money::from_minor(r.i64(column)?, currency));
    Ok(OrderCancellation {
        order_id: OrderId(r.uuid(const { CANCELLATIONS.at("order_id") })?),
        line_id: OrderLineId(r.uuid(const { CANCELLATIONS.at("order_line_id") })?),
        seq: r.i64(const { CANCELLATIONS.at("seq") })?,
        kind: r.stored(const { CANCELLATIONS.at("kind") })?,
        product_id: r.opt_uuid(const { CANCELLATIONS.at("product_id") })?.map(ProductId),
        units: r.i64(const { CANCELLATIONS.at("units") })?,
        totals: Totals {
            subtotal: money(const { CANCELLATIONS.at("subtotal") })?,
            shipping: Money::from_minor(0, currency),
            discount: money(const { CANCELLATIONS.at("discount") })?,
            tax_added: money(const { CANCELLATIONS.at("tax_added") })?,
            tax_included: money(const { CANCELLATIONS.at("tax_included") })?,
            total: money(const { CANCELLATIONS.at("total") })?,
        },
        at: r.time(const { CANCELLATIONS.at("at") })?,
    })
}

/// How many orders a statement changes at once.
const AT_ONCE: usize = 512;

/// The fields that the history entries of one change of many orders share.
struct Entry<'a> {
    kind: ChangeKind,
    data: serde_json::Value,
    at: Timestamp,
    by: &'a Actor,
}

/// The orders of a SQL database.
pub type SqlOrders<'c> = SqlRepository<'c, dyn OrderRepository>;

impl SqlOrders<'_> {
    fn filtered(b: &mut Builder<'_>, filter: &OrderFilter) {
        b.push(" FROM orders WHERE 1 = 1");
        match (filter.status, filter.include_deleted) {
            (Some(status), IncludeDeleted::No) => drop(b.push(" AND listing_state = ").bind(status)),
            (Some(status), IncludeDeleted::Yes) => drop(b.push(" AND status = ").bind(status)),
            (None, IncludeDeleted::No) => drop(b.push(" AND listing_state >= 0")),
            (None, IncludeDeleted::Yes) => {}
        }
        if let Some(customer) = filter.customer {
            b.push(" AND customer_id = ").bind(customer);
        }
        if let Some(email) = &filter.email {
            b.push(" AND email_key = ").bind(fold_key(email));
        }
        if let Some(method) = filter.delivery_method {
            b.push(" AND delivery_method = ").bind(method);
        }
        if let Some(sku) = filter.sku {
            b.push(" AND id IN (SELECT l.order_id FROM order_lines l WHERE l.quantity > 0 AND l.sku_id = ");
            b.bind(sku).push(")");
        }
        between(b, "placed_at", filter.from, filter.until);
    }

    fn filtered_lines(b: &mut Builder<'_>, filter: &OrderLineFilter) {
        b.push(" FROM order_lines WHERE quantity > 0");
        if let Some(order) = filter.order {
            b.push(" AND order_id = ").bind(order);
        }
        if let Some(sku) = filter.sku {
            b.push(" AND sku_id = ").bind(sku);
        }
        if let Some(product) = filter.product {
            b.push(" AND product_id = ").bind(product);
        }
        if let Some(customer) = filter.customer {
            b.push(" AND order_id IN (SELECT o.id FROM orders o WHERE o.customer_id = ").bind(customer).push(")");
        }
        // A scalar subselect, which no planner turns into a join that it would start with the orders.
        let of_order =
            |column: &str| format!(" AND (SELECT o.{column} FROM orders o WHERE o.id = order_lines.order_id)");
        match (filter.status, filter.include_deleted) {
            (Some(status), IncludeDeleted::No) => drop(b.push(&of_order("listing_state")).push(" = ").bind(status)),
            (Some(status), IncludeDeleted::Yes) => drop(b.push(&of_order("status")).push(" = ").bind(status)),
            (None, IncludeDeleted::No) => drop(b.push(&of_order("listing_state")).push(" >= 0")),
            (None, IncludeDeleted::Yes) => {}
        }
        between(b, "placed_at", filter.from, filter.until);
    }

    /// Reads the rows of some orders, or of other rows with these ids, in chunks.
    async fn rows<T: Send, I: Into<Value<'static>> + Copy + Sync>(
        &mut self,
        sql: &'static Sql,
        ids: &[I],
        order: &str,
        read: impl Fn(&Row) -> Result<T> + Send,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(sql, self.0.dialect());
            b.list(chunk).push(" ORDER BY ").push(order);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read(&row)?);
            }
        }
        Ok(out)
    }

    /// Locks orders (R24). Returns a history entry for each one that is not erased and for which `is_meant` is true, given
    /// its customer and its email. The entry keeps the status.
    async fn entries(
        &mut self,
        ids: &[OrderId],
        entry: &Entry<'_>,
        is_meant: impl Fn(Option<CustomerId>, Option<&str>) -> bool + Send + Sync,
    ) -> Result<Vec<OrderChange>> {
        lock_rows(&mut self.0, "orders", "id", ids).await?;
        let read = |r: &Row| {
            if !is_meant(r.opt_uuid(3)?.map(CustomerId), r.opt_string(4)?.as_deref()) {
                return Ok(None);
            }
            let (version, status) = (r.i64(1)? + 1, r.stored(2)?);
            Ok(Some(OrderChange {
                order_id: OrderId(r.uuid(0)?),
                seq: version,
                kind: entry.kind,
                from: Some(status),
                to: status,
                data: entry.data.clone(),
                actor: entry.by.clone(),
                at: entry.at,
            }))
        };
        Ok(self.rows(&STATES, ids, "id", read).await?.into_iter().flatten().collect())
    }

    /// Runs an UPDATE of orders that are locked. `b` must end with the assignment of a column; this adds the next
    /// version, the time and the actor.
    async fn edit(&mut self, mut b: Builder<'_>, ids: &[OrderId], entry: &Entry<'_>) -> Result<()> {
        b.push(", version = version + 1, updated_at = ").bind(entry.at);
        b.push(", updated_by = ").bind(entry.by.as_str().to_owned()).push(" WHERE id IN ").list(ids);
        let (text, args) = b.done();
        self.0.execute(text, args).await?;
        Ok(())
    }

    /// Takes the next `count` values of the counter of a kind of document.
    async fn count_on(&mut self, kind: NumberedDocument, count: usize) -> Result<Vec<i64>> {
        let many = i64::try_from(count).unwrap_or(i64::MAX);
        match &self.0.dialect().numbers {
            #[cfg(feature = "sqlite")]
            Numbers::Row(sql) => {
                let word = match kind {
                    NumberedDocument::Order => "order",
                    NumberedDocument::Bill => "bill",
                };
                let row = self.0.fetch_optional(*sql, vec![word.into(), many.into()]).await?;
                let last = row.map_or(Ok(0), |r| r.i64(0))?;
                Ok((last - many + 1..=last).collect())
            }
            #[cfg(feature = "postgres")]
            Numbers::Sequences { orders, bills } => {
                let sql = match kind {
                    NumberedDocument::Order => *orders,
                    NumberedDocument::Bill => *bills,
                };
                self.0.fetch_all(sql, vec![many.into()]).await?.iter().map(|r| r.i64(0)).collect()
            }
            #[cfg(feature = "mysql")]
            Numbers::Inserts(sql) => {
                let table = match kind {
                    NumberedDocument::Order => "order_numbers",
                    NumberedDocument::Bill => "bill_numbers",
                };
                let rows = vec!["(NULL)"; count].join(",");
                self.0.execute(format!("INSERT INTO {table} (n) VALUES {rows}"), Vec::new()).await?;
                let Some(row) = self.0.fetch_optional(*sql, Vec::new()).await? else {
                    return Err(Error::Internal { context: "taking numbers of documents", source: None });
                };
                let (first, step) = (row.i64(0)?, row.i64(1)?);
                // The counter goes on without the rows.
                let mut b = Builder::new(format!("DELETE FROM {table} WHERE n BETWEEN "));
                b.bind(first).push(" AND ").bind(first + (many - 1) * step);
                let (text, args) = b.done();
                self.0.execute(text, args).await?;
                Ok((0..many).map(|i| first + i * step).collect())
            }
        }
    }

    /// Reads the lines of orders into them.
    async fn with_lines(&mut self, mut orders: Vec<Order>) -> Result<Vec<Order>> {
        const TRIES: usize = 10;
        let currency = self.0.currency()?;
        let mut stale: Vec<OrderId> = orders.iter().map(|o| o.id).collect();
        for _ in 0..TRIES {
            let read = |r: &Row| Ok((read_line(r, currency)?, r.i64(LINES.columns.len())?));
            let mut lines = group(self.rows(&LINES_OF, &stale, "order_id, position", read).await?, |(l, _)| l.order_id);
            stale.clear();
            for order in &mut orders {
                let Some(read) = lines.remove(&order.id) else { continue };
                if read.iter().any(|(_, version)| *version != order.audit.version) {
                    stale.push(order.id);
                }
                order.lines = read.into_iter().map(|(line, _)| line).collect();
            }
            if stale.is_empty() {
                return Ok(orders);
            }
            let again = self.rows(&BY_IDS, &stale, "id", |r| read_order(r, currency)).await?;
            let mut again: HashMap<OrderId, Order> = again.into_iter().map(|o| (o.id, o)).collect();
            for order in &mut orders {
                if let Some(now) = again.remove(&order.id) {
                    *order = now;
                }
            }
        }
        Err(Error::Contention { source: None })
    }
}

/// Sorts a list of orders or of their lines, and adds its page.
fn by_time(b: &mut Builder<'_>, sort: OrderSort, paging: &Paging) -> Result<()> {
    let newest_first = sort == OrderSort::PlacedDesc;
    after_time(b, "placed_at", newest_first, paging)?;
    page(b, if newest_first { "placed_at DESC, id DESC" } else { "placed_at, id" }, paging);
    Ok(())
}

/// Returns the position of a row in such a list.
fn position(sort: OrderSort, placed_at: Timestamp, id: uuid::Uuid) -> Keyset {
    Keyset { sort: sort.as_str().to_owned(), key: SortKey::Int(placed_at.timestamp_micros()), id }
}

/// Returns the statement of a list, without the lines.
fn list_statement<'q>(
    dialect: &Dialect,
    filter: &OrderFilter,
    sort: OrderSort,
    paging: &Paging,
) -> Result<(String, Vec<Value<'q>>)> {
    let mut b = Builder::on(&LIST, dialect);
    SqlOrders::filtered(&mut b, filter);
    by_time(&mut b, sort, paging)?;
    Ok(b.done())
}

/// Returns the statement of a list of lines.
fn list_lines_statement<'q>(
    dialect: &Dialect,
    filter: &OrderLineFilter,
    sort: OrderSort,
    paging: &Paging,
) -> Result<(String, Vec<Value<'q>>)> {
    let mut b = Builder::on(&LIST_LINES, dialect);
    SqlOrders::filtered_lines(&mut b, filter);
    by_time(&mut b, sort, paging)?;
    Ok(b.done())
}

impl SqlStorage {
    /// Returns the plan that the database makes for a list of order lines, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_order_lines(
        &self,
        filter: &OrderLineFilter,
        sort: OrderSort,
        paging: &Paging,
    ) -> Result<Vec<String>> {
        let (text, args) = list_lines_statement(self.dialect(), filter, sort, paging)?;
        self.explain(&text, args).await
    }

    /// Returns the plan that the database makes for the orders of guests with an email address, for tests that check
    /// the use of indexes.
    #[doc(hidden)]
    pub async fn explain_orders_of_guests(&self, email: &str) -> Result<Vec<String>> {
        self.explain(&OF_GUESTS.prepared(self.dialect()).text, vec![fold_key(email).into()]).await
    }

    /// Returns the plan that the database makes for a list of orders, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_orders(&self, filter: &OrderFilter, sort: OrderSort, paging: &Paging) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, sort, paging)?;
        self.explain(&text, args).await
    }
}

/// Groups rows by their order.
fn group<T>(rows: Vec<T>, order: impl Fn(&T) -> OrderId) -> HashMap<OrderId, Vec<T>> {
    let mut groups: HashMap<OrderId, Vec<T>> = HashMap::new();
    for row in rows {
        groups.entry(order(&row)).or_default().push(row);
    }
    groups
}

#[async_trait]
impl OrderRepository for SqlOrders<'_> {
    async fn get(&mut self, id: OrderId, deleted: IncludeDeleted) -> Result<Option<Order>> {
        let currency = self.0.currency()?;
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        let order = row.as_ref().map(|r| read_order(r, currency)).transpose()?;
        match order.filter(|o| deleted == IncludeDeleted::Yes || o.audit.is_live()) {
            Some(order) => {
                let order = self.with_lines(vec![order]).await?.pop();
                Ok(order.filter(|o| deleted == IncludeDeleted::Yes || o.audit.is_live()))
            }
            None => Ok(None),
        }
    }

    async fn id_of_number(&mut self, number: &str) -> Result<Option<OrderId>> {
        let row = self.0.fetch_optional(&ID_OF_NUMBER, vec![number.into()]).await?;
        row.map(|r| Ok(OrderId(r.uuid(0)?))).transpose()
    }

    async fn of_carts(&mut self, carts: &[CartId]) -> Result<Vec<(CartId, OrderId)>> {
        let mut out = Vec::new();
        for chunk in carts.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT cart_id, id FROM orders WHERE cart_id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push((CartId(row.uuid(0)?), OrderId(row.uuid(1)?)));
            }
        }
        Ok(out)
    }

    async fn customers(&mut self, ids: &[OrderId]) -> Result<Vec<(OrderId, Option<CustomerId>)>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT id, customer_id FROM orders WHERE id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push((OrderId(row.uuid(0)?), row.opt_uuid(1)?.map(CustomerId)));
            }
        }
        Ok(out)
    }

    async fn list(&mut self, filter: &OrderFilter, sort: OrderSort, paging: &Paging) -> Result<Page<Order>> {
        let currency = self.0.currency()?;
        let (text, args) = list_statement(self.0.dialect(), filter, sort, paging)?;
        let rows = self.0.fetch_all(text, args).await?;
        let orders = rows.iter().map(|r| read_order(r, currency)).collect::<Result<Vec<_>>>()?;
        let page = Page::from_overfetch(orders, paging.limit(), |o| position(sort, o.placed_at, o.id.0));
        if page.items.is_empty() {
            return Ok(page);
        }
        Ok(Page { items: self.with_lines(page.items).await?, next: page.next })
    }

    async fn count(&mut self, filter: &OrderFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }

    async fn lines(&mut self, filter: &OrderLineFilter, sort: OrderSort, paging: &Paging) -> Result<Page<OrderLine>> {
        let currency = self.0.currency()?;
        let (text, args) = list_lines_statement(self.0.dialect(), filter, sort, paging)?;
        let rows = self.0.fetch_all(text, args).await?;
        let lines = rows.iter().map(|r| read_line(r, currency)).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(lines, paging.limit(), |l| position(sort, l.placed_at, l.id.0)))
    }

    async fn count_lines(&mut self, filter: &OrderLineFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered_lines(b, filter)).await
    }

    async fn records(&mut self, ids: &[OrderId]) -> Result<Vec<OrderRecord>> {
        let currency = self.0.currency()?;
        let orders = self.rows(&BY_IDS, ids, "id", |r| read_order(r, currency)).await?;
        let orders = self.with_lines(orders).await?;
        let adjustments =
            self.rows(&ADJUSTMENTS_OF, ids, "order_id, step, id", |r| read_adjustment(r, currency)).await?;
        let mut adjustments = group(adjustments, |a| a.order_id);
        let bills = self.rows(&BILLS_OF, ids, "order_id, kind, seq", |r| bill::read(r, currency)).await?;
        let mut bills = group(bills, |b| b.order_id);
        let record = |order: Order| {
            let mut adjustments = adjustments.remove(&order.id).unwrap_or_default();
            if adjustments.len() > 1 {
                let places: HashMap<OrderLineId, i32> = order.lines.iter().map(|l| (l.id, l.position)).collect();
                adjustments.sort_by_key(|a| places.get(&a.line_id).copied());
            }
            OrderRecord { adjustments, bills: bills.remove(&order.id).unwrap_or_default(), order }
        };
        Ok(orders.into_iter().map(record).collect())
    }

    async fn lock(&mut self, ids: &[OrderId]) -> Result<Vec<OrderRecord>> {
        // A statement of its own, since the read must see the change that the lock waited for.
        lock_rows(&mut self.0, "orders", "id", ids).await?;
        self.records(ids).await
    }

    async fn insert(&mut self, records: &[OrderRecord], changes: &[OrderChange]) -> Result<()> {
        let orders: Vec<&Order> = records.iter().map(|r| &r.order).collect();
        ORDERS.insert(&mut self.0, &orders).await?;
        let lines: Vec<&OrderLine> = records.iter().flat_map(|r| &r.order.lines).collect();
        LINES.insert(&mut self.0, &lines).await?;
        let adjustments: Vec<&OrderAdjustment> = records.iter().flat_map(|r| &r.adjustments).collect();
        ADJUSTMENTS.insert(&mut self.0, &adjustments).await?;
        let bills: Vec<&Bill> = records.iter().flat_map(|r| &r.bills).collect();
        BILLS.insert(&mut self.0, &bills).await?;
        CHANGES.insert(&mut self.0, changes).await
    }

    async fn update(&mut self, before: &OrderRecord, after: &OrderRecord, change: &OrderChange) -> Result<()> {
        WRITES.update(&mut self.0, &before.order, &after.order).await?;
        let old: HashMap<OrderLineId, &OrderLine> = before.order.lines.iter().map(|l| (l.id, l)).collect();
        let changed: Vec<&OrderLine> =
            after.order.lines.iter().filter(|l| old.get(&l.id).is_some_and(|o| o != l)).collect();
        if before.adjustments != after.adjustments {
            self.0.execute(&DELETE_ADJUSTMENTS, vec![after.order.id.into()]).await?;
        }
        update_rows(&mut self.0, LINES.name(), &LINE_CHANGES, &changed, |l| l.id.0).await?;
        let added: Vec<&OrderLine> = after.order.lines.iter().filter(|l| !old.contains_key(&l.id)).collect();
        LINES.insert(&mut self.0, &added).await?;
        if before.adjustments != after.adjustments {
            ADJUSTMENTS.insert(&mut self.0, &after.adjustments).await?;
        }
        for bill in &after.bills {
            match before.bills.iter().find(|b| b.id == bill.id) {
                Some(old) if old != bill => bill::WRITES.update(&mut self.0, old, bill).await?,
                Some(_) => {}
                None => BILLS.insert(&mut self.0, std::slice::from_ref(bill)).await?,
            }
        }
        let canceled = OrderCancellation::between(&before.order, &after.order, change);
        CANCELLATIONS.insert(&mut self.0, &canceled).await?;
        CHANGES.insert(&mut self.0, std::slice::from_ref(change)).await
    }

    async fn erase(
        &mut self,
        customer: CustomerId,
        limit: u32,
        at: Timestamp,
        by: &Actor,
    ) -> Result<Vec<(OrderId, i64)>> {
        let rows = self.0.fetch_all(&NOT_ERASED, vec![customer.into(), i64::from(limit).into()]).await?;
        let found = rows.iter().map(|r| Ok(OrderId(r.uuid(0)?))).collect::<Result<Vec<_>>>()?;
        let mut erased = Vec::with_capacity(found.len());
        for ids in found.chunks(AT_ONCE) {
            let entry = Entry { kind: ChangeKind::Erased, data: serde_json::json!({}), at, by };
            let entries = self.entries(ids, &entry, |_, _| true).await?;
            let ids: Vec<OrderId> = entries.iter().map(|e| e.order_id).collect();
            if ids.is_empty() {
                continue;
            }
            let empty = Attributes::default();
            let mut b = Builder::on(&ERASE, self.0.dialect());
            b.bind(Value::json(&empty)?).push(", erased_at = ").bind(at);
            self.edit(b, &ids, &entry).await?;
            for of_orders in ["UPDATE order_lines SET attributes = ", "UPDATE order_changes SET data = "] {
                let mut b = Builder::new(of_orders);
                b.bind(Value::json(&empty)?).push(" WHERE order_id IN ").list(&ids);
                let (text, args) = b.done();
                self.0.execute(text, args).await?;
            }
            CHANGES.insert(&mut self.0, &entries).await?;
            erased.extend(entries.iter().map(|e| (e.order_id, e.seq)));
        }
        Ok(erased)
    }

    async fn link(
        &mut self,
        email: &str,
        customer: CustomerId,
        at: Timestamp,
        by: &Actor,
    ) -> Result<Vec<(OrderId, i64)>> {
        // The key is the same for some addresses that can belong to different people.
        let is_equal = |found: Option<&str>| found.is_some_and(|found| found.eq_ignore_ascii_case(email));
        let rows = self.0.fetch_all(&OF_GUESTS, vec![fold_key(email).into()]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for r in &rows {
            if is_equal(r.opt_string(1)?.as_deref()) {
                found.push(OrderId(r.uuid(0)?));
            }
        }
        let mut linked = Vec::with_capacity(found.len());
        for ids in found.chunks(AT_ONCE) {
            let data = serde_json::json!({ "customer_id": customer });
            let entry = Entry { kind: ChangeKind::Patched, data, at, by };
            let entries = self.entries(ids, &entry, |owner, address| owner.is_none() && is_equal(address)).await?;
            let ids: Vec<OrderId> = entries.iter().map(|e| e.order_id).collect();
            if ids.is_empty() {
                continue;
            }
            let mut b = Builder::new("UPDATE orders SET customer_id = ");
            b.bind(customer);
            self.edit(b, &ids, &entry).await?;
            CHANGES.insert(&mut self.0, &entries).await?;
            linked.extend(entries.iter().map(|e| (e.order_id, e.seq)));
        }
        Ok(linked)
    }

    async fn cancellations(&mut self, id: OrderId) -> Result<Vec<OrderCancellation>> {
        let currency = self.0.currency()?;
        let rows = self.0.fetch_all(&CANCELLATIONS_OF, vec![id.into()]).await?;
        rows.iter().map(|r| read_cancellation(r, currency)).collect()
    }

    async fn without_cancellations(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderId>> {
        let after = after.unwrap_or(OrderId(uuid::Uuid::nil()));
        let args = vec![after.into(), i64::from(limit).into()];
        let rows = self.0.fetch_all(&WITHOUT_CANCELLATIONS, args).await?;
        rows.iter().map(|r| Ok(OrderId(r.uuid(0)?))).collect()
    }

    async fn add_cancellations(&mut self, cancellations: &[OrderCancellation]) -> Result<()> {
        CANCELLATIONS.insert(&mut self.0, cancellations).await
    }

    async fn history(&mut self, id: OrderId) -> Result<Vec<OrderChange>> {
        self.0.fetch_all(&HISTORY, vec![id.into()]).await?.iter().map(read_change).collect()
    }

    async fn sold_skus(&mut self, ids: &[SkuId]) -> Result<Vec<SkuId>> {
        self.rows(&SOLD_SKUS, ids, "s.id", |r| Ok(SkuId(r.uuid(0)?))).await
    }

    async fn sold_products(&mut self, ids: &[ProductId]) -> Result<Vec<ProductId>> {
        self.rows(&SOLD_PRODUCTS, ids, "p.id", |r| Ok(ProductId(r.uuid(0)?))).await
    }

    async fn ids_after(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<OrderId>> {
        let after = after.unwrap_or(OrderId(uuid::Uuid::nil()));
        let rows = self.0.fetch_all(&IDS_AFTER, vec![after.into(), i64::from(limit).into()]).await?;
        rows.iter().map(|r| Ok(OrderId(r.uuid(0)?))).collect()
    }

    async fn traces(&mut self, ids: &[OrderId]) -> Result<Vec<OrderTrace>> {
        let read = |r: &Row| {
            Ok(OrderTrace {
                id: OrderId(r.uuid(0)?),
                version: r.i64(1)?,
                entries: r.i64(2)?,
                status: if r.is_null(3)? { None } else { Some(r.stored(3)?) },
                cart: if r.is_null(4)? { None } else { Some(r.stored(4)?) },
            })
        };
        self.rows(&TRACES, ids, "o.id", read).await
    }

    async fn moved(&mut self, ids: &[OrderId]) -> Result<Vec<(OrderLineId, i64)>> {
        self.rows(&MOVED, ids, "l.id", |r| Ok((OrderLineId(r.uuid(0)?), r.i64(1)?))).await
    }

    async fn next_numbers(&mut self, kind: NumberedDocument, year: i32, count: usize) -> Result<Vec<String>> {
        let documents = match kind {
            NumberedDocument::Order => "orders",
            NumberedDocument::Bill => "bills",
        };
        let mut numbers: Vec<String> = Vec::with_capacity(count);
        while numbers.len() < count {
            let made = self.count_on(kind, count - numbers.len()).await?;
            let made: Vec<String> = made.into_iter().map(|n| kind.number(year, n)).collect();
            let mut b = Builder::new("SELECT number FROM ");
            b.push(documents).push(" WHERE number IN ").list(&made);
            let (text, args) = b.done();
            let used = self.0.fetch_all(text, args).await?;
            let used = used.iter().map(|r| r.string(0)).collect::<Result<HashSet<_>>>()?;
            numbers.extend(made.into_iter().filter(|number| !used.contains(number)));
        }
        Ok(numbers)
    }
}
