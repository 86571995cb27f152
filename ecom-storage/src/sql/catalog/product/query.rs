//! The statement of a list of products: the walk of one index, its filters and its cursor.

use ecom_core::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::money::Money;
use ecom_core::paging::{Keyset, Paging, SortKey};
use ecom_core::text::fold_key;
use ecom_core::{Error, Result};

use super::{NO_PRICE, PRODUCTS, SKU, STATE_DELETED};
use crate::sql::catalog::sku::SKUS;
use crate::sql::engine::builder::{Builder, bad_cursor};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::stored::Stored;
use crate::sql::engine::value::{Row, Value};

static LIST_HEAD: Sql =
    Sql::over(&[("p", &PRODUCTS), ("s", &SKUS)], "SELECT {p.*}, {category_summaries}, {s.*}, page.k FROM (");
/// The position of `page.k` in a list: the key that the page is sorted by.
const PAGE_KEY: usize = SKU + SKUS.width();
static LIST_TAIL: Sql = Sql::new(
    ") page {page_join} products p ON p.id = page.id \
     LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL",
);

/// A filter as a walk: the states to walk, and whether the walk is over a category.
pub(super) struct Walk<'f> {
    filter: &'f ProductFilter,
    category: Option<CategoryId>,
    states: Vec<i32>,
}

impl<'f> Walk<'f> {
    pub(super) fn new(filter: &'f ProductFilter) -> Self {
        let mut states: Vec<i32> =
            filter.status.map_or_else(|| ProductStatus::ALL.map(Stored::disk).to_vec(), |s| vec![s.disk()]);
        if filter.include_deleted == IncludeDeleted::Yes {
            states.push(STATE_DELETED);
        }
        Self { filter, category: filter.category, states }
    }

    /// Returns the alias of the table that is walked.
    pub(super) fn alias(&self) -> &'static str {
        if self.category.is_some() { "l" } else { "p" }
    }

    pub(super) fn id(&self) -> &'static str {
        if self.category.is_some() { "l.product_id" } else { "p.id" }
    }

    fn state(&self) -> &'static str {
        if self.category.is_some() { "l.state" } else { "p.listing_state" }
    }

    /// Adds `FROM …`, with products if the filter needs them.
    pub(super) fn from(&self, b: &mut Builder<'_>, with_products: bool) {
        let f = self.filter;
        let needs = with_products
            || f.brand.is_some()
            || f.availability.is_some()
            || f.updated_since.is_some()
            || (f.status.is_some() && f.include_deleted == IncludeDeleted::Yes);
        b.push(match (self.category.is_some(), needs) {
            (false, _) => " FROM products p",
            (true, false) => " FROM product_listings l",
            (true, true) => " FROM product_listings l JOIN products p ON p.id = l.product_id",
        });
    }

    /// Adds `WHERE …`, without the states and the bounds of the price.
    fn conditions(&self, b: &mut Builder<'_>) {
        let f = self.filter;
        if let Some(c) = self.category {
            b.push(" AND l.category_id = ").bind(c);
        }
        if let Some(brand) = &f.brand {
            b.push(" AND p.brand_key = ").bind(fold_key(brand));
        }
        if let Some(tag) = &f.tag {
            b.push(" AND EXISTS (SELECT 1 FROM product_tags t WHERE t.product_id = ").push(self.id());
            b.push(" AND t.tag_key = ").bind(fold_key(tag)).push(")");
        }
        if let Some(a) = f.availability {
            b.push(" AND p.availability = ").bind(a);
        }
        if let Some(t) = f.updated_since {
            b.push(" AND p.updated_at >= ").bind(t);
        }
        if let (Some(s), IncludeDeleted::Yes) = (f.status, f.include_deleted) {
            b.push(" AND p.status = ").bind(s);
        }
    }

    fn states_in(&self, b: &mut Builder<'_>) {
        let list: Vec<String> = self.states.iter().map(ToString::to_string).collect();
        b.push(self.state()).push(" IN (").push(&list.join(",")).push(")");
    }

    /// Adds the bounds of the price. If `walked`, they bound the walk of an index by price. If not, a plus keeps the
    /// planner from leaving the sort's index for one by price, whose rows it would have to sort.
    fn price(&self, b: &mut Builder<'_>, lower: Option<i64>, upper: Option<i64>, walked: bool) {
        let and = if walked { " AND " } else { " AND +" };
        if let Some(min) = lower {
            b.push(and).push(self.alias()).push(".price_key >= ").bind(min);
        }
        if let Some(max) = upper {
            b.push(and).push(self.alias()).push(".price_key <= ").bind(max);
        }
    }

    /// Returns the bounds of the filter. A product without a price is in no range.
    fn price_bounds(&self) -> (Option<i64>, Option<i64>) {
        let f = self.filter;
        let any = f.min_price.is_some() || f.max_price.is_some();
        (f.min_price.map(Money::minor), any.then(|| f.max_price.map_or(NO_PRICE - 1, Money::minor).min(NO_PRICE - 1)))
    }

    /// Adds the parts that select all matches, without order.
    pub(super) fn matching(&self, b: &mut Builder<'_>) {
        b.push(" WHERE ");
        self.states_in(b);
        self.conditions(b);
        let (lower, upper) = self.price_bounds();
        self.price(b, lower, upper, true);
    }
}

