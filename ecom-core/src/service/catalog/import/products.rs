//! Imports products: writes records as rows, one batch per unit of work.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::Category;
use crate::domain::catalog::product::{Product, ProductValues};
use crate::domain::catalog::sku::{Sku, SkuValues, check_untracked};
use crate::domain::common::{Attributes, Audit, IncludeDeleted};
use crate::domain::stock::inventory::StockReason;
use crate::error::{CatalogConflict, Conflict, Entity, Error, Result, ValidationErrors, WithCauses};
use crate::id::{CategoryId, ProductId};
use crate::port::storage::Repositories;
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::import::batch::{BatchWriter, Outcome, Written, in_batches};
use crate::service::catalog::import::category_paths::{CategoryPaths, Parent};
use crate::service::catalog::import::record::Candidate;
use crate::service::catalog::import::{
    BATCH, BULK_BATCH, FIRST_BATCH, ImportKind, ImportOptions, ImportReport, ImportService, ProductRecord,
    RecordSource, Rejection, Run, patiently, stream,
};
use crate::service::catalog::product::{ProductService, duplicate};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;
use crate::text::{Slug, fold_key};

/// Fields of DummyJSON's products that say nothing new: the shop derives the availability and counts the reviews, and
/// has its own times.
const DERIVED: &[&str] = &["availabilityStatus", "meta.createdAt", "meta.updatedAt", "meta.qrCode", "reviews[]"];

/// The product that a record is written to.
enum Target {
    Insert,
    Update(Box<Product>),
    Rejected(Rejection),
}

impl ImportService<'_> {
    /// Imports product documents, in DummyJSON's format or our own ([`ProductRecord`]), or a table: see
    /// [`ImportFormat`](crate::catalog::ImportFormat). A source of JSON is an array, an object with a `products` array,
    /// one object, or NDJSON.
    ///
    /// A record is recognized by its external id, else by its SKU codes. A product whose values agree with the record
    /// is not written at all. A record that is out of bounds or conflicts with the shop goes to the dead letters. Each
    /// batch is one unit of work; if a record makes a batch fail, its halves are written separately, and so on until
    /// the record is alone. The import keeps in memory one batch, up to 1 MiB of the records that follow it, and 16
    /// bytes for each record of the source, to find records that the source contains twice.
    ///
    /// `on_progress` is called after each batch.
    ///
    /// # Errors
    /// `Unavailable` if the database stays unavailable for several tries; what was reported until then stays written.
    /// `Validation` for options that cannot work. `Internal` if dead letters cannot be written.
    pub async fn products<R: Read + Send + 'static>(
        &self,
        source: R,
        options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        let records = self.records(ImportKind::Products, source, &options);
        self.products_from(records, options, on_progress).await
    }

    /// Imports products as [`Self::products`] does, from a [`RecordSource`]. It ignores the `format` of the options.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn products_from(
        &self,
        records: Box<dyn RecordSource>,
        mut options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        self.allow(ImportKind::Products, &options)?;
        let currency = self.cx.config.currency;
        let named = options.source.clone();
        let check = move |record: ProductRecord| record.check(named.as_deref(), currency);
        let size = match options.batch {
            Some(size) => size,
            None if options.bulk => BULK_BATCH,
            None if self.has_products().await? => BATCH,
            None => FIRST_BATCH,
        };
        let mut incoming = stream(records, &mut options, size, DERIVED, check);
        let cx = &self.begin(ImportKind::Products, &options);
        let create_categories = options.create_categories;
        let defers = options.bulk && !options.dry_run;
        let writer = Writer { cx, who: self.who, create_categories };
        let mut run = Run::new(&incoming, options, on_progress);
        if defers && let Err(error) = patiently(|| self.cx.storage.defer_indexes()).await {
            // Perhaps the user of the database may not change the schema.
            tracing::warn!(error = %WithCauses(&error), "an import in bulk keeps the indexes, so that it takes longer");
        }
        let written = in_batches(&writer, &mut incoming, size, &mut run).await;
        if defers {
            let restored = patiently(|| self.cx.storage.restore_indexes()).await;
            run.ended();
            if let (Err(_), Err(error)) = (&written, &restored) {
                tracing::warn!(
                    error = %WithCauses(error),
                    "indexes that an import in bulk has dropped are missing, so that lists take longer; the next process \
                     that starts tries again to create them"
                );
            }
            written.and(restored)?;
        } else {
            written?;
        }
        Ok(run.report)
    }

    /// Returns whether the shop has products, soft-deleted ones included.
    async fn has_products(&self) -> Result<bool> {
        let look = || async { self.cx.storage.connect().await?.products().revisions(None, 1).await };
        Ok(!patiently(look).await?.is_empty())
    }
}

