//! Products: reads through the cache, and the one way in which a product and its SKUs are written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::product::flat_names;
use crate::domain::catalog::product::{
    Product, ProductFilter, ProductFilters, ProductInput, ProductPatch, ProductSort, ProductValues, RatingSummary,
};
use crate::domain::catalog::sku::{Sku, SkuValues};
use crate::domain::common::{Actor, Audit, DeleteMode, Deleted, Read};
use crate::domain::platform::outbox::EventKind;
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{Conflict, Entity, Error, FieldCode, Result, Shortage, ValidationErrors};
use crate::id::{CategoryId, ProductId, SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories;
use crate::service::run::after_commit::AfterCommit;
use crate::service::run::context::Context;
use crate::service::run::read_through::{Cached, Lookup, text_hash};
use crate::service::run::retry::{or_next_name, retrying};
use crate::text::{Slug, fold_key, shown};

/// A page of products with its total, as it is cached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductList {
    /// What was asked for, against collisions of the cache key.
    query: String,
    /// The products, and where the next page starts.
    pub page: Page<Product>,
    /// How many match; `None` with a cursor.
    pub total: Option<Total>,
}

/// What a list of products is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductListQuery {
    /// Filters.
    pub filter: ProductFilter,
    /// Sort.
    pub sort: ProductSort,
    /// Which part; a total comes with [`Paging::Offset`].
    pub paging: Paging,
}

/// The products of a shop.
#[derive(Debug, Clone, Copy)]
pub struct ProductService<'a> {
    cx: &'a Arc<Context>,
}