/// Returns the column that a list sorts by before the id, or `None` if it sorts by id alone.
pub(super) fn sort_column(sort: ProductSort) -> Option<&'static str> {
    match sort {
        ProductSort::CreatedAsc | ProductSort::CreatedDesc => None,
        ProductSort::PriceAsc | ProductSort::PriceDesc => Some("price_key"),
        ProductSort::TitleAsc | ProductSort::TitleDesc => Some("title_key"),
        ProductSort::RatingDesc => Some("rating"),
    }
}

/// Adds one walk of one index: the ids of a page among the products in one state.
fn branch(
    b: &mut Builder<'_>,
    dialect: &Dialect,
    walk: &Walk<'_>,
    state: i32,
    sort: ProductSort,
    after: Option<&Keyset>,
    (limit, offset): (i64, Option<i64>),
) -> Result<()> {
    let desc = sort.is_descending();
    let (beyond, direction) = if desc { ("<", " DESC") } else { (">", "") };
    let key = sort_column(sort).map(|c| format!("{}.{c}", walk.alias()));
    b.push("SELECT ").push(walk.id()).push(" AS id, ").push(key.as_deref().unwrap_or("0")).push(" AS k");
    walk.from(b, false);
    b.push(" WHERE ").push(walk.state()).push(&format!(" = {state}"));
    walk.conditions(b);
    let (mut lower, mut upper) = walk.price_bounds();
    if let Some(after) = after {
        let value = match (sort_column(sort), &after.key) {
            (None, SortKey::Id) => None,
            (Some("title_key"), SortKey::Text(t)) => Some(Value::from(t.clone())),
            (Some("price_key"), SortKey::Int(n)) => {
                // Only one bound on the column, so that the walk starts at the cursor and not at the start of the
                // filter's range.
                let (filtered, other) = if desc { (upper.take(), &mut upper) } else { (lower.take(), &mut lower) };
                if filtered.is_some_and(|f| if desc { f < *n } else { f > *n }) {
                    *other = filtered;
                    None
                } else {
                    Some(Value::from(*n))
                }
            }
            (Some("rating"), SortKey::Int(n)) => Some(Value::from(*n)),
            _ => return Err(bad_cursor()),
        };
        match (&key, value) {
            (None, _) => {
                b.push(" AND ").push(walk.id()).push(beyond).bind(after.id);
            }
            (Some(column), Some(value)) if dialect.row_values => {
                b.push(" AND (").push(column).push(", ").push(walk.id()).push(") ").push(beyond);
                b.push(" (").bind(value).push(", ").bind(after.id).push(")");
            }
            (Some(column), Some(value)) => {
                b.push(" AND ").push(column).push(beyond).push("= ").bind(value.clone());
                b.push(" AND (").push(column).push(beyond).bind(value);
                b.push(" OR ").push(walk.id()).push(beyond).bind(after.id).push(")");
            }
            // The whole range of the filter comes after the cursor.
            (Some(_), None) => {}
        }
    }
    walk.price(b, lower, upper, sort_column(sort) == Some("price_key"));
    b.push(" ORDER BY ");
    if let Some(column) = &key {
        b.push(column).push(direction).push(", ");
    }
    b.push(walk.id()).push(direction).limit(limit);
    if let Some(offset) = offset {
        b.push(" OFFSET ").bind(offset);
    }
    Ok(())
}

/// Returns the one statement of a list. Each state is a range of an index of its own; several are merged.
pub fn list_statement(
    dialect: &Dialect,
    filter: &ProductFilter,
    sort: ProductSort,
    paging: &Paging,
) -> Result<(String, Vec<Value<'static>>)> {
    let walk = Walk::new(filter);
    let limit = i64::from(paging.limit()) + 1;
    let (after, offset) = match paging {
        Paging::Offset { offset: 0, .. } => (None, None),
        Paging::Offset { offset, .. } => (None, Some(i64::try_from(*offset).unwrap_or(i64::MAX - limit))),
        Paging::Keyset { after, .. } => (after.as_ref(), None),
    };
    let direction = if sort.is_descending() { " DESC" } else { "" };
    let mut b = Builder::on(&LIST_HEAD, dialect);
    if let [state] = walk.states[..] {
        branch(&mut b, dialect, &walk, state, sort, after, (limit, offset))?;
    } else {
        b.push("SELECT id, k FROM (");
        for (i, state) in walk.states.iter().enumerate() {
            b.push(if i == 0 { "SELECT id, k FROM (" } else { " UNION ALL SELECT id, k FROM (" });
            let reach = limit.saturating_add(offset.unwrap_or(0));
            branch(&mut b, dialect, &walk, *state, sort, after, (reach, None))?;
            b.push(&format!(") s{i}"));
        }
        b.push(") u ORDER BY k").push(direction).push(", id").push(direction).limit(limit);
        if let Some(offset) = offset {
            b.push(" OFFSET ").bind(offset);
        }
    }
    b.push(&LIST_TAIL.prepared(dialect).text);
    if !dialect.joins_in_order {
        b.push(" ORDER BY page.k").push(direction).push(", p.id").push(direction).push(", s.position, s.id");
    }
    Ok(b.done())
}

/// Returns the key that the page was sorted by, from the first row of a product.
pub(super) fn page_key(rows: &[Row], id: ProductId) -> Result<i64> {
    for r in rows {
        if r.uuid(const { PRODUCTS.at("id") })? == id.0 {
            return r.i64(PAGE_KEY);
        }
    }
    Err(Error::Internal { context: "finding the end of a page", source: None })
}
