//! Products: read with SKUs and categories in one statement, listed by walking one index.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use ecom_core::catalog::{
    AvailabilityStatus, CategorySummary, Image, Product, ProductFilter, ProductFilters, ProductSort, ProductStatus,
    RatingSource, RatingSummary,
};
use ecom_core::common::{Attributes, Deleted};
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::money::{Currency, Percentage, Rating};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::ProductRepository;
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Entity, Error, Result};
use uuid::Uuid;

use crate::sql::catalog::category::{
    bad_cursor, bind_audit, bind_external, category_gone, colliding, limit_over, moved_on, read_audit, read_external,
};
use crate::sql::catalog::sku;
use crate::sql::engine::builder::{Builder, MAX_LIST, case_size, insert_rows, lock_rows, taken};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::unit_of_work::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// What every read of products selects; [`read_products`] knows the places.
macro_rules! columns {
    () => {
        "p.id, p.title, p.slug, p.description, p.brand, p.status, p.tags, p.images, p.attributes, p.discount, \
         p.warranty_information, p.shipping_information, p.rating, p.rating_count, p.rating_source, p.source, \
         p.external_id, p.revision, p.created_at, p.updated_at, p.created_by, p.updated_by, p.version, p.deleted_at, \
         {category_summaries}, s.id, s.product_id, s.position, s.code, s.option_values, s.attributes, s.price, \
         s.weight, s.width, s.height, s.depth, s.on_hand, s.reserved, s.low_stock_threshold, s.barcode, s.source, \
         s.external_id, s.created_at, s.updated_at, s.created_by, s.updated_by, s.version, s.deleted_at"
    };
}
/// Where the SKU's columns start.
const SKU: usize = 25;
/// The column after the list: what a page is sorted by.
const PAGE_KEY: usize = 48;

macro_rules! with_skus {
    () => {
        " FROM products p LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL "
    };
}

static GET: Sql = Sql::new(concat!("SELECT ", columns!(), with_skus!(), "WHERE p.id = $1 ORDER BY s.position, s.id"));
static GET_BY_SLUG: Sql = Sql::new(concat!(
    "SELECT ",
    columns!(),
    with_skus!(),
    "WHERE p.slug = $1 AND p.deleted_at IS NULL ORDER BY s.position, s.id"
));
static MANY_HEAD: Sql = Sql::new(concat!("SELECT ", columns!(), with_skus!(), "WHERE p.id IN "));
static LIST_HEAD: Sql = Sql::new(concat!("SELECT ", columns!(), ", page.k FROM ("));
static LIST_TAIL: Sql = Sql::new(
    ") page {page_join} products p ON p.id = page.id \
     LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL",
);
static UPDATE: Sql = Sql::new(
    "UPDATE products SET title = $3, title_key = $4, slug = $5, description = $6, brand = $7, brand_key = $8, \
     status = $9, listing_state = $10, tags = $11, images = $12, attributes = $13, discount = $14, \
     warranty_information = $15, shipping_information = $16, rating = $17, rating_count = $18, rating_source = $19, \
     source = $20, external_id = $21, min_price = $22, max_price = $23, price_key = $24, availability = $25, \
     revision = $26, updated_at = $27, updated_by = $28, version = $29, deleted_at = $30 \
     WHERE id = $1 AND version = $2",
);
static VERSION: Sql = Sql::new("SELECT version FROM products WHERE id = $1");
static DELETE_LINKS: Sql = Sql::new("DELETE FROM product_categories WHERE product_id = $1");
static DELETE_TAGS: Sql = Sql::new("DELETE FROM product_tags WHERE product_id = $1");
static DELETE_MOVEMENTS: Sql =
    Sql::new("DELETE FROM stock_movements WHERE sku_id IN (SELECT id FROM skus WHERE product_id = $1)");
static DELETE_SKUS: Sql = Sql::new("DELETE FROM skus WHERE product_id = $1");
static DELETE: Sql = Sql::new("DELETE FROM products WHERE id = $1");
static IDS_IN_CATEGORY: Sql = Sql::new(
    "SELECT product_id FROM product_listings WHERE category_id = $1 AND product_id > $2 ORDER BY product_id LIMIT $3",
);
static REVISIONS: Sql = Sql::new("SELECT id, revision FROM products WHERE id > $1 ORDER BY id LIMIT $2");