impl<'a> ProductService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>) -> Self {
        Self { cx }
    }

    /// A live product, where this process holds it in its cache: the fast path of [`Self::get`].
    pub fn cached(&self, id: ProductId) -> Option<Arc<Cached<Product>>> {
        self.cx.cache.local(&CacheKey::Product(id))
    }

    /// A live product, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: ProductId) -> Result<Lookup<Product>> {
        if let Some(value) = self.cached(id) {
            return Ok(Lookup { value, hit: true });
        }
        self.cx
            .cache
            .get_or_load(CacheKey::Product(id), self.cx.config.product_ttl, async {
                self.cx.storage.connect().await?.products().get(id, Deleted::Hide).await
            })
            .await?
            .ok_or_else(|| Error::not_found(Entity::Product, id))
    }

    /// A product as the database has it now, soft-deleted ones where asked (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_fresh(&self, id: ProductId, deleted: Deleted) -> Result<Product> {
        self.cx
            .storage
            .connect()
            .await?
            .products()
            .get(id, deleted)
            .await?
            .ok_or_else(|| Error::not_found(Entity::Product, id))
    }

    /// A live product by its slug, from the cache or the database (R15).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_slug(&self, slug: &str) -> Result<Lookup<Product>> {
        if Slug::parse(slug).is_err() {
            return Err(Error::not_found(Entity::Product, shown(slug)));
        }
        let key = CacheKey::ProductSlug(text_hash(slug));
        let find = async || self.cx.storage.connect().await?.products().get_by_slug(slug).await;
        let hint = self
            .cx
            .cache
            .get_or_load(key, self.cx.config.product_ttl, async { Ok(find().await?.map(|p| p.id)) })
            .await?
            .ok_or_else(|| Error::not_found(Entity::Product, slug))?;
        // The entry is only a hint: what it leads to says itself which slug it has.
        match self.get(**hint.value).await {
            Ok(found) if found.value.slug.as_str() == slug => Ok(Lookup { hit: found.hit && hint.hit, ..found }),
            _ => {
                // Where it cannot be told, the hint leads here again.
                let _ = self.cx.cache.invalidate(&[key]).await;
                let value = find().await?.ok_or_else(|| Error::not_found(Entity::Product, slug))?;
                Ok(Lookup { value: Arc::new(Cached::new(value)), hit: false })
            }
        }
    }

    /// Live products by id, in the order of `ids`, each from the cache or all others in one read; those that are
    /// gone are left out.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn get_many(&self, ids: &[ProductId]) -> Result<Vec<Arc<Cached<Product>>>> {
        let mut found: HashMap<ProductId, Arc<Cached<Product>>> =
            ids.iter().filter_map(|id| self.cached(*id).map(|p| (*id, p))).collect();
        let cache = &self.cx.cache;
        let missing = |found: &HashMap<ProductId, _>| {
            let mut seen = HashSet::new();
            let mut ids = ids.to_vec();
            ids.retain(|id| !found.contains_key(id) && seen.insert(*id));
            let keys: Vec<CacheKey> = ids.iter().copied().map(CacheKey::Product).collect();
            (ids, keys)
        };
        let (_, keys) = missing(&found);
        if !keys.is_empty() {
            found.extend(cache.get_many::<Product>(&keys).await.into_iter().flatten().map(|p| (p.id, p)));
        }
        let (absent, keys) = missing(&found);
        if !absent.is_empty() {
            let tokens = cache.begin_many(&keys).await;
            let read = async { self.cx.storage.connect().await?.products().get_many(&absent, Deleted::Hide).await };
            let read = read.await.map(|read| found.extend(read.into_iter().map(|p| (p.id, Arc::new(Cached::new(p))))));
            let loads = absent.iter().zip(keys).zip(tokens);
            let loads = loads.map(|((id, key), token)| (key, token, found.get(id).cloned())).collect();
            cache.fill_many(loads, self.cx.config.product_ttl).await;
            read?;
        }
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    /// A page of products; with [`Paging::Offset`] also how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`]. Pages are cached until a product of this shop changes (R15).
    ///
    /// # Errors
    /// `Validation` of a brand or tag that no product can have, `Unavailable`.
    pub async fn list(&self, query: &ProductListQuery) -> Result<Lookup<ProductList>> {
        query.filter.check()?;
        let text = format!("{query:?}");
        let key = CacheKey::ProductList(text_hash(&text));
        let load = |text: String| async {
            let mut db = self.cx.storage.connect().await?;
            let page = db.products().list(&query.filter, query.sort, &query.paging).await?;
            let total = match query.paging {
                Paging::Offset { .. } => Some(db.products().count(&query.filter, self.cx.config.total_bound).await?),
                Paging::Keyset { .. } => None,
            };
            Ok(Some(ProductList { query: text, page, total }))
        };
        // What is asked for with soft-deleted rows is an operator's read: it sees the database as it is.
        let cacheable = query.filter.deleted == Deleted::Hide && query.filter.updated_since.is_none();
        if cacheable
            && let Some(found) = self.cx.cache.get_or_load(key, self.cx.config.product_ttl, load(text.clone())).await?
            && found.value.query == text
        {
            return Ok(found);
        }
        let list = load(text).await?.ok_or_else(|| Error::not_found(Entity::Product, "list"))?;
        Ok(Lookup { value: Arc::new(Cached::new(list)), hit: false })
    }

    /// What the products that match could be narrowed by (`meta.filters`).
    ///
    /// # Errors
    /// `Validation` of a brand or tag that no product can have, `Unavailable`.
    pub async fn filters(&self, filter: &ProductFilter) -> Result<ProductFilters> {
        filter.check()?;
        self.cx.storage.connect().await?.products().filters(filter).await
    }

    /// Makes a product with its SKUs.
    ///
    /// # Errors
    /// `Validation`, `CURRENCY_MISMATCH`, `DUPLICATE`, `Unavailable`.
    pub async fn create(&self, input: &ProductInput, actor: &Actor) -> Result<Product> {
        let values = input.check(self.cx.config.currency)?;
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let (mut made, after) = self.create_many_in(&mut *tx, vec![values.clone()], actor).await?;
            tx.commit().await?;
            after.run_in(self.cx).await;
            made.pop().ok_or_else(|| Error::Internal { context: "a created product is missing", source: None })
        })
        .await
    }

    /// Makes products inside a unit of work of the host, with a number of statements that grows with batches,
    /// not with rows.
    ///
    /// # Errors
    /// As [`Self::create`]; nothing of the transaction may be kept then. [`Error::Contention`] where another
    /// transaction was in the way, or took a slug or code that the library was about to make: the host runs its
    /// transaction again, from its start.
    pub async fn create_many_in(
        &self,
        tx: &mut dyn Repositories,
        values: Vec<ProductValues>,
        actor: &Actor,
    ) -> Result<(Vec<Product>, AfterCommit)> {
        let now = self.cx.now();
        let made_slug = values.iter().any(|v| v.slug.is_none());
        let made_code = values.iter().any(makes_code);
        if values.iter().any(|v| !v.categories.is_empty()) {
            tx.categories().hold_tree().await?;
        }
        let categories = Resolver::load(tx, values.iter().flat_map(|v| v.categories.iter())).await?;
        let slugs = pick_slugs(tx, &values).await?;
        let mut codes = CodeBook::load(tx, &values, &slugs).await?;

        let mut products = Vec::with_capacity(values.len());
        let mut skus = Vec::new();
        let mut opening = Vec::new();
        for (v, slug) in values.into_iter().zip(slugs) {
            let id = ProductId(self.cx.ids.next());
            let mut product_skus = Vec::new();
            for (position, (_, s)) in v.skus.unwrap_or_default().into_iter().enumerate() {
                let code = codes.claim(s.code.clone(), &slug, None)?;
                let sku = self.new_sku(id, position, code, s, now, actor);
                opening.extend(self.movement(&sku, sku.on_hand, opening_reason(v.external.as_ref()), now, actor));
                product_skus.push(sku);
            }
            skus.extend(product_skus.iter().cloned());
            products.push(Product {
                id,
                title: v.title,
                slug,
                description: v.description,
                brand: v.brand,
                status: v.status,
                categories: categories.resolve(&v.categories)?,
                tags: v.tags,
                images: v.images,
                attributes: v.attributes,
                discount: v.discount,
                warranty_information: v.warranty_information,
                shipping_information: v.shipping_information,
                rating: v.rating.unwrap_or_default(),
                external: v.external,
                skus: product_skus,
                revision: 1,
                audit: Audit::created(now, actor),
            });
        }
        or_next_name(tx.products().insert(&products).await, |field| made_slug && field == "slug")?;
        or_next_name(tx.skus().insert(&skus, &opening).await, |field| made_code && field == "code")?;
        let events: Vec<_> =
            products.iter().map(|p| self.cx.event(EventKind::ProductCreated, p.id, p.revision, actor)).collect();
        tx.outbox().append(&events).await?;
        let after = AfterCommit::of(
            products
                .iter()
                .flat_map(|p| [CacheKey::Product(p.id), slug_key(&p.slug)])
                .chain(category_keys(&products))
                .chain([CacheKey::ProductLists]),
        );
        Ok((products, after))
    }

    /// Replaces a product (PUT, R1). SKUs that are not named are soft-deleted.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `FLAT_WRITE_REFUSED`, and those of [`Self::create`].
    pub async fn replace(&self, id: ProductId, read: Read, input: &ProductInput, actor: &Actor) -> Result<Product> {
        let values = input.check(self.cx.config.currency)?;
        self.write(id, read, actor, |before| {
            input.check_flat_against(before)?;
            Ok(values.clone())
        })
        .await
    }

    /// Merges a patch into a product (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: ProductId, read: Read, patch: ProductPatch, actor: &Actor) -> Result<Product> {
        let currency = self.cx.config.currency;
        let flat = patch.flat_field().is_some();
        self.write(id, read, actor, |before| {
            patch.clone().onto(before)?.check_with(currency, false).map_err(|e| match e {
                Error::Validation(v) if flat => Error::Validation(flat_names(v)),
                e => e,
            })
        })
        .await
    }

    async fn write(
        &self,
        id: ProductId,
        read: Read,
        actor: &Actor,
        change: impl Fn(&Product) -> Result<ProductValues> + Send + Sync,
    ) -> Result<Product> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let before = self.lock(&mut *tx, id, read, Deleted::Hide).await?;
            let values = change(&before)?;
            let (product, after) = self.update_in(&mut *tx, &before, values, StockReason::Adjustment, actor).await?;
            tx.commit().await?;
            after.run_in(self.cx).await;
            Ok(product)
        })
        .await
    }

    /// Locks a product for a write, with the tree held, and checks that it is the one that the writer read (R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn lock(
        &self,
        tx: &mut dyn Repositories,
        id: ProductId,
        read: Read,
        deleted: Deleted,
    ) -> Result<Product> {
        let before = tx
            .products()
            .lock(&[id])
            .await?
            .pop()
            .filter(|p| deleted == Deleted::Include || p.audit.is_live())
            .ok_or_else(|| Error::not_found(Entity::Product, id))?;
        read.check(Entity::Product, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok(before)
    }

    /// Writes values over a product that `tx` has locked; what is unchanged is not written.
    ///
    /// # Errors
    /// As [`Self::replace`]; nothing of the transaction may be kept then. [`Error::Contention`] as in
    /// [`Self::create_many_in`].
    pub async fn update_in(
        &self,
        tx: &mut dyn Repositories,
        before: &Product,
        values: ProductValues,
        reason: StockReason,
        actor: &Actor,
    ) -> Result<(Product, AfterCommit)> {
        let now = self.cx.now();
        let (made_slug, made_code) = (values.slug.is_none(), makes_code(&values));
        let categories = Resolver::load(tx, values.categories.iter()).await?.resolve(&values.categories)?;
        let slug = match &values.slug {
            Some(s) if *s == before.slug => s.clone(),
            Some(s) => {
                if tx.products().taken_slugs(std::slice::from_ref(s)).await?.contains(s.as_str()) {
                    return Err(duplicate(Entity::Product, "slug", s.as_str()));
                }
                s.clone()
            }
            None => next_slug(tx, &before.slug, &values.title).await?,
        };
        let mut movements = Vec::new();
        let skus = match values.skus {
            None => before.skus.clone(),
            Some(named) => self.reconcile(tx, before, &slug, named, &mut movements, reason, now, actor).await?,
        };
        let after = Product {
            id: before.id,
            title: values.title,
            slug,
            description: values.description,
            brand: values.brand,
            status: values.status,
            categories,
            tags: values.tags,
            images: values.images,
            attributes: values.attributes,
            discount: values.discount,
            warranty_information: values.warranty_information,
            shipping_information: values.shipping_information,
            rating: values.rating.unwrap_or(before.rating),
            external: values.external.or_else(|| before.external.clone()),
            skus,
            revision: before.revision,
            audit: before.audit.clone(),
        };
        let saved = self.save_in(tx, before, after, movements, EventKind::ProductUpdated, actor).await;
        or_next_name(saved, |field| (made_slug && field == "slug") || (made_code && field == "code"))
    }

    /// Which SKUs the product has after a write that names them: by id, else by code; a nameless one is the
    /// default SKU of a product with one.
    #[expect(clippy::too_many_arguments, reason = "one step of update_in, called once")]
    async fn reconcile(
        &self,
        tx: &mut dyn Repositories,
        before: &Product,
        slug: &Slug,
        named: Vec<(Option<SkuId>, SkuValues)>,
        movements: &mut Vec<StockMovement>,
        reason: StockReason,
        now: Timestamp,
        actor: &Actor,
    ) -> Result<Vec<Sku>> {
        let mut errors = ValidationErrors::default();
        let mut left: HashMap<SkuId, &Sku> = before.skus.iter().map(|s| (s.id, s)).collect();
        let only = match (&*before.skus, named.len()) {
            ([one], 1) => Some(one.id),
            _ => None,
        };
        let mut current = Vec::with_capacity(named.len());
        for (i, (id, v)) in named.iter().enumerate() {
            let by_code = || {
                let key = fold_key(v.code.as_deref()?);
                before.skus.iter().find(|s| fold_key(&s.code) == key).map(|s| s.id)
            };
            let id = match id {
                Some(id) if !left.contains_key(id) => {
                    errors.push(
                        format!("skus[{i}].id"),
                        FieldCode::ReferenceNotFound,
                        format!("{id} is no SKU of this product"),
                    );
                    None
                }
                Some(id) => Some(*id),
                None => by_code().or(if v.code.is_none() { only } else { None }),
            };
            current.push(id.and_then(|id| left.remove(&id)));
        }
        errors.into_result()?;

        let mut codes = CodeBook::load(tx, &[], std::slice::from_ref(slug)).await?;
        codes.add(tx, named.iter().filter_map(|(_, v)| v.code.clone()).collect()).await?;
        // What is left is deleted by this write, and its codes come free with it.
        codes.owners.retain(|_, owner| !left.contains_key(owner));
        let mut skus = Vec::with_capacity(named.len());
        for (position, ((_, v), current)) in named.into_iter().zip(current).enumerate() {
            skus.push(match current {
                Some(old) => {
                    let wanted = v.code.clone().or_else(|| Some(old.code.clone()));
                    let code = codes.claim(wanted, slug, Some(old.id))?;
                    let delta = v.stock.map_or(0, |s| s - old.on_hand);
                    let sku = edited_sku(old, position, code, v, delta)?;
                    movements.extend(self.movement(&sku, delta, reason, now, actor));
                    sku
                }
                None => {
                    let code = codes.claim(v.code.clone(), slug, None)?;
                    self.new_sku(before.id, position, code, v, now, actor)
                }
            });
        }
        Ok(skus)
    }

    /// The one way in which a product is written over: finds out what differs between `before` (locked) and
    /// `after`, and writes that, the stock ledger and the event. Versions and revisions are set here.
    ///
    /// # Errors
    /// `DUPLICATE`, `VERSION_CONFLICT`, `Unavailable`; nothing of the transaction may be kept then.
    pub(crate) async fn save_in(
        &self,
        tx: &mut dyn Repositories,
        before: &Product,
        mut after: Product,
        movements: Vec<StockMovement>,
        kind: EventKind,
        actor: &Actor,
    ) -> Result<(Product, AfterCommit)> {
        if *before == after && movements.is_empty() {
            return Ok((after, AfterCommit::default()));
        }
        let now = self.cx.now();
        let old: HashMap<SkuId, &Sku> = before.skus.iter().map(|s| (s.id, s)).collect();
        let kept: HashSet<SkuId> = after.skus.iter().map(|s| s.id).collect();

        // Codes that are given up come free before they are taken.
        for gone in before.skus.iter().filter(|s| !kept.contains(&s.id)) {
            let mut deleted = gone.clone();
            deleted.audit.deleted(now, actor);
            tx.skus().update(gone, &deleted).await?;
        }
        let mut inserted = Vec::new();
        for sku in &mut after.skus {
            match old.get(&sku.id) {
                None => inserted.push(sku.clone()),
                Some(o) if *o != sku => {
                    let on_hand = sku.on_hand;
                    // Stock alone moves no version (R1).
                    sku.on_hand = o.on_hand;
                    if *o != sku {
                        sku.audit.edited(now, actor);
                        tx.skus().update(o, sku).await?;
                    }
                    sku.on_hand = on_hand;
                }
                Some(_) => {}
            }
        }
        after.revision = before.revision + 1;
        after.audit.edited(now, actor);
        tx.products().update(before, &after).await?;
        if !inserted.is_empty() {
            let opening: Vec<StockMovement> = inserted
                .iter()
                .filter_map(|s| self.movement(s, s.on_hand, opening_reason(after.external.as_ref()), now, actor))
                .collect();
            tx.skus().insert(&inserted, &opening).await?;
        }
        if !movements.is_empty() {
            for touched in tx.inventory().apply(&movements).await? {
                after.revision = touched.revision;
            }
        }
        tx.outbox().append(&[self.cx.event(kind, after.id, after.revision, actor)]).await?;
        let keys = [CacheKey::Product(after.id), CacheKey::ProductLists, slug_key(&before.slug), slug_key(&after.slug)];
        // Category documents show counts.
        let shown = before.status != after.status || before.audit.is_live() != after.audit.is_live();
        let both = [before.clone(), after.clone()];
        let counted = if shown || before.categories != after.categories { category_keys(&both) } else { Vec::new() };
        Ok((after, AfterCommit::of(keys.into_iter().chain(counted))))
    }

    /// Deletes a product: softly with its SKUs (R2), or for good (R5).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `HAS_SALES`, `Unavailable`.
    pub async fn delete(&self, id: ProductId, read: Read, mode: DeleteMode, actor: &Actor) -> Result<()> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let after = match mode {
                DeleteMode::Soft => {
                    let before = self.lock(&mut *tx, id, read, Deleted::Hide).await?;
                    let now = self.cx.now();
                    for sku in &before.skus {
                        let mut gone = sku.clone();
                        gone.audit.deleted(now, actor);
                        tx.skus().update(sku, &gone).await?;
                    }
                    let mut deleted = before.clone();
                    deleted.audit.deleted(now, actor);
                    deleted.revision += 1;
                    tx.products().update(&before, &deleted).await?;
                    let event = self.cx.event(EventKind::ProductDeleted, id, deleted.revision, actor);
                    tx.outbox().append(&[event]).await?;
                    AfterCommit::of(keys_of(&before))
                }
                DeleteMode::Force => {
                    let before = self.lock(&mut *tx, id, read, Deleted::Include).await?;
                    tx.products().purge(&before).await?;
                    let event = self.cx.event(EventKind::ProductPurged, id, before.revision + 1, actor);
                    tx.outbox().append(&[event]).await?;
                    AfterCommit::of(keys_of(&before))
                }
            };
            tx.commit().await?;
            after.run_in(self.cx).await;
            Ok(())
        })
        .await
    }

    /// Restores a soft-deleted product with the SKUs that went with it (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` where it is not deleted, `DUPLICATE` where its slug or a code was taken in
    /// between, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: ProductId, read: Read, actor: &Actor) -> Result<Product> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let before = self.lock(&mut *tx, id, read, Deleted::Include).await?;
            let Some(deleted_at) = before.audit.deleted_at else {
                return Err(Conflict::State { message: format!("product {id} is not deleted") }.into());
            };
            if tx.products().taken_slugs(std::slice::from_ref(&before.slug)).await?.contains(before.slug.as_str()) {
                return Err(duplicate(Entity::Product, "slug", before.slug.as_str()));
            }
            // R4: what is live refers to live categories only.
            let shown: Vec<CategoryId> = before.categories.iter().map(|c| c.id).collect();
            let live = tx.categories().get_many(&shown, Deleted::Hide).await?;
            if let Some(gone) = shown.iter().find(|id| !live.iter().any(|c| c.id == **id)) {
                return Err(Conflict::State { message: format!("category {gone} is deleted; restore it first") }.into());
            }
            let now = self.cx.now();
            let mut after = before.clone();
            after.skus.clear();
            let skus = tx.skus().of_product(id, Deleted::Include).await?;
            for sku in skus {
                if sku.audit.deleted_at == Some(deleted_at) {
                    let mut live = sku.clone();
                    live.audit.restored(now, actor);
                    tx.skus().update(&sku, &live).await?;
                    after.skus.push(live);
                }
            }
            after.audit.restored(now, actor);
            after.revision += 1;
            tx.products().update(&before, &after).await?;
            tx.outbox().append(&[self.cx.event(EventKind::ProductRestored, id, after.revision, actor)]).await?;
            let keys = AfterCommit::of(keys_of(&after));
            tx.commit().await?;
            keys.run_in(self.cx).await;
            Ok(after)
        })
        .await
    }

    pub(crate) fn new_sku(
        &self,
        product_id: ProductId,
        position: usize,
        code: String,
        v: SkuValues,
        now: Timestamp,
        actor: &Actor,
    ) -> Sku {
        Sku {
            id: SkuId(self.cx.ids.next()),
            product_id,
            position: i32::try_from(position).unwrap_or(i32::MAX),
            code,
            option_values: v.option_values,
            attributes: v.attributes,
            price: v.price,
            weight: v.weight,
            dimensions: v.dimensions,
            on_hand: v.stock.unwrap_or(0),
            reserved: 0,
            low_stock_threshold: v.low_stock_threshold,
            barcode: v.barcode,
            external: v.external,
            audit: Audit::created(now, actor),
        }
    }

    pub(crate) fn movement(
        &self,
        sku: &Sku,
        delta: i64,
        reason: StockReason,
        now: Timestamp,
        actor: &Actor,
    ) -> Option<StockMovement> {
        (delta != 0).then(|| StockMovement {
            id: StockMovementId(self.cx.ids.next()),
            sku_id: sku.id,
            delta,
            reason,
            reference: None,
            created_at: now,
            created_by: actor.clone(),
        })
    }
}

