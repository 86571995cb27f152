//! SKUs. A SKU is part of its product: a write of a SKU is a write of its product, under the product's lock.

use std::collections::HashSet;
use std::sync::Arc;

use super::product::names::CodeBook;
use super::product::{ProductService, edited_sku, shown_by};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::product::Product;
use crate::domain::catalog::sku::{DimensionsPatch, Sku, SkuInput, SkuPatch, SkuValues, check_untracked};
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::platform::outbox::EventKind;
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::check_currency;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::text::{is_name, shown};

/// The most live SKUs of a product.
pub const MAX_SKUS: usize = 200;

/// The service of the SKUs of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, product: ecom_core::id::ProductId) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::SkuInput;
///
/// let large = SkuInput::new("12.50 USD".parse()?).code("TEA-100").option("size", "100 g").stock(25);
/// let large = shop.skus().create(product, &large).await?;
/// assert_eq!(shop.skus().get_by_code("tea-100").await?.id, large.id);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SkuService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> SkuService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a SKU; soft-deleted ones only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: SkuId, deleted: IncludeDeleted) -> Result<Sku> {
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.skus().get(id, deleted).await?;
        self.shown(found.into_iter().collect()).await?.pop().ok_or_else(|| Error::not_found(Entity::Sku, id))
    }

    /// Returns those of some SKUs whose products the principal may read.
    async fn shown(&self, mut skus: Vec<Sku>) -> Result<Vec<Sku>> {
        let products = ProductService::new(self.cx, self.who);
        if !skus.is_empty() && !products.reads_all() {
            let ids: Vec<ProductId> = skus.iter().map(|sku| sku.product_id).collect();
            let shown: HashSet<ProductId> = products.get_many(&ids).await?.iter().map(|product| product.id).collect();
            skus.retain(|sku| shown.contains(&sku.product_id));
        }
        Ok(skus)
    }

    /// Returns the live SKU with a code, ignoring case.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_code(&self, code: &str) -> Result<Sku> {
        let found = if is_name(code) { self.cx.storage.connect().await?.skus().get_by_code(code).await? } else { None };
        let found = self.shown(found.into_iter().collect()).await?.pop();
        found.ok_or_else(|| Error::not_found(Entity::Sku, shown(code)))
    }

    /// Returns live SKUs with a barcode, at most 100.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_by_barcode(&self, barcode: &str) -> Result<Vec<Sku>> {
        if !is_name(barcode) {
            return Ok(Vec::new());
        }
        self.shown(self.cx.storage.connect().await?.skus().find_by_barcode(barcode).await?).await
    }

    /// Returns the SKUs of a live product by position; soft-deleted ones only if `deleted` asks for them.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn of_product(&self, product: ProductId, deleted: IncludeDeleted) -> Result<Vec<Sku>> {
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        let found = db.products().get(product, deleted).await?;
        let found = found.filter(|found| ProductService::new(self.cx, self.who).shows(found));
        let found = found.ok_or_else(|| Error::not_found(Entity::Product, product))?;
        match deleted {
            IncludeDeleted::No => Ok(found.skus),
            IncludeDeleted::Yes => db.skus().of_product(product, deleted).await,
        }
    }

    /// Adds a SKU to a product, as its last one.
    ///
    /// # Errors
    /// `NotFound`, `Validation`, `CURRENCY_MISMATCH`, `DUPLICATE`, `Unavailable`.
    pub async fn create(&self, product: ProductId, input: &SkuInput) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        self.check(input, true)?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, product, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`]. [`Error::Contention`] if another transaction took the code that the library was about to
    /// make.
    pub async fn create_in(&self, tx: &mut Tx<'_>, product: ProductId, input: &SkuInput) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        let values = self.check(input, true)?;
        let made = values.code.is_none();
        tx.started();
        let before = lock_product(tx, product).await?;
        check_room(&before)?;
        let mut codes = CodeBook::of(tx, &before.slug, values.code.clone()).await?;
        let code = codes.claim(values.code.clone(), &before.slug, None)?;
        let position = before.skus.iter().map(|s| s.position).max().map_or(0, |p| p + 1);
        let position = usize::try_from(position).unwrap_or(0);
        let products = ProductService::new(self.cx, self.who);
        let sku = products.new_sku(product, position, code, values, self.cx.now());
        let id = sku.id;
        let mut after = before.clone();
        after.skus.push(sku);
        let saved = self.save(tx, &before, after, Vec::new(), id).await;
        let written = tx.or_next_name(saved, |field| made && field == "code");
        tx.ended(written)
    }

    /// Replaces a SKU (PUT, R1). If the input has no stock, the stock stays.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `INSUFFICIENT_STOCK` if stock would go under what is
    /// reserved, and those of [`Self::create`].
    pub async fn replace(&self, id: SkuId, expected: ExpectedVersion, input: &SkuInput) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(input.version)?;
        self.check(input, false)?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: SkuId,
        expected: ExpectedVersion,
        input: &SkuInput,
    ) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = self.check(input, false)?;
        tx.started();
        let written = self.write_in(tx, id, expected, |_| Ok(values)).await;
        tx.ended(written)
    }

    /// Merges a patch into a SKU (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: SkuId, expected: ExpectedVersion, patch: SkuPatch) -> Result<Sku> {
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
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: SkuId,
        expected: ExpectedVersion,
        patch: SkuPatch,
    ) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let written = self.write_in(tx, id, expected, |sku| self.check(&merge(sku, patch)?, false)).await;
        tx.ended(written)
    }

    async fn write_in(
        &self,
        tx: &mut Tx<'_>,
        id: SkuId,
        expected: ExpectedVersion,
        change: impl FnOnce(&Sku) -> Result<SkuValues> + Send,
    ) -> Result<Sku> {
        let (before, at) = lock_live(tx, id).await?;
        let old = &before.skus[at];
        expected.check(Entity::Sku, id, old.audit.version, self.cx.config.last_write_wins)?;
        let values = change(old)?;
        let mut errors = ValidationErrors::default();
        check_untracked("stock", values.track_stock, values.stock, old.on_hand, &mut errors);
        errors.into_result()?;
        let mut codes = CodeBook::of(tx, &before.slug, values.code.clone()).await?;
        let wanted = values.code.clone().or_else(|| Some(old.code.clone()));
        let code = codes.claim(wanted, &before.slug, Some(id))?;
        let delta = values.stock.map_or(0, |s| s - old.on_hand);
        let sku = edited_sku(old, usize::try_from(old.position).unwrap_or(0), code, values, delta)?;
        let movements: Vec<StockMovement> = ProductService::new(self.cx, self.who)
            .movement(&sku, delta, StockReason::Adjustment, self.cx.now())
            .into_iter()
            .collect();
        let mut after = before.clone();
        after.skus[at] = sku;
        self.save(tx, &before, after, movements, id).await
    }

    async fn save(
        &self,
        tx: &mut Tx<'_>,
        before: &Product,
        after: Product,
        movements: Vec<StockMovement>,
        id: SkuId,
    ) -> Result<Sku> {
        let products = ProductService::new(self.cx, self.who);
        let product = products.save_in(tx, before, after, movements, EventKind::ProductUpdated).await?;
        let written = product.skus.into_iter().find(|s| s.id == id);
        written.ok_or(Error::Internal { context: "a written SKU is missing", source: None })
    }

    /// Deletes a SKU: softly (R2), or for good (R5), also if it or its product is soft-deleted. A product keeps at
    /// least one SKU, and a soft-deleted product keeps at least one of those that its restore brings back.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `STATE_CONFLICT` for the last SKU of a product,
    /// `Unavailable`; `HAS_SALES` if an order refers to it and it would be deleted for good, or the shop keeps what was
    /// sold ([`ShopConfig::keep_sold`](crate::config::ShopConfig::keep_sold)).
    pub async fn delete(&self, id: SkuId, expected: ExpectedVersion, mode: DeleteMode) -> Result<()> {
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
        id: SkuId,
        expected: ExpectedVersion,
        mode: DeleteMode,
    ) -> Result<()> {
        self.who.require_delete(Permission::ProductsWrite, mode)?;
        let gone = || Error::not_found(Entity::Sku, id);
        tx.started();
        let found = tx.skus().get(id, IncludeDeleted::Yes).await?.ok_or_else(gone)?;
        let before = match mode {
            DeleteMode::Soft => lock_product(tx, found.product_id).await?,
            DeleteMode::Force => tx.products().lock(&[found.product_id]).await?.pop().ok_or_else(gone)?,
        };
        // Read again, now that its product is locked.
        let found = tx.skus().get(id, mode.of()).await?.ok_or_else(gone)?;
        expected.check(Entity::Sku, id, found.audit.version, self.cx.config.last_write_wins)?;
        let mut after = before.clone();
        if !before.audit.is_live() {
            // The SKUs that a restore of the product brings back.
            after.skus = tx.skus().of_product(before.id, IncludeDeleted::Yes).await?;
            after.skus.retain(|s| s.audit.deleted_at == before.audit.deleted_at);
        }
        after.skus.retain(|s| s.id != id);
        if after.skus.is_empty() {
            let advice = if before.audit.is_live() {
                "delete the product, or add another SKU first"
            } else {
                "delete the product permanently"
            };
            let message = format!("SKU {id} is the last SKU of its product: {advice}");
            return Err(Conflict::State { message }.into());
        }
        if found.audit.is_live() {
            let products = ProductService::new(self.cx, self.who);
            products.save_in(tx, &before, after, Vec::new(), EventKind::ProductUpdated).await?;
        } else {
            // The product shows the same as before, but its events report every write (R13).
            after.revision += 1;
            after.audit.edited(self.cx.now(), self.who.actor());
            tx.products().update(&before, &after).await?;
            // The audit log has the SKU that is removed.
            let mut with_sku = after.clone();
            with_sku.skus.push(found);
            let change = Change::edited(EventKind::ProductUpdated, &with_sku, &after, self.who.actor());
            tx.emit(change.shown_by(shown_by(&after))).await?;
        }
        if mode == DeleteMode::Force {
            tx.skus().purge(id).await?;
        }
        tx.ended(Ok(()))
    }

    /// Restores a soft-deleted SKU of a live product (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if it is not deleted or its product is, `DUPLICATE` if its code was taken in
    /// between, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: SkuId, expected: ExpectedVersion) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: SkuId, expected: ExpectedVersion) -> Result<Sku> {
        self.who.require(Permission::ProductsWrite)?;
        let gone = || Error::not_found(Entity::Sku, id);
        tx.started();
        let found = tx.skus().get(id, IncludeDeleted::Yes).await?.ok_or_else(gone)?;
        let before = lock_product(tx, found.product_id).await.map_err(|e| match e {
            Error::NotFound { .. } => {
                let message = format!("product {} is deleted: restore it first", found.product_id);
                Conflict::State { message }.into()
            }
            e => e,
        })?;
        let found = tx.skus().get(id, IncludeDeleted::Yes).await?.ok_or_else(gone)?;
        found.audit.check_deleted("SKU", id)?;
        expected.check(Entity::Sku, id, found.audit.version, self.cx.config.last_write_wins)?;
        check_room(&before)?;
        let mut codes = CodeBook::of(tx, &before.slug, Some(found.code.clone())).await?;
        codes.claim(Some(found.code.clone()), &before.slug, Some(id))?;
        let mut live = found.clone();
        live.audit.restored(self.cx.now(), self.who.actor());
        tx.skus().update(&found, &live).await?;
        let mut edited = before.clone();
        edited.skus.push(live.clone());
        edited.skus.sort_by_key(|s| (s.position, s.id));
        edited.revision += 1;
        edited.audit.edited(self.cx.now(), self.who.actor());
        tx.products().update(&before, &edited).await?;
        let change = Change::edited(EventKind::ProductUpdated, &before, &edited, self.who.actor());
        tx.emit(change.shown_by(shown_by(&edited))).await?;
        tx.ended(Ok(live))
    }

    fn check(&self, input: &SkuInput, new: bool) -> Result<SkuValues> {
        check_currency(input.currency.as_deref(), self.cx.config.currency)?;
        let mut errors = ValidationErrors::default();
        let values = input.check("", self.cx.config.currency, new, &mut errors);
        errors.into_result()?;
        values.ok_or_else(|| Error::Internal { context: "an invalid SKU names no field", source: None })
    }
}

/// Refuses a further SKU if the product has the most that it may have.
fn check_room(product: &Product) -> Result<()> {
    if product.skus.len() >= MAX_SKUS {
        let message = format!("must be a product with fewer than {MAX_SKUS} SKUs");
        return Err(Error::invalid("product_id", FieldCode::OutOfBounds, message));
    }
    Ok(())
}

/// Locks the live product `id`.
async fn lock_product(tx: &mut Tx<'_>, id: ProductId) -> Result<Product> {
    let found = tx.products().lock(&[id]).await?.pop().filter(|p| p.audit.is_live());
    found.ok_or_else(|| Error::not_found(Entity::Product, id))
}

/// Locks the product of a live SKU, and returns the position of the SKU in it.
async fn lock_live(tx: &mut Tx<'_>, id: SkuId) -> Result<(Product, usize)> {
    let gone = || Error::not_found(Entity::Sku, id);
    let product = tx.skus().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?.product_id;
    let before = lock_product(tx, product).await.map_err(|e| match e {
        Error::NotFound { .. } => gone(),
        e => e,
    })?;
    let at = before.skus.iter().position(|s| s.id == id).ok_or_else(gone)?;
    Ok((before, at))
}

fn merge(sku: &Sku, patch: SkuPatch) -> Result<SkuInput> {
    use crate::domain::catalog::product::require;
    let mut e = ValidationErrors::default();
    let mut s = SkuInput::from(sku);
    require(patch.code, &mut s.code, "code", &mut e);
    match patch.option_values {
        Patch::Keep => {}
        Patch::Clear => s.option_values.clear(),
        Patch::Set(changes) => {
            for (name, value) in changes {
                match value {
                    Some(v) => s.option_values.insert(name, v),
                    None => s.option_values.remove(&name),
                };
            }
        }
    }
    patch.attributes.merge_into(&mut s.attributes);
    require(patch.price, &mut s.price, "price", &mut e);
    s.currency = patch.currency;
    patch.weight.apply(&mut s.weight);
    DimensionsPatch::merge(patch.dimensions, &mut s.dimensions, &mut e);
    require(patch.stock, &mut s.stock, "stock", &mut e);
    require(patch.track_stock, &mut s.track_stock, "track_stock", &mut e);
    require(patch.low_stock_threshold, &mut s.low_stock_threshold, "low_stock_threshold", &mut e);
    patch.barcode.apply(&mut s.barcode);
    e.into_result()?;
    Ok(s)
}