/// The text of the read of one product, for the bench that runs it on a bare driver.
pub fn get_text(dialect: &Dialect) -> &'static str {
    &GET.prepared(dialect).text
}

/// The place in a list by price of a product without a price: the last one.
const NO_PRICE: i64 = i64::MAX;
/// The number of soft-deleted products among the states that lists walk by.
const STATE_DELETED: i32 = 3;
const STATE_ACTIVE: i32 = 1;

/// The number on disk.
fn status_number(s: ProductStatus) -> i32 {
    match s {
        ProductStatus::Draft => 0,
        ProductStatus::Active => STATE_ACTIVE,
        ProductStatus::Archived => 2,
    }
}

/// The number on disk.
pub fn availability_number(a: AvailabilityStatus) -> i32 {
    match a {
        AvailabilityStatus::OutOfStock => 0,
        AvailabilityStatus::Limited => 1,
        AvailabilityStatus::InStock => 2,
    }
}

fn state(p: &Product) -> i32 {
    if p.audit.is_live() { status_number(p.status) } else { STATE_DELETED }
}

/// A number that the schema bounds.
pub fn bounded<T>(v: std::result::Result<T, String>) -> Result<T> {
    v.map_err(|e| Error::internal("reading a row", e))
}

fn read_product(r: &Row, currency: Currency) -> Result<Product> {
    let mut categories: Vec<(i64, CategorySummary)> = r
        .json::<Vec<(i64, CategoryId, String, Slug, String)>>(24)?
        .into_iter()
        .map(|(position, id, name, slug, path)| (position, CategorySummary { id, name, slug, path }))
        .collect();
    categories.sort_by_key(|(position, _)| *position);
    Ok(Product {
        id: ProductId(r.uuid(0)?),
        title: r.string(1)?,
        slug: Slug::trusted(r.string(2)?),
        description: r.opt_string(3)?,
        brand: r.opt_string(4)?,
        status: usize::try_from(r.i32(5)?)
            .ok()
            .and_then(|n| ProductStatus::ALL.get(n).copied())
            .ok_or(Error::Internal { context: "reading a product's status", source: None })?,
        categories: categories.into_iter().map(|(_, c)| c).collect(),
        tags: r.json(6)?,
        images: r.json::<Vec<Image>>(7)?,
        attributes: r.json::<Attributes>(8)?,
        discount: bounded(Percentage::from_hundredths(r.i64(9)?))?,
        warranty_information: r.opt_string(10)?,
        shipping_information: r.opt_string(11)?,
        rating: RatingSummary {
            mean: bounded(Rating::from_hundredths(r.i64(12)?))?,
            count: r.i64(13)?,
            source: if r.i32(14)? == 1 { RatingSource::External } else { RatingSource::Reviews },
        },
        external: read_external(r, 15)?,
        skus: {
            let mut skus = Vec::new();
            push_sku(r, currency, &mut skus)?;
            skus
        },
        revision: r.i64(17)?,
        audit: read_audit(r, 18)?,
    })
}

fn push_sku(r: &Row, currency: Currency, to: &mut Vec<ecom_core::catalog::Sku>) -> Result<()> {
    if r.opt_uuid(SKU)?.is_some() {
        to.push(sku::read(r, SKU, currency)?);
    }
    Ok(())
}

/// Makes products of rows; the rows of a product stand together.
fn read_products(rows: &[Row], currency: Currency) -> Result<Vec<Product>> {
    let mut out: Vec<Product> = Vec::new();
    for r in rows {
        let id = ProductId(r.uuid(0)?);
        match out.last_mut() {
            Some(p) if p.id == id => push_sku(r, currency, &mut p.skus)?,
            _ => out.push(read_product(r, currency)?),
        }
    }
    for p in &mut out {
        // They come in order; a plan that joins in another order must not change what callers see.
        if !p.skus.is_sorted_by_key(|s| (s.position, s.id)) {
            p.skus.sort_by_key(|s| (s.position, s.id));
        }
    }
    Ok(out)
}

/// A filter as it is asked: the states to walk, and whether the walk is over a category.
struct Walk<'f> {
    filter: &'f ProductFilter,
    category: Option<CategoryId>,
    states: Vec<i32>,
}