/// `old` with new values; `delta` is what the ledger takes.
pub(crate) fn edited_sku(old: &Sku, position: usize, code: String, v: SkuValues, delta: i64) -> Result<Sku> {
    let on_hand = old.on_hand + delta;
    if on_hand < old.reserved {
        let shortage = Shortage { sku_id: old.id.0, requested: -delta, available: old.available().max(0) };
        return Err(Conflict::InsufficientStock { shortages: vec![shortage] }.into());
    }
    Ok(Sku {
        position: i32::try_from(position).unwrap_or(i32::MAX),
        code,
        option_values: v.option_values,
        attributes: v.attributes,
        price: v.price,
        weight: v.weight,
        dimensions: v.dimensions,
        on_hand,
        low_stock_threshold: v.low_stock_threshold,
        barcode: v.barcode,
        external: v.external.or_else(|| old.external.clone()),
        ..old.clone()
    })
}

/// True where the library makes the code of a SKU.
fn makes_code(v: &ProductValues) -> bool {
    v.skus.iter().flatten().any(|(_, sku)| sku.code.is_none())
}

fn opening_reason(external: Option<&crate::domain::common::ExternalRef>) -> StockReason {
    if external.is_some() { StockReason::Import } else { StockReason::Initial }
}

pub(crate) fn duplicate(entity: Entity, field: &'static str, value: impl Into<String>) -> Error {
    Conflict::Duplicate { entity, field, value: value.into() }.into()
}