struct Writer<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
    create_categories: bool,
}

#[async_trait]
impl BatchWriter for Writer<'_> {
    type Candidate = Candidate;

    fn context(&self) -> &Arc<Context> {
        self.cx
    }

    fn key(c: &Candidate) -> (&'static str, String) {
        match &c.values.external {
            Some(x) => ("external_id", format!("x\0{}\0{}", x.source, x.external_id)),
            None => ("sku", format!("c\0{}", c.codes.first().map_or("", String::as_str))),
        }
    }

    fn codes(c: &Candidate) -> &[String] {
        &c.codes
    }

    async fn write_in(&self, tx: &mut Tx<'_>, candidates: &[Candidate]) -> Result<Written> {
        let mut targets = self.targets(tx, candidates).await?;
        let references = || candidates.iter().flat_map(|c| &c.values.categories);
        // The first read finds out whether categories must be created. It is repeated once the tree cannot change any
        // more.
        let mut paths = CategoryPaths::load(tx, references()).await?;
        let locks = self.create_categories && paths.has_missing();
        if locks {
            tx.categories().lock_tree().await?;
        } else {
            tx.categories().hold_tree().await?;
        }
        paths = CategoryPaths::load(tx, references()).await?;
        let creates = self.create_categories && paths.has_missing();
        if creates && !locks {
            // A category was deleted after the first read.
            tx.categories().lock_tree().await?;
            paths = CategoryPaths::load(tx, references()).await?;
        }
        let mut categories_created = Vec::new();
        if creates {
            let accepted = candidates.iter().zip(&targets).filter(|(_, t)| !matches!(t, Target::Rejected(_)));
            categories_created = self.make_categories(tx, accepted.map(|(c, _)| c), &paths).await?;
            if !categories_created.is_empty() {
                paths = CategoryPaths::load(tx, references()).await?;
            }
        }
        let found = |c: &Candidate| paths.found(&c.values.categories);
        let candidates = if candidates.iter().any(|c| found(c).is_some()) {
            let mut moved = candidates.to_vec();
            for c in &mut moved {
                c.values.categories = found(c).unwrap_or_else(|| std::mem::take(&mut c.values.categories));
            }
            Cow::Owned(moved)
        } else {
            Cow::Borrowed(candidates)
        };

        let mut outcomes = Vec::with_capacity(candidates.len());
        let mut inserts = Vec::new();
        let mut updates = Vec::new();
        for (c, target) in candidates.iter().zip(&mut targets) {
            let target = std::mem::replace(target, Target::Insert);
            outcomes.push(match (target, paths.resolver.resolve(&c.values.categories)) {
                (Target::Rejected(why), _) => Outcome::Rejected(why),
                (_, Err(e)) => Outcome::Rejected(Rejection::from(&e)),
                (Target::Insert, Ok(_)) => {
                    inserts.push(c.values.clone());
                    Outcome::Inserted
                }
                (Target::Update(before), Ok(categories)) => {
                    let same_place = !c.categories_said
                        || categories.iter().map(|c| c.id).eq(before.categories.iter().map(|c| c.id));
                    if same_place && is_same(&c.over(&before), &before) {
                        Outcome::Unchanged
                    } else {
                        updates.push((c, before.id));
                        Outcome::Updated
                    }
                }
            });
        }
        let products = ProductService::new(self.cx, self.who);
        let ids: Vec<ProductId> = updates.iter().map(|(_, id)| *id).collect();
        let locked: HashMap<ProductId, Product> = if ids.is_empty() {
            HashMap::new()
        } else {
            tx.products().lock(&ids).await?.into_iter().map(|p| (p.id, p)).collect()
        };
        for (c, id) in updates {
            let before =
                locked.get(&id).filter(|p| p.audit.is_live()).ok_or_else(|| Error::not_found(Entity::Product, id))?;
            products.update_in(tx, before, c.over(before), StockReason::Import).await?;
        }
        if !inserts.is_empty() {
            products.insert_in(tx, inserts).await?;
        }
        Ok(Written { outcomes, categories_created })
    }
}