impl<'f> Walk<'f> {
    fn new(filter: &'f ProductFilter) -> Self {
        let mut states: Vec<i32> = filter.status.map_or_else(|| vec![0, 1, 2], |s| vec![status_number(s)]);
        if filter.deleted == Deleted::Include {
            states.push(STATE_DELETED);
        }
        Self { filter, category: filter.category, states }
    }

    /// The table that is walked.
    fn alias(&self) -> &'static str {
        if self.category.is_some() { "l" } else { "p" }
    }

    fn id(&self) -> &'static str {
        if self.category.is_some() { "l.product_id" } else { "p.id" }
    }

    fn state(&self) -> &'static str {
        if self.category.is_some() { "l.state" } else { "p.listing_state" }
    }

    /// `FROM …`, with products where the filter needs them.
    fn from(&self, b: &mut Builder<'_>, with_products: bool) {
        let f = self.filter;
        let needs = with_products
            || f.brand.is_some()
            || f.availability.is_some()
            || f.updated_since.is_some()
            || (f.status.is_some() && f.deleted == Deleted::Include);
        b.push(match (self.category.is_some(), needs) {
            (false, _) => " FROM products p",
            (true, false) => " FROM product_listings l",
            (true, true) => " FROM product_listings l JOIN products p ON p.id = l.product_id",
        });
    }

    /// `WHERE …` but for the states and the bounds of the price.
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
            b.push(" AND p.availability = ").bind(availability_number(a));
        }
        if let Some(t) = f.updated_since {
            b.push(" AND p.updated_at >= ").bind(t);
        }
        if let (Some(s), Deleted::Include) = (f.status, f.deleted) {
            b.push(" AND p.status = ").bind(status_number(s));
        }
    }

    fn states_in(&self, b: &mut Builder<'_>) {
        let list: Vec<String> = self.states.iter().map(ToString::to_string).collect();
        b.push(self.state()).push(" IN (").push(&list.join(",")).push(")");
    }

    /// Bounds of the price. `walked`: they bound the walk of an index by price; else a plus keeps the planner from
    /// leaving the index of the sort for one of prices, and sorting everything that it finds there.
    fn price(&self, b: &mut Builder<'_>, lower: Option<i64>, upper: Option<i64>, walked: bool) {
        let and = if walked { " AND " } else { " AND +" };
        if let Some(min) = lower {
            b.push(and).push(self.alias()).push(".price_key >= ").bind(min);
        }
        if let Some(max) = upper {
            b.push(and).push(self.alias()).push(".price_key <= ").bind(max);
        }
    }

    /// The bounds that the filter says; what has no price is in no range.
    fn price_bounds(&self) -> (Option<i64>, Option<i64>) {
        let f = self.filter;
        let any = f.min_price.is_some() || f.max_price.is_some();
        (f.min_price, any.then(|| f.max_price.unwrap_or(NO_PRICE - 1).min(NO_PRICE - 1)))
    }

    /// Everything that matches, without order.
    fn matching(&self, b: &mut Builder<'_>) {
        b.push(" WHERE ");
        self.states_in(b);
        self.conditions(b);
        let (lower, upper) = self.price_bounds();
        self.price(b, lower, upper, true);
    }
}

/// The column that a list sorts by before the id; `None`: by id alone.
fn sort_column(sort: ProductSort) -> Option<&'static str> {
    match sort {
        ProductSort::CreatedAsc | ProductSort::CreatedDesc => None,
        ProductSort::PriceAsc | ProductSort::PriceDesc => Some("price_key"),
        ProductSort::TitleAsc | ProductSort::TitleDesc => Some("title_key"),
        ProductSort::RatingDesc => Some("rating"),
    }
}

/// One walk of one index: the ids of a page among the products in one state.
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
                // One bound on the column, so that the walk starts at the cursor and not where the filter starts.
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
            // The whole of what the filter leaves comes after the cursor.
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

/// The one statement of a list. Each state is a range of an index of its own; several are merged.
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
    let mut b = Builder::new(LIST_HEAD.prepared(dialect).text.as_str());
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

/// What lists by category derive of a product.
struct Listed {
    product: Uuid,
    direct: Vec<Uuid>,
    state: i32,
    price_key: i64,
    rating: i64,
    title_key: String,
}