/// Which product has a slug: a look-up under way may have found nothing yet, and is not joined after the write.
fn slug_key(slug: &Slug) -> CacheKey {
    CacheKey::ProductSlug(text_hash(slug.as_str()))
}

/// Everything that shows a product whose being live changed.
pub(crate) fn keys_of(p: &Product) -> Vec<CacheKey> {
    let mut keys = category_keys(std::slice::from_ref(p));
    keys.extend([CacheKey::Product(p.id), CacheKey::ProductLists, slug_key(&p.slug)]);
    keys
}

/// The documents of the categories that count these products: their own and all above.
fn category_keys(products: &[Product]) -> Vec<CacheKey> {
    let mut keys: HashSet<CacheKey> = HashSet::new();
    for c in products.iter().flat_map(|p| &p.categories) {
        keys.extend(c.path.split('/').map(|slug| CacheKey::CategorySlug(text_hash(slug))));
    }
    if !keys.is_empty() {
        keys.insert(CacheKey::CategoryTree);
    }
    keys.into_iter().collect()
}

/// The current slug where it was made from this title, or the first free one that is.
pub(crate) async fn next_slug(tx: &mut dyn Repositories, current: &Slug, title: &str) -> Result<Slug> {
    let base = Slug::from_title(title, "product");
    if is_numbered(current, &base) {
        return Ok(current.clone());
    }
    let taken = tx.products().taken_slugs(std::slice::from_ref(&base)).await?;
    Ok(base.first_free(&taken))
}

