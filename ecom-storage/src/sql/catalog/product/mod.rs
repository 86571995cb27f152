//! Products: one statement reads them with SKUs and categories, and a list walks one index.

mod inspect;
mod listing;
pub(crate) mod query;

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use ecom_core::catalog::{
    CategorySummary, Image, Product, ProductFilter, ProductFilters, ProductSort, RatingSummary, Sku,
};
use ecom_core::common::{Attributes, IncludeDeleted};
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::money::Money;
use ecom_core::money::{Currency, Percentage, Rating};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::ProductRepository;
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Entity, Result};
use uuid::Uuid;

use self::listing::Listed;
use self::query::{Walk, list_statement, page_key, sort_column};
use crate::sql::catalog::sku::{self, SKUS};
use crate::sql::engine::builder::{Builder, MAX_LIST, count, lock_rows, taken};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_external};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::stored::Stored;
use crate::sql::engine::value::{Row, Value, bounded};

/// The columns of products.
pub static PRODUCTS: Table<Product> = Table {
    name: "products",
    entity: Entity::Product,
    columns: &[
        Column::fixed("id", |p| p.id.into()),
        Column::field("title", |p| Value::from(&p.title)),
        Column::derived("title_key", |p| fold_key(&p.title).into()),
        Column::field("slug", |p| p.slug.as_str().into()),
        Column::field("description", |p| p.description.as_deref().into()),
        Column::field("brand", |p| p.brand.as_deref().into()),
        Column::derived("brand_key", |p| p.brand.as_deref().map(fold_key).into()),
        Column::field("status", |p| p.status.into()),
        Column::derived("listing_state", |p| state(p).into()),
        Column::json("tags", |p| Value::json(&p.tags)),
        Column::json("images", |p| Value::json(&p.images)),
        Column::json("attributes", |p| Value::json(&p.attributes)),
        Column::field("discount", |p| p.discount.hundredths().into()),
        Column::field("warranty_information", |p| p.warranty_information.as_deref().into()),
        Column::field("shipping_information", |p| p.shipping_information.as_deref().into()),
        Column::field("rating", |p| p.rating.mean.hundredths().into()),
        Column::field("rating_count", |p| p.rating.count.into()),
        Column::field("rating_source", |p| p.rating.source.into()),
        Column::External(|p| &p.external),
        Column::derived("min_price", |p| p.price_range().map(|(lowest, _)| lowest.minor()).into()),
        Column::derived("max_price", |p| p.price_range().map(|(_, highest)| highest.minor()).into()),
        Column::derived("price_key", |p| p.price_range().map_or(NO_PRICE, |(lowest, _)| lowest.minor()).into()),
        Column::derived("availability", |p| p.availability().into()),
        Column::field("revision", |p| p.revision.into()),
        Column::Audit(|p| &p.audit),
    ],
    unique: &[
        Unique { index: "products_slug_live", columns: &["slug"], field: "slug", value: |p| Some(p.slug.to_string()) },
        Unique {
            index: "products_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |p| p.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: None,
};

/// A category of a product, and its position among them.
struct Link {
    product: ProductId,
    category: CategoryId,
    position: i32,
}

static LINKS: Table<Link> = Table {
    name: "product_categories",
    entity: Entity::Product,
    columns: &[
        Column::fixed("product_id", |l| l.product.into()),
        Column::fixed("category_id", |l| l.category.into()),
        Column::fixed("position", |l| l.position.into()),
    ],
    unique: &[],
    parent: Some(("categories", |l| Some(l.category.0))),
};

/// A tag of a product, folded to its key.
struct Tag {
    product: ProductId,
    key: String,
}

static TAGS: Table<Tag> = Table {
    name: "product_tags",
    entity: Entity::Product,
    columns: &[Column::fixed("product_id", |t| t.product.into()), Column::fixed("tag_key", |t| Value::from(&t.key))],
    unique: &[],
    parent: None,
};

/// The position of the categories in every read of products: after the product's own columns.
const CATEGORIES: usize = PRODUCTS.width();
/// The position of the SKU's columns.
const SKU: usize = CATEGORIES + 1;

static WRITES: Versioned<Product> = Versioned::new(&PRODUCTS);
static GET: Sql = Sql::over(
    &[("p", &PRODUCTS), ("s", &SKUS)],
    "SELECT {p.*}, {category_summaries}, {s.*} FROM products p \
     LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL WHERE p.id = $1 ORDER BY s.position, s.id",
);
static GET_BY_SLUG: Sql = Sql::over(
    &[("p", &PRODUCTS), ("s", &SKUS)],
    "SELECT {p.*}, {category_summaries}, {s.*} FROM products p \
     LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL \
     WHERE p.slug = $1 AND p.deleted_at IS NULL ORDER BY s.position, s.id",
);
static MANY: Sql = Sql::over(
    &[("p", &PRODUCTS), ("s", &SKUS)],
    "SELECT {p.*}, {category_summaries}, {s.*} FROM products p \
     LEFT JOIN skus s ON s.product_id = p.id AND s.deleted_at IS NULL WHERE p.id IN ",
);
static DELETE_LINKS: Sql = Sql::new("DELETE FROM product_categories WHERE product_id = $1");
static DELETE_TAGS: Sql = Sql::new("DELETE FROM product_tags WHERE product_id = $1");
static HIDE_REVIEWS: Sql = Sql::new("UPDATE reviews SET deleted_at = $2 WHERE product_id = $1");
static DELETE_REVIEWS: Sql = Sql::new("DELETE FROM reviews WHERE product_id = $1");
static DELETE_MOVEMENTS: Sql =
    Sql::new("DELETE FROM stock_movements WHERE sku_id IN (SELECT id FROM skus WHERE product_id = $1)");
static DELETE_CART_LINES: Sql =
    Sql::new("DELETE FROM cart_lines WHERE sku_id IN (SELECT id FROM skus WHERE product_id = $1)");
static DELETE_SKUS: Sql = Sql::new("DELETE FROM skus WHERE product_id = $1");
static DELETE: Sql = Sql::new("DELETE FROM products WHERE id = $1");
static IDS_IN_CATEGORY: Sql = Sql::new(
    "SELECT product_id FROM product_listings WHERE category_id = $1 AND product_id > $2 ORDER BY product_id LIMIT $3",
);
static REVISIONS: Sql = Sql::new("SELECT id, revision FROM products WHERE id > $1 ORDER BY id LIMIT $2");

/// The price key of a product without a price, which puts it last in a list by price.
const NO_PRICE: i64 = i64::MAX;
/// The listing state of a soft-deleted product; that of a live one is the number of its status.
const STATE_DELETED: i32 = 3;

/// Returns the listing state of a product.
fn state(p: &Product) -> i32 {
    if p.audit.is_live() { p.status.disk() } else { STATE_DELETED }
}

fn read_product(r: &Row, currency: Currency) -> Result<Product> {
    let mut categories: Vec<(i64, CategorySummary)> = r
        .json::<Vec<(i64, CategoryId, String, Slug, String)>>(CATEGORIES)?
        .into_iter()
        .map(|(position, id, name, slug, path)| (position, CategorySummary { id, name, slug, path }))
        .collect();
    categories.sort_by_key(|(position, _)| *position);
    let mut skus = Vec::new();
    push_sku(r, currency, &mut skus)?;
    Ok(Product {
        id: ProductId(r.uuid(const { PRODUCTS.at("id") })?),
        title: r.string(const { PRODUCTS.at("title") })?,
        slug: Slug::trusted(r.string(const { PRODUCTS.at("slug") })?),
        description: r.opt_string(const { PRODUCTS.at("description") })?,
        brand: r.opt_string(const { PRODUCTS.at("brand") })?,
        status: r.stored(const { PRODUCTS.at("status") })?,
        categories: categories.into_iter().map(|(_, c)| c).collect(),
        tags: r.json(const { PRODUCTS.at("tags") })?,
        images: r.json::<Vec<Image>>(const { PRODUCTS.at("images") })?,
        attributes: r.json::<Attributes>(const { PRODUCTS.at("attributes") })?,
        discount: bounded(Percentage::from_hundredths(r.i64(const { PRODUCTS.at("discount") })?))?,
        warranty_information: r.opt_string(const { PRODUCTS.at("warranty_information") })?,
        shipping_information: r.opt_string(const { PRODUCTS.at("shipping_information") })?,
        rating: RatingSummary {
            mean: bounded(Rating::from_hundredths(r.i64(const { PRODUCTS.at("rating") })?))?,
            count: r.i64(const { PRODUCTS.at("rating_count") })?,
            source: r.stored(const { PRODUCTS.at("rating_source") })?,
        },
        external: read_external(r, const { PRODUCTS.at("source") })?,
        skus,
        revision: r.i64(const { PRODUCTS.at("revision") })?,
        audit: read_audit(r, const { PRODUCTS.at("created_at") })?,
    })
}

fn push_sku(r: &Row, currency: Currency, to: &mut Vec<Sku>) -> Result<()> {
    if r.opt_uuid(SKU + const { SKUS.at("id") })?.is_some() {
        to.push(sku::read(r, SKU, currency)?);
    }
    Ok(())
}

/// Builds products from rows. The rows of one product must be adjacent.
fn read_products(rows: &[Row], currency: Currency) -> Result<Vec<Product>> {
    let mut out: Vec<Product> = Vec::new();
    for r in rows {
        let id = ProductId(r.uuid(const { PRODUCTS.at("id") })?);
        match out.last_mut() {
            Some(p) if p.id == id => push_sku(r, currency, &mut p.skus)?,
            _ => out.push(read_product(r, currency)?),
        }
    }
    for p in &mut out {
        // They usually come in order, but another join order must not change what callers see.
        if !p.skus.is_sorted_by_key(|s| (s.position, s.id)) {
            p.skus.sort_by_key(|s| (s.position, s.id));
        }
    }
    Ok(out)
}

/// The products of a SQL database.
pub type SqlProducts<'c> = SqlRepository<'c, dyn ProductRepository>;

impl SqlProducts<'_> {
    async fn one(&mut self, sql: &'static Sql, key: Value<'_>) -> Result<Option<Product>> {
        let rows = self.0.fetch_all(sql, vec![key]).await?;
        Ok(read_products(&rows, self.0.currency()?)?.pop())
    }

    async fn by_ids(&mut self, ids: &[ProductId], deleted: IncludeDeleted, lock: bool) -> Result<Vec<Product>> {
        let mut sorted: Vec<ProductId> = ids.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut out = Vec::with_capacity(sorted.len());
        if lock {
            if let Some(sql) = self.0.dialect().hold_tree {
                self.0.fetch_all(sql, Vec::new()).await?;
            }
            // SKUs first, as in a sale. The locks are statements of their own: a read that waits for a lock has begun
            // before the change that it waited for.
            for (table, column) in [("skus", "product_id"), ("products", "id")] {
                for chunk in sorted.chunks(MAX_LIST) {
                    lock_rows(&mut self.0, table, column, chunk).await?;
                }
            }
        }
        for chunk in sorted.chunks(MAX_LIST) {
            let mut b = Builder::on(&MANY, self.0.dialect());
            b.list(chunk);
            if deleted == IncludeDeleted::No {
                b.push(" AND p.deleted_at IS NULL");
            }
            b.push(" ORDER BY p.id, s.position, s.id");
            let (text, args) = b.done();
            let rows = self.0.fetch_all(text, args).await?;
            out.extend(read_products(&rows, self.0.currency()?)?);
        }
        Ok(out)
    }

    async fn insert_links(&mut self, products: &[&Product]) -> Result<()> {
        let links: Vec<Link> = products
            .iter()
            .flat_map(|p| {
                p.categories.iter().zip(0..).map(|(c, position)| Link { product: p.id, category: c.id, position })
            })
            .collect();
        LINKS.insert(&mut self.0, &links).await
    }

    async fn insert_tags(&mut self, products: &[&Product]) -> Result<()> {
        let tags: Vec<Tag> = products
            .iter()
            .flat_map(|p| {
                let keys: HashSet<String> = p.tags.iter().map(|t| fold_key(t)).collect();
                keys.into_iter().map(|key| Tag { product: p.id, key })
            })
            .collect();
        TAGS.insert(&mut self.0, &tags).await
    }
}

#[async_trait]
impl ProductRepository for SqlProducts<'_> {
    async fn get(&mut self, id: ProductId, deleted: IncludeDeleted) -> Result<Option<Product>> {
        let product = self.one(&GET, id.into()).await?;
        Ok(product.filter(|p| deleted == IncludeDeleted::Yes || p.audit.is_live()))
    }

    async fn get_by_slug(&mut self, slug: &str) -> Result<Option<Product>> {
        self.one(&GET_BY_SLUG, slug.into()).await
    }

    async fn get_many(&mut self, ids: &[ProductId], deleted: IncludeDeleted) -> Result<Vec<Product>> {
        self.by_ids(ids, deleted, false).await
    }

    async fn lock(&mut self, ids: &[ProductId]) -> Result<Vec<Product>> {
        self.by_ids(ids, IncludeDeleted::Yes, true).await
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
        let products = read_products(&rows, self.0.currency()?)?;
        let limit = paging.limit() as usize;
        let last = if products.len() > limit { limit.checked_sub(1).and_then(|i| products.get(i)) } else { None };
        let next = match last {
            None => None,
            Some(last) => {
                let key = match sort_column(sort) {
                    None => SortKey::Id,
                    Some("title_key") => SortKey::Text(fold_key(&last.title)),
                    // The key that the page was sorted by, from the product's first row.
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
        count(&mut self.0, bound, |b| {
            walk.from(b, false);
            walk.matching(b);
        })
        .await
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
            let currency = self.0.currency()?;
            let money = |minor| Money::from_minor(minor, currency);
            out.price = r.opt_i64(0)?.zip(r.opt_i64(1)?).map(|(lowest, highest)| (money(lowest), money(highest)));
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
        PRODUCTS.insert(&mut self.0, products).await?;
        let all: Vec<&Product> = products.iter().collect();
        let listings = self.plan_listings(&products.iter().map(Listed::of).collect::<Vec<_>>(), true).await?;
        self.insert_links(&all).await?;
        self.insert_tags(&all).await?;
        self.write_listings(&listings).await
    }

    async fn update(&mut self, before: &Product, after: &Product) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await?;
        let is_listed = !before.categories.is_empty() || !after.categories.is_empty();
        let listings = if is_listed { Some(self.plan_listings(&[Listed::of(after)], false).await?) } else { None };
        if !before.categories.iter().map(|c| c.id).eq(after.categories.iter().map(|c| c.id)) {
            self.0.execute(&DELETE_LINKS, vec![after.id.into()]).await?;
            self.insert_links(&[after]).await?;
        }
        if before.tags != after.tags {
            self.0.execute(&DELETE_TAGS, vec![after.id.into()]).await?;
            self.insert_tags(&[after]).await?;
        }
        if before.audit.deleted_at != after.audit.deleted_at {
            self.0.execute(&HIDE_REVIEWS, vec![after.id.into(), after.audit.deleted_at.into()]).await?;
        }
        match listings {
            Some(listings) => self.write_listings(&listings).await,
            None => Ok(()),
        }
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
                    title_key: r.text(4)?.into(),
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
            self.sync_listings(&targets.into_values().collect::<Vec<_>>()).await?;
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
        self.sync_listings(&[gone]).await?;
        for sql in [&DELETE_LINKS, &DELETE_TAGS, &DELETE_REVIEWS] {
            self.0.execute(sql, vec![product.id.into()]).await?;
        }
        for sql in [&DELETE_MOVEMENTS, &DELETE_CART_LINES, &DELETE_SKUS, &DELETE] {
            self.0
                .execute(sql, vec![product.id.into()])
                .await
                .map_err(|e| e.or_has_sales(Entity::Product, product.id.0))?;
        }
        Ok(())
    }
}
