//! Carts with their lines.

use std::collections::HashMap;

use async_trait::async_trait;
use ecom_core::access::SecretHash;
use ecom_core::clock::Timestamp;
use ecom_core::common::Actor;
use ecom_core::id::{CartId, CartLineId, CustomerId, SkuId};
use ecom_core::money::{Currency, Money};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::CartRepository;
use ecom_core::sales::{Cart, CartFilter, CartLine, CartState};
use ecom_core::text::fold_key;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{
    Builder, MAX_LIST, SetColumn, bad_cursor, count, delete_rows, lock_rows, page, update_rows,
};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_external};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::DbResult;
use crate::sql::engine::executor::{Executor, Text};
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of carts.
pub static CARTS: Table<Cart> = Table {
    name: "carts",
    entity: Entity::Cart,
    columns: &[
        Column::fixed("id", |c| c.id.0.into()),
        Column::field("token_hash", |c| c.token_hash.map(|hash| hash.0.to_vec()).into()),
        Column::field("customer_id", |c| c.customer_id.map(|id| id.0).into()),
        Column::field("email", |c| c.email.as_deref().into()),
        Column::derived("email_key", |c| c.email.as_deref().map(fold_key).into()),
        Column::fixed("currency", |c| c.currency.code().into()),
        Column::field("state", |c| c.state.into()),
        Column::field("merged_into", |c| c.merged_into.map(|id| id.0).into()),
        Column::field("expires_at", |c| c.expires_at.into()),
        Column::json("attributes", |c| Value::json(&c.attributes)),
        Column::External(|c| &c.external),
        Column::Audit(|c| &c.audit),
    ],
    unique: &[
        Unique {
            index: "carts_customer_open",
            columns: &["customer_id"],
            field: "customer_id",
            value: |c| c.customer_id.map(|id| id.to_string()),
        },
        Unique {
            index: "carts_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |c| c.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: Some(("customer_id", |c| c.customer_id.map(|id| id.0))),
};

/// A line of a cart, with the cart that it belongs to.
struct Line {
    cart: CartId,
    line: CartLine,
}

/// The columns of lines.
static LINES: Table<Line> = Table {
    name: "cart_lines",
    entity: Entity::CartLine,
    columns: &[
        Column::fixed("id", |l| l.line.id.0.into()),
        Column::fixed("cart_id", |l| l.cart.0.into()),
        Column::fixed("sku_id", |l| l.line.sku_id.0.into()),
        Column::json("attributes", |l| Value::json(&l.line.attributes)),
        Column::derived("attributes_key", |l| l.line.attributes_key().into()),
        Column::field("quantity", |l| l.line.quantity.into()),
        Column::field("seen_price", |l| l.line.seen_price.minor().into()),
    ],
    unique: &[],
    parent: Some(("sku_id", |l| Some(l.line.sku_id.0))),
};

/// What a change of a cart changes in its lines.
static LINE_CHANGES: [SetColumn<CartLine>; 2] =
    [("quantity", |l| l.quantity.into()), ("seen_price", |l| l.seen_price.minor().into())];

static CART_WRITES: Versioned<Cart> = Versioned::new(&CARTS);
/// Carts with their lines.
static READ: Sql = Sql::over(
    &[("c", &CARTS), ("l", &LINES)],
    "SELECT {c.*}, {l.*} FROM carts c LEFT JOIN cart_lines l ON l.cart_id = c.id WHERE c.id IN ",
);
static GET: Sql = Sql::over(
    &[("c", &CARTS), ("l", &LINES)],
    "SELECT {c.*}, {l.*} FROM carts c LEFT JOIN cart_lines l ON l.cart_id = c.id WHERE c.id = $1 ORDER BY l.id",
);
static LIST: Sql = Sql::of(&CARTS, "SELECT {*}");
static LINES_OF: Sql = Sql::of(&LINES, "SELECT {*} FROM cart_lines WHERE cart_id IN ");
static EXPIRED: Sql =
    Sql::new("SELECT id FROM carts WHERE state = $1 AND expires_at <= $2 ORDER BY expires_at, id LIMIT $3");
static IDLE: Sql = Sql::new(
    "SELECT id, updated_at FROM carts WHERE state = $1 AND updated_at >= $2 AND (updated_at > $2 OR id > $3) \
     AND updated_at <= $4 AND reminded_at IS NULL AND source IS NULL \
     AND (email IS NOT NULL OR customer_id IS NOT NULL) AND EXISTS (SELECT 1 FROM cart_lines l WHERE l.cart_id = carts.id) ORDER BY updated_at, id LIMIT $5",
);
static SET_REMINDED: Sql = Sql::new("UPDATE carts SET reminded_at = $1 WHERE id = $2 AND reminded_at IS NULL");
static REMINDED_SINCE: Sql = Sql::new("SELECT 1 FROM carts WHERE email_key = $1 AND reminded_at > $2 LIMIT 1");
/// The position of a line's columns in [`READ`].
const LINE: usize = CARTS.width();

/// Reads a cart without its lines.
fn read_cart(r: &Row) -> Result<Cart> {
    let hash = r.opt_bytes(const { CARTS.at("token_hash") })?;
    let unreadable = |e| Error::internal("reading a row", e);
    Ok(Cart {
        id: CartId(r.uuid(const { CARTS.at("id") })?),
        token_hash: hash.map(|h| h.try_into().map(SecretHash)).transpose().map_err(unreadable)?,
        customer_id: r.opt_uuid(const { CARTS.at("customer_id") })?.map(CustomerId),
        email: r.opt_string(const { CARTS.at("email") })?,
        currency: Currency::from_code(r.text(const { CARTS.at("currency") })?)?,
        state: r.stored(const { CARTS.at("state") })?,
        merged_into: r.opt_uuid(const { CARTS.at("merged_into") })?.map(CartId),
        expires_at: r.time(const { CARTS.at("expires_at") })?,
        attributes: r.json(const { CARTS.at("attributes") })?,
        external: read_external(r, const { CARTS.at("source") })?,
        audit: read_audit(r, const { CARTS.at("created_at") })?,
        lines: Vec::new(),
    })
}

/// Reads a line whose columns start at `at`.
fn read_line(r: &Row, at: usize, currency: Currency) -> Result<CartLine> {
    Ok(CartLine {
        id: CartLineId(r.uuid(at + const { LINES.at("id") })?),
        sku_id: SkuId(r.uuid(at + const { LINES.at("sku_id") })?),
        attributes: r.json(at + const { LINES.at("attributes") })?,
        quantity: r.i64(at + const { LINES.at("quantity") })?,
        seen_price: Money::from_minor(r.i64(at + const { LINES.at("seen_price") })?, currency),
    })
}

/// The carts of a SQL database.
pub type SqlCarts<'c> = SqlRepository<'c, dyn CartRepository>;

impl SqlCarts<'_> {
    fn filtered(b: &mut Builder<'_>, filter: &CartFilter) {
        b.push(" FROM carts WHERE 1 = 1");
        if let Some(id) = filter.customer {
            b.push(" AND customer_id = ").bind(id.0);
        }
        if let Some(state) = filter.state {
            b.push(" AND state = ").bind(state);
        }
        if let Some(email) = &filter.email {
            b.push(" AND email_key = ").bind(fold_key(email));
        }
    }

    /// Reads carts with their lines from a join that is sorted by cart.
    async fn joined(&mut self, text: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<Cart>> {
        let mut carts: Vec<Cart> = Vec::new();
        for r in self.0.fetch_all(text, args).await? {
            let id = CartId(r.uuid(const { CARTS.at("id") })?);
            if carts.last().is_none_or(|c| c.id != id) {
                carts.push(read_cart(&r)?);
            }
            if let Some(cart) = carts.last_mut()
                && r.opt_uuid(LINE + const { LINES.at("id") })?.is_some()
            {
                cart.lines.push(read_line(&r, LINE, cart.currency)?);
            }
        }
        Ok(carts)
    }

    async fn ids(&mut self, sql: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<CartId>> {
        self.0.fetch_all(sql, args).await?.iter().map(|r| Ok(CartId(r.uuid(0)?))).collect()
    }

    /// Inserts lines in the order of their SKUs, whose rows the foreign key locks.
    async fn insert_lines(&mut self, mut lines: Vec<Line>) -> Result<()> {
        lines.sort_unstable_by_key(|l| (l.line.sku_id, l.line.id));
        LINES.insert(&mut self.0, &lines).await
    }

    /// Sets the quantities and the prices of lines.
    async fn update_lines(&mut self, lines: &[&CartLine]) -> Result<()> {
        let found = update_rows(&mut self.0, "cart_lines", &LINE_CHANGES, lines, |l| l.id.0).await?;
        if found < lines.len() as u64 {
            // A SKU was removed, together with its lines, after the transaction had read them.
            return Err(Error::Contention { source: None });
        }
        Ok(())
    }
}

/// Removes carts with their lines, for good.
pub(super) async fn delete_carts(x: &mut Executor<'_>, ids: &[uuid::Uuid]) -> DbResult<()> {
    delete_rows(x, "cart_lines", "cart_id", ids).await?;
    delete_rows(x, "carts", "id", ids).await
}

/// Returns each id once, in ascending order.
fn sorted(ids: &[CartId]) -> Vec<uuid::Uuid> {
    let mut ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[async_trait]
impl CartRepository for SqlCarts<'_> {
    async fn get(&mut self, id: CartId) -> Result<Option<Cart>> {
        Ok(self.joined(&GET, vec![id.0.into()]).await?.pop())
    }

    async fn get_many(&mut self, ids: &[CartId]) -> Result<Vec<Cart>> {
        let ids = sorted(ids);
        let mut carts = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&READ, self.0.dialect());
            b.list(chunk).push(" ORDER BY c.id, l.id");
            let (text, args) = b.done();
            carts.extend(self.joined(text, args).await?);
        }
        Ok(carts)
    }

    async fn lock(&mut self, ids: &[CartId]) -> Result<Vec<Cart>> {
        for chunk in sorted(ids).chunks(MAX_LIST) {
            // A statement of its own, since the read must see the change that the lock waited for.
            lock_rows(&mut self.0, "carts", "id", chunk).await?;
        }
        self.get_many(ids).await
    }

    async fn find_open(&mut self, customers: &[CustomerId]) -> Result<Vec<CartId>> {
        let customers: Vec<uuid::Uuid> = customers.iter().map(|id| id.0).collect();
        let mut out = Vec::with_capacity(customers.len());
        for chunk in customers.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT id FROM carts WHERE state = ");
            b.bind(CartState::Open).push(" AND customer_id IN ").list(chunk);
            let (text, args) = b.done();
            out.extend(self.ids(text, args).await?);
        }
        Ok(out)
    }

    async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<CartId>> {
        let mut out = Vec::with_capacity(external_ids.len());
        for chunk in external_ids.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT id FROM carts WHERE source = ");
            b.bind(source).push(" AND external_id IN ").list(&chunk.iter().collect::<Vec<_>>());
            let (text, args) = b.done();
            out.extend(self.ids(text, args).await?);
        }
        Ok(out)
    }

    async fn list(&mut self, filter: &CartFilter, paging: &Paging) -> Result<Page<Cart>> {
        let mut b = Builder::on(&LIST, self.0.dialect());
        Self::filtered(&mut b, filter);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            if k.key != SortKey::Id {
                return Err(bad_cursor());
            }
            b.push(" AND id < ").bind(k.id);
        }
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let carts = self.0.fetch_all(text, args).await?.iter().map(read_cart).collect::<Result<Vec<_>>>()?;
        let mut page = Page::from_overfetch(carts, paging.limit(), |c| Keyset {
            sort: "created_desc".to_owned(),
            key: SortKey::Id,
            id: c.id.0,
        });
        let places: HashMap<CartId, usize> = page.items.iter().enumerate().map(|(i, c)| (c.id, i)).collect();
        let ids: Vec<uuid::Uuid> = page.items.iter().map(|c| c.id.0).collect();
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&LINES_OF, self.0.dialect());
            b.list(chunk).push(" ORDER BY cart_id, id");
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                let cart = places.get(&CartId(r.uuid(const { LINES.at("cart_id") })?));
                if let Some(cart) = cart.and_then(|i| page.items.get_mut(*i)) {
                    cart.lines.push(read_line(&r, 0, cart.currency)?);
                }
            }
        }
        Ok(page)
    }

    async fn count(&mut self, filter: &CartFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }

    async fn insert(&mut self, carts: &[Cart]) -> Result<()> {
        CARTS.insert(&mut self.0, carts).await?;
        let of = |cart: &Cart| {
            let id = cart.id;
            cart.lines.clone().into_iter().map(move |line| Line { cart: id, line })
        };
        self.insert_lines(carts.iter().flat_map(of).collect()).await
    }

    async fn update(&mut self, before: &Cart, after: &Cart) -> Result<()> {
        CART_WRITES.update(&mut self.0, before, after).await?;
        let old: HashMap<CartLineId, &CartLine> = before.lines.iter().map(|l| (l.id, l)).collect();
        let new: HashMap<CartLineId, &CartLine> = after.lines.iter().map(|l| (l.id, l)).collect();
        let gone: Vec<uuid::Uuid> = before.lines.iter().filter(|l| !new.contains_key(&l.id)).map(|l| l.id.0).collect();
        let changed: Vec<&CartLine> =
            after.lines.iter().filter(|l| old.get(&l.id).is_some_and(|old| old != l)).collect();
        let added = after.lines.iter().filter(|l| !old.contains_key(&l.id));
        let added = added.map(|line| Line { cart: after.id, line: line.clone() }).collect();
        delete_rows(&mut self.0, "cart_lines", "id", &gone).await?;
        self.update_lines(&changed).await?;
        self.insert_lines(added).await
    }

    async fn set_ordered(&mut self, ids: &[CartId], at: Timestamp, by: &Actor) -> Result<()> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::new("UPDATE carts SET version = version + 1, state = ");
            b.bind(CartState::Ordered).push(", updated_at = ").bind(at).push(", updated_by = ").bind(by.as_str());
            b.push(" WHERE id IN ").list(chunk);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn expired(&mut self, state: CartState, at: Timestamp, limit: u32) -> Result<Vec<CartId>> {
        self.ids(&EXPIRED, vec![state.into(), at.into(), i64::from(limit).into()]).await
    }

    async fn idle(
        &mut self,
        after: (Timestamp, CartId),
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Timestamp, CartId)>> {
        let ((time, id), limit) = (after, i64::from(limit));
        let args = vec![CartState::Open.into(), time.into(), id.0.into(), until.into(), limit.into()];
        let rows = self.0.fetch_all(&IDLE, args).await?;
        rows.iter().map(|r| Ok((r.time(1)?, CartId(r.uuid(0)?)))).collect()
    }

    async fn set_reminded(&mut self, id: CartId, at: Timestamp) -> Result<bool> {
        Ok(self.0.execute(&SET_REMINDED, vec![at.into(), id.0.into()]).await? > 0)
    }

    async fn reminded_since(&mut self, email: &str, at: Timestamp) -> Result<bool> {
        let args = vec![fold_key(email).into(), at.into()];
        Ok(self.0.fetch_optional(&REMINDED_SINCE, args).await?.is_some())
    }

    async fn purge(&mut self, ids: &[CartId]) -> Result<()> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        Ok(delete_carts(&mut self.0, &ids).await?)
    }
}