/// True where `slug` is `base`, or `base` with a number.
pub(crate) fn is_numbered(slug: &Slug, base: &Slug) -> bool {
    slug == base
        || slug
            .as_str()
            .rsplit_once('-')
            .and_then(|(_, n)| n.parse::<u32>().ok())
            .is_some_and(|n| base.numbered(n) == *slug)
}

/// A free slug for each, also among themselves.
async fn pick_slugs(tx: &mut dyn Repositories, values: &[ProductValues]) -> Result<Vec<Slug>> {
    let bases: Vec<Slug> =
        values.iter().map(|v| v.slug.clone().unwrap_or_else(|| Slug::from_title(&v.title, "product"))).collect();
    let mut taken = tx.products().taken_slugs(&bases).await?;
    let mut slugs = Vec::with_capacity(values.len());
    for (v, base) in values.iter().zip(bases) {
        let slug = match &v.slug {
            Some(s) if taken.contains(s.as_str()) => return Err(duplicate(Entity::Product, "slug", s.as_str())),
            Some(s) => s.clone(),
            None => base.first_free(&taken),
        };
        taken.insert(slug.to_string());
        slugs.push(slug);
    }
    Ok(slugs)
}

/// Hands out SKU codes and refuses those that are taken.
pub(crate) struct CodeBook {
    /// Folded code → the live SKU that has it; nil for one that this write makes.
    owners: HashMap<String, SkuId>,
    /// Folded codes that are slugs or numbered slugs.
    taken: HashSet<String>,
}

