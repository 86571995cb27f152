//! Products: reads through the cache, and the code that writes a product with its SKUs.

pub(crate) mod names;
mod read;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::names::{CodeBook, next_slug, pick_slugs};
use super::resolver::Resolver;
use crate::clock::Timestamp;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::product::{
    ImageInput, InputFor, Product, ProductFilter, ProductFilters, ProductInput, ProductPatch, ProductSort,
    ProductStatus, ProductValues, RatingSource, RatingSummary, flat_names,
};
use crate::domain::catalog::sku::{Sku, SkuValues, check_untracked};
use crate::domain::common::{Audit, DeleteMode, ExpectedVersion, ExternalRef, IncludeDeleted};
use crate::domain::platform::outbox::{EventDetails, EventKind, PriceChange, StockChange};
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{
    Conflict, Entity, Error, FieldCode, Result, SalesConflict, Shortage, StockConflict, ValidationErrors,
};
use crate::id::{CategoryId, ProductId, SkuId, StockMovementId};
use crate::money::Rating;
use crate::paging::{Page, Paging, Total};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::read_through::{Cached, text_hash};
use crate::service::run::stale::OF_CATEGORIES;
use crate::service::run::transaction::{Change, Tx};
use crate::text::{Slug, fold_key};

/// A page of products with its total.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductList {
    /// The products, and the cursor of the next page.
    pub page: Page<Arc<Cached<Product>>>,
    /// How many match; `None` with a cursor.
    pub total: Option<Total>,
}

/// A page of a list, as it is cached: the products are cached by themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ListedIds {
    /// The query, which distinguishes queries that share a cache key.
    query: String,
    page: Page<ProductId>,
    total: Option<Total>,
}

/// The values by which a list of products can be narrowed, as they are cached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProductFilterValues {
    /// The filter, which distinguishes filters that share a cache key.
    query: String,
    /// The values.
    pub values: ProductFilters,
}

/// A query for a list of products. By default it asks for the newest 20 live products.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProductListQuery {
    /// The filters that the products must match.
    pub filter: ProductFilter,
    /// The order of the products.
    pub sort: ProductSort,
    /// Which part of the list; a total comes with [`Paging::Offset`].
    pub paging: Paging,
}

