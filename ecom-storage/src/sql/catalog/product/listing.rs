//! Maintains `product_listings`, which lists by category walk, and the product counts of categories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ecom_core::catalog::{Product, ProductStatus};
use ecom_core::text::fold_key;
use ecom_core::{Entity, Result};
use uuid::Uuid;

use super::{NO_PRICE, SqlProducts, state};
use crate::sql::engine::builder::{Builder, MAX_LIST, case_size, lock_rows};
use crate::sql::engine::columns::{Column, Table};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::gone;
use crate::sql::engine::stored::Stored;
use crate::sql::engine::value::Row;

/// The parts of a product that its listings depend on.
pub(super) struct Listed {
    pub(super) product: Uuid,
    pub(super) direct: Vec<Uuid>,
    pub(super) state: i32,
    pub(super) price_key: i64,
    pub(super) rating: i64,
    pub(super) title_key: Arc<str>,
}

impl Listed {
    pub(super) fn of(p: &Product) -> Self {
        Self {
            product: p.id.0,
            direct: p.categories.iter().map(|c| c.id.0).collect(),
            state: state(p),
            price_key: p.price_range().map_or(NO_PRICE, |(lo, _)| lo.minor()),
            rating: i64::from(p.rating.mean.hundredths()),
            title_key: fold_key(&p.title).into(),
        }
    }
}

/// A row of `product_listings`.
#[derive(PartialEq, Eq)]
struct Listing {
    category: Uuid,
    product: Uuid,
    direct: bool,
    state: i32,
    price_key: i64,
    rating: i64,
    title_key: Arc<str>,
}

/// The columns of listings.
static LISTINGS: Table<Listing> = Table {
    name: "product_listings",
    entity: Entity::Product,
    columns: &[
        Column::fixed("category_id", |l| l.category.into()),
        Column::fixed("product_id", |l| l.product.into()),
        Column::fixed("direct", |l| i32::from(l.direct).into()),
        Column::fixed("state", |l| l.state.into()),
        Column::fixed("price_key", |l| l.price_key.into()),
        Column::fixed("rating", |l| l.rating.into()),
        Column::fixed("title_key", |l| (&*l.title_key).into()),
    ],
    unique: &[],
    parent: None,
};
static LISTINGS_OF: Sql = Sql::of(&LISTINGS, "SELECT {*} FROM product_listings WHERE product_id IN ");

fn read(r: &Row) -> Result<Listing> {
    Ok(Listing {
        category: r.uuid(const { LISTINGS.at("category_id") })?,
        product: r.uuid(const { LISTINGS.at("product_id") })?,
        direct: r.i32(const { LISTINGS.at("direct") })? == 1,
        state: r.i32(const { LISTINGS.at("state") })?,
        price_key: r.i64(const { LISTINGS.at("price_key") })?,
        rating: r.i64(const { LISTINGS.at("rating") })?,
        title_key: r.text(const { LISTINGS.at("title_key") })?.into(),
    })
}

/// The changes of the direct and of the whole count of a category.
type Change = (i64, i64);

/// The writes that make the listings of some products right.
pub(super) struct Listings {
    /// The products whose rows are removed first.
    replaced: Vec<Uuid>,
    rows: Vec<Listing>,
    /// The categories whose counts change, in id order.
    counts: Vec<(Uuid, Change)>,
}

fn count_listing(counts: &mut BTreeMap<Uuid, Change>, category: Uuid, l: &Listing, by: i64) {
    if l.state == ProductStatus::Active.disk() {
        let c = counts.entry(category).or_default();
        c.0 += if l.direct { by } else { 0 };
        c.1 += by;
    }
}

impl SqlProducts<'_> {
    /// Returns, for each of `categories`, itself and all categories above it.
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

    /// Makes `product_listings` and the counts of categories match `targets`.
    pub(super) async fn sync_listings(&mut self, targets: &[Listed]) -> Result<()> {
        let listings = self.plan_listings(targets, false).await?;
        self.write_listings(&listings).await
    }

    /// Returns what must be written so that `product_listings` and the counts of categories match `targets`, and locks
    /// the categories whose counts change. If `fresh`, the products have no rows yet.
    ///
    /// The locks come before every row that refers to a category. Such a row takes a shared lock of the category on
    /// MySQL, and two writes that hold one cannot both change the counts.
    pub(super) async fn plan_listings(&mut self, targets: &[Listed], fresh: bool) -> Result<Listings> {
        let mut categories: Vec<Uuid> = targets.iter().flat_map(|t| t.direct.iter().copied()).collect();
        categories.sort_unstable();
        categories.dedup();
        let above = if categories.is_empty() { HashMap::new() } else { self.ancestors(&categories).await? };
        if let Some(id) = categories.iter().find(|c| !above.contains_key(c)) {
            return Err(gone("categories", &id.to_string()));
        }
        let ids: Vec<Uuid> = targets.iter().map(|t| t.product).collect();
        let mut current: BTreeMap<(Uuid, Uuid), Listing> = BTreeMap::new();
        if !fresh {
            for chunk in ids.chunks(MAX_LIST) {
                let mut b = Builder::on(&LISTINGS_OF, self.0.dialect());
                b.list(chunk);
                let (text, args) = b.done();
                for r in self.0.fetch_all(text, args).await? {
                    let listing = read(&r)?;
                    current.insert((listing.product, listing.category), listing);
                }
            }
        }
        let mut wanted: BTreeMap<(Uuid, Uuid), Listing> = BTreeMap::new();
        for t in targets {
            for origin in &t.direct {
                for category in above.get(origin).into_iter().flatten() {
                    let direct = category == origin;
                    wanted.entry((t.product, *category)).and_modify(|l| l.direct |= direct).or_insert_with(|| {
                        Listing {
                            category: *category,
                            product: t.product,
                            direct,
                            state: t.state,
                            price_key: t.price_key,
                            rating: t.rating,
                            title_key: t.title_key.clone(),
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
        let counts: Vec<(Uuid, Change)> = counts.into_iter().collect();
        let counted: Vec<Uuid> = counts.iter().map(|(id, _)| *id).collect();
        for chunk in counted.chunks(MAX_LIST) {
            lock_rows(&mut self.0, "categories", "id", chunk).await?;
        }
        let replaced = if fresh { Vec::new() } else { ids.into_iter().filter(|id| changed.contains(id)).collect() };
        let rows = wanted.into_values().filter(|l| changed.contains(&l.product)).collect();
        Ok(Listings { replaced, rows, counts })
    }

    /// Writes listings that were planned.
    pub(super) async fn write_listings(&mut self, listings: &Listings) -> Result<()> {
        for chunk in listings.replaced.chunks(MAX_LIST) {
            let mut b = Builder::new("DELETE FROM product_listings WHERE product_id IN ");
            b.list(chunk);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        LISTINGS.insert(&mut self.0, &listings.rows).await?;
        self.move_counts(&listings.counts).await
    }

    /// Adds to the counts of categories, which are locked, and increases their revisions.
    async fn move_counts(&mut self, counts: &[(Uuid, Change)]) -> Result<()> {
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
}