impl CodeBook {
    async fn load(tx: &mut dyn Repositories, values: &[ProductValues], slugs: &[Slug]) -> Result<Self> {
        let said: Vec<String> =
            values.iter().flat_map(|v| v.skus.iter().flatten()).filter_map(|(_, s)| s.code.clone()).collect();
        let taken = tx.skus().taken_codes(slugs).await?;
        let mut book = Self { owners: HashMap::new(), taken };
        book.add(tx, said).await?;
        Ok(book)
    }

    /// For SKUs that are written outside of a product's own write.
    pub async fn of(tx: &mut dyn Repositories, slug: &Slug, said: Option<String>) -> Result<Self> {
        let mut book = Self::load(tx, &[], std::slice::from_ref(slug)).await?;
        book.add(tx, said.into_iter().collect()).await?;
        Ok(book)
    }

    async fn add(&mut self, tx: &mut dyn Repositories, said: Vec<String>) -> Result<()> {
        if !said.is_empty() {
            // One that is made up steps aside for one that is said, whichever comes first.
            self.taken.extend(said.iter().map(|c| fold_key(c)));
            self.owners.extend(tx.skus().find_by_codes(&said).await?.into_iter().map(|(k, id, _)| (k, id)));
        }
        Ok(())
    }

    /// The code for a SKU: the one that it says, else the first free one made of the slug.
    pub fn claim(&mut self, said: Option<String>, slug: &Slug, holder: Option<SkuId>) -> Result<String> {
        let code = match said {
            Some(code) => {
                if let Some(owner) = self.owners.get(&fold_key(&code))
                    && Some(*owner) != holder
                {
                    return Err(duplicate(Entity::Sku, "code", code));
                }
                code
            }
            None => slug.first_free(&self.taken).to_string(),
        };
        let key = fold_key(&code);
        self.owners.insert(key.clone(), holder.unwrap_or(SkuId(Uuid::nil())));
        self.taken.insert(key);
        Ok(code)
    }
}