impl Writer<'_> {
    /// Returns the product of each record: by external id, else by SKU code.
    async fn targets(&self, tx: &mut dyn Repositories, candidates: &[Candidate]) -> Result<Vec<Target>> {
        let mut by_source: HashMap<&str, Vec<String>> = HashMap::new();
        for x in candidates.iter().filter_map(|c| c.values.external.as_ref()) {
            by_source.entry(&x.source).or_default().push(x.external_id.clone());
        }
        let mut external: HashMap<(&str, String), ProductId> = HashMap::new();
        for (source, ids) in by_source {
            let found = tx.products().find_by_external(source, &ids).await?;
            external.extend(found.into_iter().map(|(id, product)| ((source, id), product)));
        }
        let codes: Vec<String> = candidates.iter().flat_map(|c| c.codes.iter().cloned()).collect();
        let owners: HashMap<String, ProductId> = if codes.is_empty() {
            HashMap::new()
        } else {
            tx.skus().find_by_codes(&codes).await?.into_iter().map(|(code, _, product)| (code, product)).collect()
        };
        let ids: HashSet<ProductId> = external.values().chain(owners.values()).copied().collect();
        let ids: Vec<ProductId> = ids.into_iter().collect();
        let known: HashMap<ProductId, Product> = if ids.is_empty() {
            HashMap::new()
        } else {
            tx.products().get_many(&ids, IncludeDeleted::Yes).await?.into_iter().map(|p| (p.id, p)).collect()
        };

        let mut taken: HashSet<ProductId> = HashSet::new();
        let mut claimed: HashSet<&str> = HashSet::new();
        let mut targets = Vec::with_capacity(candidates.len());
        for c in candidates {
            let own = c
                .values
                .external
                .as_ref()
                .filter(|_| !external.is_empty())
                .and_then(|x| external.get(&(x.source.as_str(), x.external_id.clone())))
                .or_else(|| {
                    // A record does not take over a product of another record, of the same system or another.
                    let owner = c.codes.iter().find_map(|code| owners.get(code))?;
                    let free = c.values.external.is_none() || known.get(owner)?.external.is_none();
                    free.then_some(owner)
                });
            let foreign = c.codes.iter().find(|code| {
                claimed.contains(code.as_str()) || owners.get(*code).is_some_and(|owner| Some(owner) != own)
            });
            let target = if let Some(code) = foreign {
                Target::Rejected(Rejection::from(&duplicate(Entity::Sku, "code", code.as_str())))
            } else {
                match own.map(|id| (*id, known.get(id))) {
                    None | Some((_, None)) => match c.check_stock(None) {
                        Err(e) => Target::Rejected(Rejection::from(&e)),
                        Ok(()) => Target::Insert,
                    },
                    Some((id, Some(before))) => match refused(c, before) {
                        Some(e) => Target::Rejected(Rejection::from(&e)),
                        None if !taken.insert(id) => Target::Rejected(Rejection::from(&duplicate(
                            Entity::Product,
                            "external_id",
                            id.to_string(),
                        ))),
                        None => Target::Update(Box::new(before.clone())),
                    },
                }
            };
            if !matches!(target, Target::Rejected(_)) {
                claimed.extend(c.codes.iter().map(String::as_str));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// Creates the categories that records name and that do not exist, with their missing ancestors. A category is left
    /// out if both slugs that it could have are taken elsewhere in the tree. Returns the paths of the created ones.
    async fn make_categories(
        &self,
        tx: &mut Tx<'_>,
        records: impl Iterator<Item = &Candidate> + Clone,
        paths: &CategoryPaths,
    ) -> Result<Vec<String>> {
        let references = records.clone().flat_map(|c| &c.values.categories).map(String::as_str);
        let missing = CategoryPaths::missing(tx, &references.filter(|r| paths.is_missing(r)).collect()).await?;
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let mut names: HashMap<&str, &str> = HashMap::new();
        for (path, name) in records.flat_map(|c| &c.category_names) {
            names.entry(path).or_insert(name);
        }
        let now = self.cx.now();
        let mut ids: HashMap<&str, CategoryId> = HashMap::new();
        let mut made = Vec::with_capacity(missing.len());
        for m in &missing {
            let id = CategoryId(self.cx.ids.next());
            ids.insert(&m.named, id);
            let parent_id = m.parent.as_ref().and_then(|parent| match parent {
                Parent::Existing(id) => Some(*id),
                Parent::Missing(path) => ids.get(path.as_str()).copied(),
            });
            made.push(Category {
                id,
                name: names.get(m.named.as_str()).map_or_else(|| name_of(&m.named), |name| (*name).to_owned()),
                slug: Slug::trusted(m.slug.clone()),
                parent_id,
                path: m.path.clone(),
                description: None,
                attributes: Attributes::default(),
                external: None,
                product_count: 0,
                subtree_product_count: 0,
                revision: 1,
                audit: Audit::created(now, self.who.actor()),
            });
        }
        CategoryService::new(self.cx, self.who).insert_in(tx, &made).await?;
        Ok(made.into_iter().map(|c| c.path).collect())
    }
}

/// Returns why a record cannot be written over a product, if it cannot.
fn refused(c: &Candidate, before: &Product) -> Option<Error> {
    if !before.audit.is_live() {
        let message = format!("product {} is deleted: restore it or delete it permanently first", before.id);
        return Some(Conflict::State { message }.into());
    }
    if c.values.flat && before.skus.len() > 1 {
        let conflict = CatalogConflict::FlatWrite { product: before.id.0, skus: before.skus.len(), field: "price" };
        return Some(conflict.into());
    }
    c.check_stock(Some(before)).err()
}

impl Candidate {
    /// Returns the values that replace a product. Fields that the record leaves out stay as they are.
    fn over(&self, before: &Product) -> ProductValues {
        let mut v = self.values.clone();
        if !self.status_said {
            v.status = before.status;
        }
        if !self.slug_said {
            v.slug = Some(before.slug.clone());
        }
        if !self.categories_said {
            v.categories = before.categories.iter().map(|c| c.id.to_string()).collect();
        }
        for ((_, sku), said) in v.skus.iter_mut().flatten().zip(&self.skus_said) {
            let Some(old) = self.replaced(sku, before) else { continue };
            if !said.low_stock_threshold {
                sku.low_stock_threshold = old.low_stock_threshold;
            }
            if !said.track_stock {
                sku.track_stock = old.track_stock;
            }
        }
        v
    }

    /// Returns the SKU of a product that a SKU of the record replaces.
    fn replaced<'p>(&self, sku: &SkuValues, before: &'p Product) -> Option<&'p Sku> {
        let only = before.skus.len() == 1 && self.values.skus.as_ref().is_some_and(|s| s.len() == 1);
        match sku.code.as_deref().map(fold_key) {
            Some(key) => before.skus.iter().find(|s| fold_key(&s.code) == key),
            None => before.skus.first().filter(|_| only),
        }
    }

    /// Refuses a record that changes the stock of a SKU that does not track it. `before` is the product that the record
    /// replaces.
    fn check_stock(&self, before: Option<&Product>) -> Result<()> {
        let mut errors = ValidationErrors::default();
        for (i, ((_, sku), said)) in self.values.skus.iter().flatten().zip(&self.skus_said).enumerate() {
            let old = before.and_then(|p| self.replaced(sku, p));
            let tracked = old.filter(|_| !said.track_stock).map_or(sku.track_stock, |s| s.track_stock);
            let field = if self.values.flat { "stock".to_owned() } else { format!("skus[{i}].stock") };
            check_untracked(&field, tracked, sku.stock, old.map_or(0, |s| s.on_hand), &mut errors);
        }
        errors.into_result()
    }
}