/// The service of the products of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::{ProductInput, ProductListQuery, ProductPatch, ProductSort};
/// use ecom_core::common::{DeleteMode, Patch};
///
/// let tea = ProductInput::new("Sencha").price("6.90 USD".parse()?).stock(40);
/// let tea = shop.products().create(&tea).await?;
///
/// let patch = ProductPatch { brand: Patch::Set("Yabukita".to_owned()), ..ProductPatch::default() };
/// let tea = shop.products().patch(tea.id, tea.audit.version.into(), patch).await?;
///
/// let cheapest = ProductListQuery { sort: ProductSort::PriceAsc, ..ProductListQuery::default() };
/// for product in &shop.products().list(&cheapest).await?.page.items {
///     println!("{}", product.title);
/// }
/// shop.products().delete(tea.id, tea.audit.version.into(), DeleteMode::Soft).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ProductService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ProductService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Creates a product with its SKUs.
    ///
    /// # Errors
    /// `Validation`, `CURRENCY_MISMATCH`, `DUPLICATE`, `Unavailable`.
    pub async fn create(&self, input: &ProductInput) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let values = &input.check(self.cx.config.currency, InputFor::Create)?;
        self.cx
            .write(|mut tx| async move {
                let made = self.insert_in(&mut tx, vec![values.clone()]).await?.pop();
                Ok((made.ok_or(Error::Internal { context: "a created product is missing", source: None })?, tx))
            })
            .await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`]. [`Error::Contention`] if another transaction took a slug or code that the library was
    /// about to make.
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &ProductInput) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let values = input.check(self.cx.config.currency, InputFor::Create)?;
        tx.started();
        let made = self.insert_in(tx, vec![values]).await?.pop();
        tx.ended(made.ok_or(Error::Internal { context: "a created product is missing", source: None }))
    }

    /// Creates products inside a transaction. The number of statements grows with batches, not with rows.
    ///
    /// # Errors
    /// As [`Self::create_in`].
    pub async fn create_many_in(&self, tx: &mut Tx<'_>, inputs: &[ProductInput]) -> Result<Vec<Product>> {
        self.who.require(Permission::ProductsWrite)?;
        let values =
            inputs.iter().map(|input| input.check(self.cx.config.currency, InputFor::Create)).collect::<Result<_>>()?;
        tx.started();
        let written = self.insert_in(tx, values).await;
        tx.ended(written)
    }

    /// Inserts products whose values were checked, with their SKUs, opening stock and events.
    pub(crate) async fn insert_in(&self, tx: &mut Tx<'_>, values: Vec<ProductValues>) -> Result<Vec<Product>> {
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
        let mut opening: Vec<StockMovement> = Vec::new();
        let mut details = Vec::with_capacity(values.len());
        // Products of an import in bulk share an event, which has no details and makes all documents stale.
        let is_bulk = self.cx.imports_in_bulk();
        for (v, slug) in values.into_iter().zip(slugs) {
            let id = ProductId(self.cx.ids.next());
            let first = opening.len();
            let mut product_skus = Vec::new();
            for (position, (_, s)) in v.skus.unwrap_or_default().into_iter().enumerate() {
                let code = codes.claim(s.code.clone(), &slug, None)?;
                let sku = self.new_sku(id, position, code, s, now);
                opening.extend(self.movement(&sku, sku.on_hand, opening_reason(v.external.as_ref()), now));
                product_skus.push(sku);
            }
            let opened: &[StockMovement] = if is_bulk { &[] } else { &opening[first..] };
            let stock = opened.iter().map(StockChange::from).collect();
            details.push(EventDetails { stock, ..EventDetails::default() });
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
                audit: Audit::created(now, self.who.actor()),
            });
        }
        let written = tx.products().insert(&products).await;
        tx.or_next_name(written, |field| made_slug && field == "slug")?;
        let written = tx.skus().insert(&skus, &opening).await;
        tx.or_next_name(written, |field| made_code && field == "code")?;
        let changes = products.iter().zip(details).map(|(p, details)| {
            let change = Change::created(EventKind::ProductCreated, p, self.who.actor());
            if is_bulk { change } else { change.shown_by(shown_by(p)).details(details) }
        });
        tx.emit_all(changes.collect()).await?;
        Ok(products)
    }

    /// Replaces a product (PUT, R1). SKUs that the input does not list are soft-deleted.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `FLAT_WRITE_REFUSED`, and those of [`Self::create`].
    pub async fn replace(&self, id: ProductId, expected: ExpectedVersion, input: &ProductInput) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = &input.check(self.cx.config.currency, InputFor::Replace)?;
        self.cx
            .write(|mut tx| async move {
                let before = self.lock(&mut tx, id, expected, IncludeDeleted::No).await?;
                input.check_flat_against(&before)?;
                let written = self.update_in(&mut tx, &before, values.clone(), StockReason::Adjustment).await?;
                Ok((written, tx))
            })
            .await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`], and [`Error::Contention`] as in [`Self::create_in`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: ProductId,
        expected: ExpectedVersion,
        input: &ProductInput,
    ) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check(self.cx.config.currency, InputFor::Replace)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        input.check_flat_against(&before)?;
        let written = self.update_in(tx, &before, values, StockReason::Adjustment).await;
        tx.ended(written)
    }

    /// Merges a patch into a product (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: ProductId, expected: ExpectedVersion, patch: ProductPatch) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace_in`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: ProductId,
        expected: ExpectedVersion,
        patch: ProductPatch,
    ) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(patch.version)?;
        let flat = patch.flat_field().is_some();
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        let named = |e| if flat { flat_error(e) } else { e };
        let mut values = patch.onto(&before)?.check(self.cx.config.currency, InputFor::Patch).map_err(named)?;
        values.flat = flat;
        let written = self.update_in(tx, &before, values, StockReason::Adjustment).await;
        tx.ended(written)
    }

    /// Appends an image to a product, or replaces the image with the same URL (R1), whose text and size stay if the new
    /// image has none; an empty text removes the text. If the new image is primary, no other image stays primary.
    /// [`MediaService::upload_for`](crate::catalog::MediaService::upload_for) returns the URL of an uploaded image.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`, and `Validation` on a field of `images`, also
    /// if the product would have more than 50 images.
    pub async fn add_image(&self, id: ProductId, expected: ExpectedVersion, image: &ImageInput) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.add_image_in(&mut tx, id, expected, image).await?, tx)) }).await
    }

    /// [`Self::add_image`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::add_image`], and [`Error::Contention`] as in [`Self::create_in`].
    pub async fn add_image_in(
        &self,
        tx: &mut Tx<'_>,
        id: ProductId,
        expected: ExpectedVersion,
        image: &ImageInput,
    ) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::No).await?;
        let values = before.with_image(image).check(self.cx.config.currency, InputFor::Patch)?;
        let written = self.update_in(tx, &before, values, StockReason::Adjustment).await;
        tx.ended(written)
    }

    /// Checks whether a product could have another image with this text now. It locks nothing.
    ///
    /// # Errors
    /// Those of [`Self::add_image`].
    pub(crate) async fn check_new_image(
        &self,
        id: ProductId,
        expected: ExpectedVersion,
        alt: Option<&str>,
    ) -> Result<()> {
        let found = self.cx.storage.connect().await?.products().get(id, IncludeDeleted::No).await?;
        let product = found.ok_or_else(|| Error::not_found(Entity::Product, id))?;
        expected.check(Entity::Product, id, product.audit.version, self.cx.config.last_write_wins)?;
        let mut input = ProductInput::without_skus(&product);
        input.images.push(ImageInput { alt: alt.map(str::to_owned), ..ImageInput::new("/new") });
        input.check(self.cx.config.currency, InputFor::Patch).map(drop)
    }

    /// Locks a product for a write, while the tree is held, and checks that it is the one that the writer read (R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub(crate) async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: ProductId,
        expected: ExpectedVersion,
        deleted: IncludeDeleted,
    ) -> Result<Product> {
        let before = tx
            .products()
            .lock(&[id])
            .await?
            .pop()
            .filter(|p| deleted == IncludeDeleted::Yes || p.audit.is_live())
            .ok_or_else(|| Error::not_found(Entity::Product, id))?;
        expected.check(Entity::Product, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok(before)
    }

    /// Writes values over a product that `tx` has locked. Rows that do not differ are not written.
    ///
    /// # Errors
    /// As [`Self::replace_in`].
    pub(crate) async fn update_in(
        &self,
        tx: &mut Tx<'_>,
        before: &Product,
        values: ProductValues,
        reason: StockReason,
    ) -> Result<Product> {
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
            Some(named) => {
                let skus = self.reconcile(tx, before, &slug, named, &mut movements, reason, now).await;
                if values.flat { skus.map_err(flat_error)? } else { skus? }
            }
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
        let saved = self.save_in(tx, before, after, movements, EventKind::ProductUpdated).await;
        tx.or_next_name(saved, |field| (made_slug && field == "slug") || (made_code && field == "code"))
    }

    /// Returns the SKUs that the product has after a write that lists them. They are matched by id, else by code; an
    /// entry with neither is the default SKU of a product with one SKU.
    async fn reconcile(
        &self,
        tx: &mut Tx<'_>,
        before: &Product,
        slug: &Slug,
        named: Vec<(Option<SkuId>, SkuValues)>,
        movements: &mut Vec<StockMovement>,
        reason: StockReason,
        now: Timestamp,
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
                        format!("must be the id of a SKU of this product, not {id}"),
                    );
                    current.push(None);
                    continue;
                }
                Some(id) => Some(*id),
                None => by_code().or(if v.code.is_none() { only } else { None }),
            };
            let old = id.and_then(|id| left.remove(&id));
            let on_hand = old.map_or(0, |s| s.on_hand);
            check_untracked(&format!("skus[{i}].stock"), v.track_stock, v.stock, on_hand, &mut errors);
            current.push(old);
        }
        errors.into_result()?;

        let mut codes = CodeBook::load(tx, &[], std::slice::from_ref(slug)).await?;
        codes.add(tx, named.iter().filter_map(|(_, v)| v.code.clone()).collect()).await?;
        // The SKUs that are left are deleted by this write, and their codes become free.
        codes.owners.retain(|_, owner| !left.contains_key(owner));
        let mut skus = Vec::with_capacity(named.len());
        for (position, ((_, v), current)) in named.into_iter().zip(current).enumerate() {
            skus.push(match current {
                Some(old) => {
                    let wanted = v.code.clone().or_else(|| Some(old.code.clone()));
                    let code = codes.claim(wanted, slug, Some(old.id))?;
                    let delta = v.stock.map_or(0, |s| s - old.on_hand);
                    let sku = edited_sku(old, position, code, v, delta)?;
                    movements.extend(self.movement(&sku, delta, reason, now));
                    sku
                }
                None => {
                    let code = codes.claim(v.code.clone(), slug, None)?;
                    self.new_sku(before.id, position, code, v, now)
                }
            });
        }
        Ok(skus)
    }

    /// Writes a product over another: finds the differences between `before` (locked) and `after`, and writes them, the
    /// stock ledger and the event. It sets versions and revisions.
    ///
    /// # Errors
    /// `DUPLICATE`, `VERSION_CONFLICT`, `HAS_SALES` of a SKU that is removed, `Unavailable`.
    pub(crate) async fn save_in(
        &self,
        tx: &mut Tx<'_>,
        before: &Product,
        mut after: Product,
        movements: Vec<StockMovement>,
        kind: EventKind,
    ) -> Result<Product> {
        if *before == after && movements.is_empty() {
            return Ok(after);
        }
        let now = self.cx.now();
        let old: HashMap<SkuId, &Sku> = before.skus.iter().map(|s| (s.id, s)).collect();
        let kept: HashSet<SkuId> = after.skus.iter().map(|s| s.id).collect();

        let removed: Vec<SkuId> = before.skus.iter().map(|s| s.id).filter(|id| !kept.contains(id)).collect();
        self.check_unsold(tx, &removed).await?;
        // SKUs that are removed give up their codes before others take them.
        for gone in before.skus.iter().filter(|s| !kept.contains(&s.id)) {
            let mut deleted = gone.clone();
            deleted.audit.deleted(now, self.who.actor());
            tx.skus().update(gone, &deleted).await?;
        }
        let mut inserted = Vec::new();
        for sku in &mut after.skus {
            match old.get(&sku.id) {
                None => inserted.push(sku.clone()),
                Some(o) if *o != sku => {
                    let on_hand = sku.on_hand;
                    // A change of stock alone moves no version (R1).
                    sku.on_hand = o.on_hand;
                    if *o != sku {
                        sku.audit.edited(now, self.who.actor());
                        tx.skus().update(o, sku).await?;
                    }
                    sku.on_hand = on_hand;
                }
                Some(_) => {}
            }
        }
        after.revision = before.revision + 1;
        after.audit.edited(now, self.who.actor());
        tx.products().update(before, &after).await?;
        let mut details = EventDetails {
            stock: movements.iter().map(Into::into).collect(),
            prices: PriceChange::between(before, &after),
            ..EventDetails::default()
        };
        if !inserted.is_empty() {
            let opening: Vec<StockMovement> = inserted
                .iter()
                .filter_map(|s| self.movement(s, s.on_hand, opening_reason(after.external.as_ref()), now))
                .collect();
            tx.skus().insert(&inserted, &opening).await?;
            details.stock.extend(opening.iter().map(StockChange::from));
        }
        if !movements.is_empty() {
            for touched in tx.inventory().apply(&movements).await? {
                after.revision = touched.revision;
            }
        }
        let mut shown_by = HashSet::from([slug_key(&before.slug), slug_key(&after.slug)]);
        // The documents of categories show counts.
        let counted = before.status != after.status || before.audit.is_live() != after.audit.is_live();
        if counted || before.categories != after.categories {
            shown_by.extend(category_keys(before).chain(category_keys(&after)));
        }
        let change = Change::edited(kind, before, &after, self.who.actor());
        tx.emit(change.shown_by(shown_by).details(details)).await?;
        Ok(after)
    }

    /// Refuses to delete SKUs, which the transaction has locked, if the shop keeps what was sold and an order refers to
    /// one of them (R5).
    async fn check_unsold(&self, tx: &mut Tx<'_>, skus: &[SkuId]) -> Result<()> {
        if !self.cx.config.keep_sold || skus.is_empty() {
            return Ok(());
        }
        match tx.orders().sold_skus(skus).await?.first() {
            Some(sold) => Err(SalesConflict::Kept { entity: Entity::Sku, id: sold.0 }.into()),
            None => Ok(()),
        }
    }

    /// Deletes a product: softly with its SKUs (R2), or for good (R5). Its reviews are hidden or deleted with it.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`; `HAS_SALES` if an order refers to it and it
    /// would be deleted for good, or the shop keeps what was sold
    /// ([`ShopConfig::keep_sold`](crate::config::ShopConfig::keep_sold)).
    pub async fn delete(&self, id: ProductId, expected: ExpectedVersion, mode: DeleteMode) -> Result<()> {
        self.who.require_delete(Permission::ProductsWrite, mode)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected, mode).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(
        &self,
        tx: &mut Tx<'_>,
        id: ProductId,
        expected: ExpectedVersion,
        mode: DeleteMode,
    ) -> Result<()> {
        self.who.require_delete(Permission::ProductsWrite, mode)?;
        tx.started();
        let before = self.lock(tx, id, expected, mode.of()).await?;
        match mode {
            DeleteMode::Soft => {
                if self.cx.config.keep_sold && !tx.orders().sold_products(&[id]).await?.is_empty() {
                    return Err(SalesConflict::Kept { entity: Entity::Product, id: id.0 }.into());
                }
                let now = self.cx.now();
                for sku in &before.skus {
                    let mut gone = sku.clone();
                    gone.audit.deleted(now, self.who.actor());
                    tx.skus().update(sku, &gone).await?;
                }
                let mut deleted = before.clone();
                deleted.audit.deleted(now, self.who.actor());
                deleted.revision += 1;
                tx.products().update(&before, &deleted).await?;
                let change = Change::edited(EventKind::ProductDeleted, &before, &deleted, self.who.actor());
                tx.emit(change.shown_by(shown_by(&before))).await?;
            }
            DeleteMode::Force => {
                let mut whole = before.clone();
                whole.skus = tx.skus().of_product(id, IncludeDeleted::Yes).await?;
                tx.products().purge(&before).await?;
                let was_public = before.audit.is_live() && before.status == ProductStatus::Active;
                let details = EventDetails { was_public, ..EventDetails::default() };
                let change = Change::removed(EventKind::ProductPurged, &whole, self.who.actor()).details(details);
                tx.emit(change.shown_by(shown_by(&before))).await?;
            }
        }
        tx.ended(Ok(()))
    }

    /// Restores a soft-deleted product with the SKUs that were deleted with it (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if it is not deleted, `DUPLICATE` if its slug or a code was taken in between,
    /// `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: ProductId, expected: ExpectedVersion) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: ProductId, expected: ExpectedVersion) -> Result<Product> {
        self.who.require(Permission::ProductsWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected, IncludeDeleted::Yes).await?;
        before.audit.check_deleted("product", id)?;
        if tx.products().taken_slugs(std::slice::from_ref(&before.slug)).await?.contains(before.slug.as_str()) {
            return Err(duplicate(Entity::Product, "slug", before.slug.as_str()));
        }
        // R4: a live product refers to live categories only.
        let shown: Vec<CategoryId> = before.categories.iter().map(|c| c.id).collect();
        let live = tx.categories().get_many(&shown, IncludeDeleted::No).await?;
        if let Some(gone) = shown.iter().find(|id| !live.iter().any(|c| c.id == **id)) {
            return Err(Conflict::State { message: format!("category {gone} is deleted: restore it first") }.into());
        }
        let now = self.cx.now();
        let mut after = before.clone();
        after.skus.clear();
        let skus = tx.skus().of_product(id, IncludeDeleted::Yes).await?;
        for sku in skus {
            if sku.audit.deleted_at == before.audit.deleted_at {
                let mut live = sku.clone();
                live.audit.restored(now, self.who.actor());
                tx.skus().update(&sku, &live).await?;
                after.skus.push(live);
            }
        }
        after.audit.restored(now, self.who.actor());
        after.revision += 1;
        tx.products().update(&before, &after).await?;
        // The SKUs come back as they were.
        let deleted = Product { skus: after.skus.clone(), ..before };
        let change = Change::edited(EventKind::ProductRestored, &deleted, &after, self.who.actor());
        tx.emit(change.shown_by(shown_by(&after))).await?;
        tx.ended(Ok(after))
    }

    pub(crate) fn new_sku(
        &self,
        product_id: ProductId,
        position: usize,
        code: String,
        v: SkuValues,
        now: Timestamp,
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
            track_stock: v.track_stock,
            low_stock_threshold: v.low_stock_threshold,
            barcode: v.barcode,
            external: v.external,
            audit: Audit::created(now, self.who.actor()),
        }
    }

    pub(crate) fn movement(&self, sku: &Sku, delta: i64, reason: StockReason, now: Timestamp) -> Option<StockMovement> {
        (delta != 0).then(|| StockMovement {
            id: StockMovementId(self.cx.ids.next()),
            sku_id: sku.id,
            delta,
            reason,
            reference: None,
            order_line_id: None,
            created_at: now,
            created_by: self.who.actor().clone(),
        })
    }
}