/// Finds the live categories that inputs name by id, slug or path.
pub(crate) struct Resolver {
    by_id: HashMap<CategoryId, CategorySummary>,
    by_slug: HashMap<String, CategorySummary>,
}

impl Resolver {
    /// Looks all of `refs` up in at most two statements.
    pub async fn load(tx: &mut dyn Repositories, refs: impl Iterator<Item = &String>) -> Result<Self> {
        let mut ids = Vec::new();
        let mut slugs = Vec::new();
        let mut seen = HashSet::new();
        for r in refs {
            if !seen.insert(r.clone()) {
                continue;
            }
            match r.parse::<CategoryId>() {
                Ok(id) => ids.push(id),
                Err(_) => slugs.push(last_segment(r).to_owned()),
            }
        }
        let mut this = Self { by_id: HashMap::new(), by_slug: HashMap::new() };
        if !ids.is_empty() {
            let found = tx.categories().get_many(&ids, Deleted::Hide).await?;
            this.by_id.extend(found.iter().map(|c| (c.id, CategorySummary::from(c))));
        }
        if !slugs.is_empty() {
            let found = tx.categories().get_by_slugs(&slugs).await?;
            this.by_slug.extend(found.iter().map(|c| (c.slug.to_string(), CategorySummary::from(c))));
        }
        Ok(this)
    }