impl Listed {
    fn of(p: &Product) -> Self {
        Self {
            product: p.id.0,
            direct: p.categories.iter().map(|c| c.id.0).collect(),
            state: state(p),
            price_key: p.price_range().map_or(NO_PRICE, |(lo, _)| lo.minor()),
            rating: i64::from(p.rating.mean.hundredths()),
            title_key: fold_key(&p.title),
        }
    }
}

/// A row of `product_listings`.
#[derive(PartialEq, Eq)]
struct Listing<'a> {
    product: Uuid,
    direct: bool,
    state: i32,
    price_key: i64,
    rating: i64,
    title_key: std::borrow::Cow<'a, str>,
}

type Change = (i64, i64);

fn count_listing(counts: &mut BTreeMap<Uuid, Change>, category: Uuid, l: &Listing<'_>, by: i64) {
    if l.state == STATE_ACTIVE {
        let c = counts.entry(category).or_default();
        c.0 += if l.direct { by } else { 0 };
        c.1 += by;
    }
}

/// The products of a SQL database.
pub type SqlProducts<'c> = SqlRepository<'c, dyn ProductRepository>;

impl SqlProducts<'_> {
    async fn one(&mut self, sql: &'static Sql, key: Value<'_>) -> Result<Option<Product>> {
        let rows = self.0.fetch_all(sql, vec![key]).await?;
        Ok(read_products(&rows, self.0.currency())?.pop())
    }

    async fn by_ids(&mut self, ids: &[ProductId], deleted: Deleted, lock: bool) -> Result<Vec<Product>> {
        let mut sorted: Vec<ProductId> = ids.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut out = Vec::with_capacity(sorted.len());
        if lock {
            if let Some(sql) = self.0.dialect().hold_tree {
                self.0.fetch_all(sql, Vec::new()).await?;
            }
            // SKUs first, as a sale does. In statements of their own: a read that waits for a lock has begun before
            // what it waited for.
            for (table, column) in [("skus", "product_id"), ("products", "id")] {
                for chunk in sorted.chunks(MAX_LIST) {
                    lock_rows(&mut self.0, table, column, chunk).await?;
                }
            }
        }
        for chunk in sorted.chunks(MAX_LIST) {
            let dialect = self.0.dialect();
            let mut b = Builder::new(MANY_HEAD.prepared(dialect).text.as_str());
            b.list(chunk);
            if deleted == Deleted::Hide {
                b.push(" AND p.deleted_at IS NULL");
            }
            b.push(" ORDER BY p.id, s.position, s.id");
            let (text, args) = b.done();
            let rows = self.0.fetch_all(text, args).await?;
            out.extend(read_products(&rows, self.0.currency())?);
        }
        Ok(out)
    }

    /// For each of `categories` itself and everything above it.
    async fn ancestors(&mut self, categories: &[Uuid]) -> Result<HashMap<Uuid, Vec<Uuid>>> {
        let mut out: HashMap<Uuid, Vec<Uuid>> = HashMap::with_capacity(categories.len());
        for chunk in categories.chunks(MAX_LIST) {
            let mut b = Builder::new(
                "WITH RECURSIVE up (origin, id, parent_id) AS (SELECT id, id, parent_id FROM categories WHERE id IN ",
            );
            b.list(chunk).push(
                " UNION ALL SELECT up.origin, c.id, c.parent_id FROM up JOIN categories c ON c.id = up.parent_id) \
                 SELECT origin, id FROM up",
            );
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                out.entry(r.uuid(0)?).or_default().push(r.uuid(1)?);
            }
        }
        Ok(out)
    }

    /// Makes `product_listings` and the counts of categories what `targets` say. `fresh`: they have no rows yet.
    async fn sync_listings(&mut self, targets: &[Listed], fresh: bool) -> Result<()> {
        let mut categories: Vec<Uuid> = targets.iter().flat_map(|t| t.direct.iter().copied()).collect();
        categories.sort_unstable();
        categories.dedup();
        let above = if categories.is_empty() { HashMap::new() } else { self.ancestors(&categories).await? };
        if let Some(id) = categories.iter().find(|c| !above.contains_key(c)) {
            return Err(category_gone(*id));
        }
        let ids: Vec<Uuid> = targets.iter().map(|t| t.product).collect();
        let mut current: BTreeMap<(Uuid, Uuid), Listing<'static>> = BTreeMap::new();
        if !fresh {
            for chunk in ids.chunks(MAX_LIST) {
                let mut b = Builder::new(
                    "SELECT product_id, category_id, direct, state, price_key, rating, title_key \
                     FROM product_listings WHERE product_id IN ",
                );
                b.list(chunk);
                let (text, args) = b.done();
                for r in self.0.fetch_all(text, args).await? {
                    let listing = Listing {
                        product: r.uuid(0)?,
                        direct: r.i32(2)? == 1,
                        state: r.i32(3)?,
                        price_key: r.i64(4)?,
                        rating: r.i64(5)?,
                        title_key: r.string(6)?.into(),
                    };
                    current.insert((listing.product, r.uuid(1)?), listing);
                }
            }
        }
        let mut wanted: BTreeMap<(Uuid, Uuid), Listing<'_>> = BTreeMap::new();
        for t in targets {
            for origin in &t.direct {
                for category in above.get(origin).into_iter().flatten() {
                    let direct = category == origin;
                    wanted.entry((t.product, *category)).and_modify(|l| l.direct |= direct).or_insert_with(|| {
                        Listing {
                            product: t.product,
                            direct,
                            state: t.state,
                            price_key: t.price_key,
                            rating: t.rating,
                            title_key: t.title_key.as_str().into(),
                        }
                    });
                }
            }
        }
        let mut counts: BTreeMap<Uuid, Change> = BTreeMap::new();
        let mut changed: HashSet<Uuid> = HashSet::new();
        for (key, l) in &current {
            if wanted.get(key) != Some(l) {
                changed.insert(key.0);
            }
            count_listing(&mut counts, key.1, l, -1);
        }
        for (key, l) in &wanted {
            if current.get(key) != Some(l) {
                changed.insert(key.0);
            }
            count_listing(&mut counts, key.1, l, 1);
        }
        counts.retain(|_, c| *c != (0, 0));
        if !fresh {
            let with_rows: Vec<Uuid> = ids.iter().copied().filter(|id| changed.contains(id)).collect();
            for chunk in with_rows.chunks(MAX_LIST) {
                let mut b = Builder::new("DELETE FROM product_listings WHERE product_id IN ");
                b.list(chunk);
                let (text, args) = b.done();
                self.0.execute(text, args).await?;
            }
        }
        let rows: Vec<(&(Uuid, Uuid), &Listing<'_>)> =
            wanted.iter().filter(|((product, _), _)| changed.contains(product)).collect();
        insert_rows(
            &mut self.0,
            "INSERT INTO product_listings (category_id, product_id, direct, state, price_key, rating, title_key)",
            7,
            &rows,
            |((product, category), l), to| {
                to.extend([
                    (*category).into(),
                    (*product).into(),
                    i32::from(l.direct).into(),
                    l.state.into(),
                    l.price_key.into(),
                    l.rating.into(),
                    l.title_key.as_ref().into(),
                ]);
                Ok(())
            },
        )
        .await??;
        self.move_counts(&counts.into_iter().collect::<Vec<_>>()).await
    }

    /// Adds to the counts of categories and moves their revisions, in id order.
    async fn move_counts(&mut self, counts: &[(Uuid, Change)]) -> Result<()> {
        if counts.len() > 1 {
            let ids: Vec<Uuid> = counts.iter().map(|(id, _)| *id).collect();
            for chunk in ids.chunks(MAX_LIST) {
                lock_rows(&mut self.0, "categories", "id", chunk).await?;
            }
        }
        for chunk in counts.chunks(128) {
            let padded: Vec<&(Uuid, Change)> =
                (0..case_size(chunk.len())).filter_map(|i| chunk.get(i).or(chunk.last())).collect();
            let mut b = Builder::new("UPDATE categories SET revision = revision + 1, product_count = product_count");
            b.push(" + CASE id");
            for (id, (direct, _)) in &padded {
                b.push(" WHEN ").bind(*id).push(" THEN ").bind(*direct);
            }
            b.push(" ELSE 0 END, subtree_product_count = subtree_product_count + CASE id");
            for (id, (_, subtree)) in &padded {
                b.push(" WHEN ").bind(*id).push(" THEN ").bind(*subtree);
            }
            b.push(" ELSE 0 END WHERE id IN ").list(&chunk.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn insert_links(&mut self, products: &[&Product]) -> Result<()> {
        let links: Vec<(ProductId, usize, CategoryId)> =
            products.iter().flat_map(|p| p.categories.iter().enumerate().map(|(i, c)| (p.id, i, c.id))).collect();
        insert_rows(
            &mut self.0,
            "INSERT INTO product_categories (product_id, category_id, position)",
            3,
            &links,
            |(product, position, category), to| {
                let position = i32::try_from(*position).unwrap_or(i32::MAX);
                to.extend([(*product).into(), (*category).into(), position.into()]);
                Ok(())
            },
        )
        .await?
        .map_err(|e| e.or_reference("categories", || first_ids(links.iter().map(|l| l.2.0))))
    }

    async fn insert_tags(&mut self, products: &[&Product]) -> Result<()> {
        let tags: Vec<(ProductId, String)> = products
            .iter()
            .flat_map(|p| {
                let keys: HashSet<String> = p.tags.iter().map(|t| fold_key(t)).collect();
                keys.into_iter().map(|k| (p.id, k))
            })
            .collect();
        insert_rows(&mut self.0, "INSERT INTO product_tags (product_id, tag_key)", 2, &tags, |(product, key), to| {
            to.extend([(*product).into(), Value::from(key)]);
            Ok(())
        })
        .await??;
        Ok(())
    }
}

/// The first few of the ids, for a message.
fn first_ids(ids: impl Iterator<Item = Uuid>) -> String {
    ids.take(5).map(|i| i.to_string()).collect::<Vec<_>>().join("`, `")
}

/// What of a product a unique index holds.
fn unique_value(p: &Product, field: &str) -> Option<String> {
    match field {
        "slug" => Some(p.slug.to_string()),
        "external_id" => p.external.as_ref().map(|e| e.external_id.clone()),
        _ => None,
    }
}

/// The columns that insert and update write, from the title to the availability.
fn bind_product<'q>(p: &'q Product, to: &mut Vec<Value<'q>>) -> Result<()> {
    let price = p.price_range().map(|(lo, hi)| (lo.minor(), hi.minor()));
    to.extend([
        Value::from(&p.title),
        fold_key(&p.title).into(),
        p.slug.as_str().into(),
        p.description.as_deref().into(),
        p.brand.as_deref().into(),
        p.brand.as_deref().map(fold_key).into(),
        status_number(p.status).into(),
        state(p).into(),
        Value::json(&p.tags)?,
        Value::json(&p.images)?,
        Value::json(&p.attributes)?,
        p.discount.hundredths().into(),
        p.warranty_information.as_deref().into(),
        p.shipping_information.as_deref().into(),
        p.rating.mean.hundredths().into(),
        p.rating.count.into(),
        i32::from(p.rating.source == RatingSource::External).into(),
    ]);
    bind_external(p.external.as_ref(), to);
    to.extend([
        price.map(|p| p.0).into(),
        price.map(|p| p.1).into(),
        price.map_or(NO_PRICE, |p| p.0).into(),
        availability_number(p.availability()).into(),
        p.revision.into(),
    ]);
    Ok(())
}

#[async_trait]
impl ProductRepository for SqlProducts<'_> {
    async fn get(&mut self, id: ProductId, deleted: Deleted) -> Result<Option<Product>> {
        let product = self.one(&GET, id.into()).await?;
        Ok(product.filter(|p| deleted == Deleted::Include || p.audit.is_live()))
    }

    async fn get_by_slug(&mut self, slug: &str) -> Result<Option<Product>> {
        self.one(&GET_BY_SLUG, slug.into()).await
    }

    async fn get_many(&mut self, ids: &[ProductId], deleted: Deleted) -> Result<Vec<Product>> {
        self.by_ids(ids, deleted, false).await
    }

    async fn lock(&mut self, ids: &[ProductId]) -> Result<Vec<Product>> {
        self.by_ids(ids, Deleted::Include, true).await
    }

    async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<(String, ProductId)>> {
        let mut out = Vec::with_capacity(external_ids.len());
        for chunk in external_ids.chunks(MAX_LIST) {
            let mut b = Builder::new("SELECT external_id, id FROM products WHERE source = ");
            b.bind(source).push(" AND external_id IN ").list(&chunk.iter().collect::<Vec<_>>());
            b.push(" ORDER BY external_id, id");
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                out.push((r.string(0)?, ProductId(r.uuid(1)?)));
            }
        }
        Ok(out)
    }

    async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        taken(&mut self.0, "products", "slug", bases).await
    }

    async fn list(&mut self, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Result<Page<Product>> {
        let (text, args) = list_statement(self.0.dialect(), filter, sort, paging)?;
        let rows = self.0.fetch_all(text, args).await?;
        let products = read_products(&rows, self.0.currency())?;
        let limit = paging.limit() as usize;
        let last = if products.len() > limit { limit.checked_sub(1).and_then(|i| products.get(i)) } else { None };
        let next = match last {
            None => None,
            Some(last) => {
                let key = match sort_column(sort) {
                    None => SortKey::Id,
                    Some("title_key") => SortKey::Text(fold_key(&last.title)),
                    // The key as it was sorted by, from the product's first row.
                    Some(_) => SortKey::Int(page_key(&rows, last.id)?),
                };
                Some(Keyset { sort: sort.as_str().to_owned(), key, id: last.id.0 })
            }
        };
        let mut items = products;
        items.truncate(limit);
        Ok(Page { items, next })
    }

    async fn count(&mut self, filter: &ProductFilter, bound: u64) -> Result<Total> {
        let walk = Walk::new(filter);
        let mut b = Builder::new("SELECT COUNT(*) FROM (SELECT 1");
        walk.from(&mut b, false);
        walk.matching(&mut b);
        b.limit(limit_over(bound)).push(") counted");
        let (text, args) = b.done();
        let row = self.0.fetch_optional(text, args).await?;
        Ok(Total::bounded(row.map_or(Ok(0), |r| r.count(0))?, bound))
    }

    async fn filters(&mut self, filter: &ProductFilter) -> Result<ProductFilters> {
        let walk = Walk::new(filter);
        let mut out = ProductFilters::default();

        let mut b = Builder::new(
            "SELECT c.id, c.name, c.slug, c.path, m.n FROM (SELECT pc.category_id AS category_id, COUNT(*) AS n \
             FROM (SELECT ",
        );
        b.push(walk.id()).push(" AS id");
        walk.from(&mut b, false);
        walk.matching(&mut b);
        b.push(
            ") found JOIN product_categories pc ON pc.product_id = found.id GROUP BY pc.category_id) m \
             JOIN categories c ON c.id = m.category_id ORDER BY m.n DESC, c.path, c.id LIMIT 100",
        );
        let (text, args) = b.done();
        for r in self.0.fetch_all(text, args).await? {
            let category = CategorySummary {
                id: CategoryId(r.uuid(0)?),
                name: r.string(1)?,
                slug: Slug::trusted(r.string(2)?),
                path: r.string(3)?,
            };
            out.categories.push((category, r.count(4)?));
        }

        let mut b = Builder::new("SELECT MIN(p.brand), COUNT(*)");
        walk.from(&mut b, true);
        walk.matching(&mut b);
        b.push(" AND p.brand_key IS NOT NULL GROUP BY p.brand_key ORDER BY COUNT(*) DESC, p.brand_key LIMIT 100");
        let (text, args) = b.done();
        for r in self.0.fetch_all(text, args).await? {
            out.brands.push((r.string(0)?, r.count(1)?));
        }

        let price = format!("{}.price_key", walk.alias());
        let mut b = Builder::new(format!("SELECT MIN({price}), MAX({price})"));
        walk.from(&mut b, false);
        walk.matching(&mut b);
        b.push(" AND ").push(&price).push(" < ").bind(NO_PRICE);
        let (text, args) = b.done();
        if let Some(r) = self.0.fetch_optional(text, args).await? {
            out.price = r.opt_i64(0)?.zip(r.opt_i64(1)?);
        }
        Ok(out)
    }

    async fn ids_in_category(
        &mut self,
        category: CategoryId,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<ProductId>> {
        let after = after.map_or(Uuid::nil(), |a| a.0);
        let args = vec![category.into(), after.into(), i64::from(limit).into()];
        self.0.fetch_all(&IDS_IN_CATEGORY, args).await?.iter().map(|r| r.uuid(0).map(ProductId)).collect()
    }

    async fn revisions(&mut self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        let after = after.map_or(Uuid::nil(), |a| a.0);
        let rows = self.0.fetch_all(&REVISIONS, vec![after.into(), i64::from(limit).into()]).await?;
        rows.iter().map(|r| Ok((ProductId(r.uuid(0)?), r.i64(1)?))).collect()
    }

    async fn insert(&mut self, products: &[Product]) -> Result<()> {
        let head = "INSERT INTO products (id, title, title_key, slug, description, brand, brand_key, status, \
                    listing_state, tags, images, attributes, discount, warranty_information, shipping_information, \
                    rating, rating_count, rating_source, source, external_id, min_price, max_price, price_key, \
                    availability, revision, created_at, updated_at, created_by, updated_by, version, deleted_at)";
        insert_rows(&mut self.0, head, 31, products, |p, to| {
            to.push(p.id.into());
            bind_product(p, to)?;
            bind_audit(&p.audit, to);
            Ok(())
        })
        .await?
        .map_err(|e| e.or_duplicate(|field| colliding(products, |p| unique_value(p, field))))?;
        let all: Vec<&Product> = products.iter().collect();
        self.insert_links(&all).await?;
        self.insert_tags(&all).await?;
        self.sync_listings(&products.iter().map(Listed::of).collect::<Vec<_>>(), true).await
    }

    async fn update(&mut self, before: &Product, after: &Product) -> Result<()> {
        let mut args = vec![before.id.into(), before.audit.version.into()];
        bind_product(after, &mut args)?;
        args.extend([
            after.audit.updated_at.into(),
            after.audit.updated_by.as_str().into(),
            after.audit.version.into(),
            after.audit.deleted_at.into(),
        ]);
        let changed =
            self.0.execute(&UPDATE, args).await.map_err(|e| e.or_duplicate(|field| unique_value(after, field)))?;
        if changed == 0 {
            return Err(moved_on(&mut self.0, &VERSION, Entity::Product, before.id.0, before.audit.version).await?);
        }
        if !before.categories.iter().map(|c| c.id).eq(after.categories.iter().map(|c| c.id)) {
            self.0.execute(&DELETE_LINKS, vec![after.id.into()]).await?;
            self.insert_links(&[after]).await?;
        }
        if before.tags != after.tags {
            self.0.execute(&DELETE_TAGS, vec![after.id.into()]).await?;
            self.insert_tags(&[after]).await?;
        }
        if before.categories.is_empty() && after.categories.is_empty() {
            return Ok(());
        }
        self.sync_listings(&[Listed::of(after)], false).await
    }

    async fn refresh_categories(&mut self, ids: &[ProductId]) -> Result<()> {
        for chunk in ids.chunks(MAX_LIST) {
            let mut targets: BTreeMap<Uuid, Listed> = BTreeMap::new();
            let mut b =
                Builder::new("SELECT id, listing_state, price_key, rating, title_key FROM products WHERE id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                let listed = Listed {
                    product: r.uuid(0)?,
                    direct: Vec::new(),
                    state: r.i32(1)?,
                    price_key: r.i64(2)?,
                    rating: r.i64(3)?,
                    title_key: r.string(4)?,
                };
                targets.insert(listed.product, listed);
            }
            let mut b = Builder::new("SELECT product_id, category_id FROM product_categories WHERE product_id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            for r in self.0.fetch_all(text, args).await? {
                if let Some(t) = targets.get_mut(&r.uuid(0)?) {
                    t.direct.push(r.uuid(1)?);
                }
            }
            self.sync_listings(&targets.into_values().collect::<Vec<_>>(), false).await?;
            let mut b = Builder::new("UPDATE products SET revision = revision + 1 WHERE id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn purge(&mut self, product: &Product) -> Result<()> {
        let mut gone = Listed::of(product);
        gone.direct.clear();
        self.sync_listings(&[gone], false).await?;
        for sql in [&DELETE_LINKS, &DELETE_TAGS] {
            self.0.execute(sql, vec![product.id.into()]).await?;
        }
        for sql in [&DELETE_MOVEMENTS, &DELETE_SKUS, &DELETE] {
            self.0
                .execute(sql, vec![product.id.into()])
                .await
                .map_err(|e| sku::or_has_sales(e, Entity::Product, product.id.0))?;
        }
        Ok(())
    }
}

/// What the page was sorted by in the first row of a product.
fn page_key(rows: &[Row], id: ProductId) -> Result<i64> {
    for r in rows {
        if r.uuid(0)? == id.0 {
            return r.i64(PAGE_KEY);
        }
    }
    Err(Error::Internal { context: "finding the end of a page", source: None })
}
