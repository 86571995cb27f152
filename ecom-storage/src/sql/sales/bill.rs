//! Bills and credit notes.

use async_trait::async_trait;
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{BillId, OrderId};
use ecom_core::money::Currency;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::BillRepository;
use ecom_core::sales::{Bill, BillFilter, BillSort};
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, after_time, between, count, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_totals};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::executor::Text;
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of bills.
pub static BILLS: Table<Bill> = Table {
    name: "bills",
    entity: Entity::Bill,
    columns: &[
        Column::fixed("id", |b| b.id.into()),
        Column::fixed("order_id", |b| b.order_id.into()),
        Column::fixed("kind", |b| b.kind.into()),
        Column::fixed("seq", |b| b.seq.into()),
        Column::fixed("corrects", |b| b.corrects.into()),
        Column::fixed("number", |b| Value::from(&b.number)),
        Column::Totals(|b| &b.totals),
        Column::field("payment_type", |b| b.payment_type.into()),
        Column::field("status", |b| b.status.into()),
        Column::fixed("date", |b| b.date.into()),
        Column::Audit(|b| &b.audit),
    ],
    unique: &[Unique {
        index: "bills_number",
        columns: &["number"],
        field: "bill_number",
        value: |b| Some(b.number.clone()),
    }],
    parent: Some(("order_id", |b| Some(b.order_id.0))),
};

pub static WRITES: Versioned<Bill> = Versioned::new(&BILLS);
static GET: Sql = Sql::of(&BILLS, "SELECT {*} FROM bills WHERE id = $1");
static GET_BY_NUMBER: Sql = Sql::of(&BILLS, "SELECT {*} FROM bills WHERE number = $1");
static OF_ORDER: Sql = Sql::of(&BILLS, "SELECT {*} FROM bills WHERE order_id = $1 ORDER BY kind, seq");
static LIST: Sql = Sql::of(&BILLS, "SELECT {*}");

/// Reads a bill.
pub fn read(r: &Row, currency: Currency) -> Result<Bill> {
    Ok(Bill {
        id: BillId(r.uuid(const { BILLS.at("id") })?),
        order_id: OrderId(r.uuid(const { BILLS.at("order_id") })?),
        kind: r.stored(const { BILLS.at("kind") })?,
        seq: r.i32(const { BILLS.at("seq") })?,
        corrects: r.opt_uuid(const { BILLS.at("corrects") })?.map(BillId),
        number: r.string(const { BILLS.at("number") })?,
        totals: read_totals(r, const { BILLS.at("subtotal") }, currency)?,
        payment_type: r.stored(const { BILLS.at("payment_type") })?,
        status: r.stored(const { BILLS.at("status") })?,
        date: r.time(const { BILLS.at("date") })?,
        audit: read_audit(r, const { BILLS.at("created_at") })?,
    })
}

/// The bills of a SQL database.
pub type SqlBills<'c> = SqlRepository<'c, dyn BillRepository>;

impl SqlBills<'_> {
    async fn many(&mut self, text: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<Bill>> {
        let currency = self.0.currency()?;
        self.0.fetch_all(text, args).await?.iter().map(|r| read(r, currency)).collect()
    }

    /// As [`Self::many`], without those that are hidden.
    async fn shown(&mut self, sql: &'static Sql, arg: Value<'_>, deleted: IncludeDeleted) -> Result<Vec<Bill>> {
        let mut bills = self.many(sql, vec![arg]).await?;
        bills.retain(|b| deleted == IncludeDeleted::Yes || b.audit.is_live());
        Ok(bills)
    }

    fn filtered(b: &mut Builder<'_>, filter: &BillFilter) {
        b.push(" FROM bills WHERE 1 = 1");
        if let Some(order) = filter.order {
            b.push(" AND order_id = ").bind(order);
        }
        if let Some(kind) = filter.kind {
            b.push(" AND kind = ").bind(kind);
        }
        if let Some(status) = filter.status {
            // An order has few bills: a planner must not walk all bills of the status.
            b.push(if filter.order.is_some() { " AND +status = " } else { " AND status = " }).bind(status);
        }
        between(b, "date", filter.from, filter.until);
        if filter.include_deleted == IncludeDeleted::No {
            b.push(" AND deleted_at IS NULL");
        }
    }
}

fn list_statement<'q>(
    dialect: &Dialect,
    filter: &BillFilter,
    sort: BillSort,
    paging: &Paging,
) -> Result<(String, Vec<Value<'q>>)> {
    let mut b = Builder::on(&LIST, dialect);
    SqlBills::filtered(&mut b, filter);
    let newest_first = sort == BillSort::DateDesc;
    after_time(&mut b, "date", newest_first, paging)?;
    page(&mut b, if newest_first { "date DESC, id DESC" } else { "date, id" }, paging);
    Ok(b.done())
}

impl SqlStorage {
    /// Returns the plan that the database makes for a list of bills, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_bills(&self, filter: &BillFilter, sort: BillSort, paging: &Paging) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, sort, paging)?;
        self.explain(&text, args).await
    }
}

#[async_trait]
impl BillRepository for SqlBills<'_> {
    async fn get(&mut self, id: BillId, deleted: IncludeDeleted) -> Result<Option<Bill>> {
        Ok(self.shown(&GET, id.into(), deleted).await?.pop())
    }

    async fn get_by_number(&mut self, number: &str, deleted: IncludeDeleted) -> Result<Option<Bill>> {
        Ok(self.shown(&GET_BY_NUMBER, number.into(), deleted).await?.pop())
    }

    async fn of_order(&mut self, order: OrderId, deleted: IncludeDeleted) -> Result<Vec<Bill>> {
        self.shown(&OF_ORDER, order.into(), deleted).await
    }

    async fn list(&mut self, filter: &BillFilter, sort: BillSort, paging: &Paging) -> Result<Page<Bill>> {
        let (text, args) = list_statement(self.0.dialect(), filter, sort, paging)?;
        let items = self.many(text, args).await?;
        Ok(Page::from_overfetch(items, paging.limit(), |b| Keyset {
            sort: sort.as_str().to_owned(),
            key: SortKey::Int(b.date.timestamp_micros()),
            id: b.id.0,
        }))
    }

    async fn count(&mut self, filter: &BillFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }
}