/// Returns `old` with new values. `delta` is the difference for the ledger.
pub(crate) fn edited_sku(old: &Sku, position: usize, code: String, v: SkuValues, delta: i64) -> Result<Sku> {
    let on_hand = old.on_hand + delta;
    if on_hand < old.reserved {
        let shortage = Shortage { sku_id: old.id.0, requested: -delta, available: old.available().max(0) };
        return Err(StockConflict::Insufficient { shortages: vec![shortage] }.into());
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
        track_stock: v.track_stock,
        low_stock_threshold: v.low_stock_threshold,
        barcode: v.barcode,
        external: v.external.or_else(|| old.external.clone()),
        ..old.clone()
    })
}

/// Renames the fields of an error to the flat fields of the product.
fn flat_error(e: Error) -> Error {
    match e {
        Error::Validation(v) => Error::Validation(flat_names(v)),
        e => e,
    }
}

/// Returns true if the library makes the code of one of the SKUs.
fn makes_code(v: &ProductValues) -> bool {
    v.skus.iter().flatten().any(|(_, sku)| sku.code.is_none())
}

fn opening_reason(external: Option<&ExternalRef>) -> StockReason {
    if external.is_some() { StockReason::Import } else { StockReason::Initial }
}

pub(crate) fn duplicate(entity: Entity, field: &'static str, value: impl Into<String>) -> Error {
    Conflict::Duplicate { entity, field, value: value.into() }.into()
}

/// Returns the key of the id of the product with a slug. A lookup that is under way may have found no product yet, and
/// later readers must not join it after the write.
fn slug_key(slug: &Slug) -> CacheKey {
    CacheKey::ProductSlug(text_hash(slug.as_str()))
}

/// Returns the documents, besides its own, that show whether a product is live.
pub(crate) fn shown_by(p: &Product) -> impl Iterator<Item = CacheKey> {
    category_keys(p).chain([slug_key(&p.slug)])
}

/// Returns the documents of the categories that count a product: its own and all above, the tree, and the lists.
fn category_keys(p: &Product) -> impl Iterator<Item = CacheKey> {
    let slugs = p.categories.iter().flat_map(|c| c.path.split('/'));
    let all = (!p.categories.is_empty()).then_some(OF_CATEGORIES);
    slugs.map(|slug| CacheKey::CategorySlug(text_hash(slug))).chain(all.into_iter().flatten())
}

/// Returns an external rating, as an import sets it.
pub(crate) fn external_rating(mean: Rating, count: i64) -> RatingSummary {
    RatingSummary { mean, count, source: RatingSource::External }
}