/// Returns true if writing `v` over `p` would change nothing. The caller compares the categories.
fn is_same(v: &ProductValues, p: &Product) -> bool {
    v.title == p.title
        && v.slug.as_ref() == Some(&p.slug)
        && v.description == p.description
        && v.brand == p.brand
        && v.status == p.status
        && v.tags == p.tags
        && v.images == p.images
        && v.attributes == p.attributes
        && v.discount == p.discount
        && v.warranty_information == p.warranty_information
        && v.shipping_information == p.shipping_information
        && v.rating.is_none_or(|r| r == p.rating)
        && (v.external.is_none() || v.external == p.external)
        && v.skus.as_ref().is_some_and(|skus| {
            let single = skus.len() == 1;
            skus.len() == p.skus.len()
                && skus.iter().zip(&p.skus).enumerate().all(|(i, ((_, v), s))| is_same_sku(v, s, i, single))
        })
}

fn is_same_sku(v: &SkuValues, s: &Sku, position: usize, single: bool) -> bool {
    (v.code.as_ref() == Some(&s.code) || (v.code.is_none() && single))
        && usize::try_from(s.position).is_ok_and(|p| p == position)
        && v.option_values == s.option_values
        && v.attributes == s.attributes
        && v.price == s.price
        && v.weight == s.weight
        && v.dimensions == s.dimensions
        && v.stock.is_none_or(|n| n == s.on_hand)
        && v.track_stock == s.track_stock
        && v.low_stock_threshold == s.low_stock_threshold
        && v.barcode == s.barcode
        && (v.external.is_none() || v.external == s.external)
}

/// Returns a name for the last slug of a path: `furniture/home-decoration` becomes "Home Decoration".
fn name_of(path: &str) -> String {
    let slug = path.rsplit_once('/').map_or(path, |(_, slug)| slug);
    let words: Vec<String> =
        slug.split('-').filter(|w| !w.is_empty()).map(|w| w[..1].to_ascii_uppercase() + &w[1..]).collect();
    if words.is_empty() { slug.to_owned() } else { words.join(" ") }
}