    /// One reference.
    pub fn find(&self, r: &str) -> Option<&CategorySummary> {
        match r.parse::<CategoryId>() {
            Ok(id) => self.by_id.get(&id),
            Err(_) => self.by_slug.get(last_segment(r)).filter(|c| !r.contains('/') || c.path == r.trim_matches('/')),
        }
    }

    /// The categories of one input, each once.
    pub fn resolve(&self, refs: &[String]) -> Result<Vec<CategorySummary>> {
        let mut errors = ValidationErrors::default();
        let mut out: Vec<CategorySummary> = Vec::with_capacity(refs.len());
        for (i, r) in refs.iter().enumerate() {
            match self.find(r) {
                Some(c) if out.iter().any(|o| o.id == c.id) => {}
                Some(c) => out.push(c.clone()),
                None => {
                    let shown = shown(r);
                    errors.push(
                        format!("categories[{i}]"),
                        FieldCode::ReferenceNotFound,
                        format!("there is no category `{shown}`"),
                    );
                }
            }
        }
        errors.into_result()?;
        Ok(out)
    }
}

fn last_segment(path: &str) -> &str {
    path.trim_matches('/').rsplit('/').next().unwrap_or(path)
}

/// Sets an external rating, as an import does.
pub(crate) fn external_rating(mean: crate::money::Rating, count: i64) -> RatingSummary {
    RatingSummary { mean, count, source: crate::domain::catalog::product::RatingSource::External }
}
