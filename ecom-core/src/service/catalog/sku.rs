//! SKUs. A SKU is part of its product: whoever writes one writes the product, under the product's lock.

use std::sync::Arc;

use crate::domain::catalog::product::Product;
use crate::domain::catalog::sku::{DimensionsPatch, Sku, SkuInput, SkuPatch, SkuValues};
use crate::domain::common::{Actor, Attributes, DeleteMode, Deleted, Patch, Read};
use crate::domain::platform::outbox::EventKind;
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::check_currency;
use crate::port::storage::UnitOfWork;
use crate::service::catalog::product::ProductService;
use crate::service::catalog::product::{CodeBook, edited_sku};
use crate::service::run::context::Context;
use crate::service::run::retry::{or_next_name, retrying};
use crate::text::{is_name, shown};

/// The most live SKUs of a product.
pub const MAX_SKUS: usize = 200;

/// The SKUs of a shop.
#[derive(Debug, Clone, Copy)]
pub struct SkuService<'a> {
    cx: &'a Arc<Context>,
}

impl<'a> SkuService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>) -> Self {
        Self { cx }
    }

    /// A SKU, soft-deleted ones where asked (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: SkuId, deleted: Deleted) -> Result<Sku> {
        let found = self.cx.storage.connect().await?.skus().get(id, deleted).await?;
        found.ok_or_else(|| Error::not_found(Entity::Sku, id))
    }

    /// The live SKU with a code, case-insensitively.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_code(&self, code: &str) -> Result<Sku> {
        let found = if is_name(code) { self.cx.storage.connect().await?.skus().get_by_code(code).await? } else { None };
        found.ok_or_else(|| Error::not_found(Entity::Sku, shown(code)))
    }

    /// Live SKUs with a barcode, at most 100.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_by_barcode(&self, barcode: &str) -> Result<Vec<Sku>> {
        if !is_name(barcode) {
            return Ok(Vec::new());
        }
        self.cx.storage.connect().await?.skus().find_by_barcode(barcode).await
    }

    /// The SKUs of a live product by position, soft-deleted ones where asked.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn of_product(&self, product: ProductId, deleted: Deleted) -> Result<Vec<Sku>> {
        let mut db = self.cx.storage.connect().await?;
        let found = db.products().get(product, deleted).await?;
        let found = found.ok_or_else(|| Error::not_found(Entity::Product, product))?;
        match deleted {
            Deleted::Hide => Ok(found.skus),
            Deleted::Include => db.skus().of_product(product, deleted).await,
        }
    }

    /// Adds a SKU to a product, as its last.
    ///
    /// # Errors
    /// `NotFound`, `Validation`, `CURRENCY_MISMATCH`, `DUPLICATE`, `Unavailable`.
    pub async fn create(&self, product: ProductId, input: &SkuInput, actor: &Actor) -> Result<Sku> {
        let values = self.check(input)?;
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let before = lock_product(&mut *tx, product).await?;
            check_room(&before)?;
            let mut codes = CodeBook::of(&mut *tx, &before.slug, values.code.clone()).await?;
            let code = codes.claim(values.code.clone(), &before.slug, None)?;
            let position = before.skus.iter().map(|s| s.position).max().map_or(0, |p| p + 1);
            let made = values.code.is_none();
            let sku = ProductService::new(self.cx).new_sku(
                product,
                usize::try_from(position).unwrap_or(0),
                code,
                values.clone(),
                self.cx.now(),
                actor,
            );
            let id = sku.id;
            let mut after = before.clone();
            after.skus.push(sku);
            let saved = self.save(tx, &before, after, Vec::new(), id, actor).await;
            or_next_name(saved, |field| made && field == "code")
        })
        .await
    }

    /// Replaces a SKU (PUT, R1); stock that is not said stays.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `INSUFFICIENT_STOCK` where stock would go under what is
    /// reserved, and those of [`Self::create`].
    pub async fn replace(&self, id: SkuId, read: Read, input: &SkuInput, actor: &Actor) -> Result<Sku> {
        let values = self.check(input)?;
        self.write(id, read, actor, |_| Ok(values.clone())).await
    }

    /// Merges a patch into a SKU (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: SkuId, read: Read, patch: SkuPatch, actor: &Actor) -> Result<Sku> {
        self.write(id, read, actor, |sku| self.check(&merge(sku, patch.clone())?)).await
    }

    async fn write(
        &self,
        id: SkuId,
        read: Read,
        actor: &Actor,
        change: impl Fn(&Sku) -> Result<SkuValues> + Send + Sync,
    ) -> Result<Sku> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let (before, at) = lock_live(&mut *tx, id).await?;
            let old = &before.skus[at];
            read.check(Entity::Sku, id, old.audit.version, self.cx.config.last_write_wins)?;
            let values = change(old)?;
            let mut codes = CodeBook::of(&mut *tx, &before.slug, values.code.clone()).await?;
            let wanted = values.code.clone().or_else(|| Some(old.code.clone()));
            let code = codes.claim(wanted, &before.slug, Some(id))?;
            let delta = values.stock.map_or(0, |s| s - old.on_hand);
            let sku = edited_sku(old, usize::try_from(old.position).unwrap_or(0), code, values, delta)?;
            let movements: Vec<StockMovement> = ProductService::new(self.cx)
                .movement(&sku, delta, StockReason::Adjustment, self.cx.now(), actor)
                .into_iter()
                .collect();
            let mut after = before.clone();
            after.skus[at] = sku;
            self.save(tx, &before, after, movements, id, actor).await
        })
        .await
    }

    async fn save(
        &self,
        mut tx: Box<dyn UnitOfWork>,
        before: &Product,
        after: Product,
        movements: Vec<StockMovement>,
        id: SkuId,
        actor: &Actor,
    ) -> Result<Sku> {
        let (product, commit) = ProductService::new(self.cx)
            .save_in(&mut *tx, before, after, movements, EventKind::ProductUpdated, actor)
            .await?;
        tx.commit().await?;
        commit.run_in(self.cx).await;
        product
            .skus
            .into_iter()
            .find(|s| s.id == id)
            .ok_or_else(|| Error::Internal { context: "a written SKU is missing", source: None })
    }

    /// Deletes a SKU: softly (R2), or for good (R5). A product keeps at least one.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `STATE_CONFLICT` for the last SKU of a product,
    /// `HAS_SALES`, `Unavailable`.
    pub async fn delete(&self, id: SkuId, read: Read, mode: DeleteMode, actor: &Actor) -> Result<()> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let found = tx.skus().get(id, Deleted::Include).await?;
            let found = found.ok_or_else(|| Error::not_found(Entity::Sku, id))?;
            let before = lock_product(&mut *tx, found.product_id).await?;
            // Read again, now that its product is locked.
            let found = tx.skus().get(id, Deleted::Include).await?;
            let found = found.ok_or_else(|| Error::not_found(Entity::Sku, id))?;
            if mode == DeleteMode::Soft && !found.audit.is_live() {
                return Err(Error::not_found(Entity::Sku, id));
            }
            read.check(Entity::Sku, id, found.audit.version, self.cx.config.last_write_wins)?;
            let mut after = before.clone();
            after.skus.retain(|s| s.id != id);
            if after.skus.is_empty() {
                let message =
                    format!("SKU {id} is the last one of its product: delete the product, or add another first");
                return Err(Conflict::State { message }.into());
            }
            let (_, commit) = ProductService::new(self.cx)
                .save_in(&mut *tx, &before, after, Vec::new(), EventKind::ProductUpdated, actor)
                .await?;
            if mode == DeleteMode::Force {
                tx.skus().purge(id).await?;
            }
            tx.commit().await?;
            commit.run_in(self.cx).await;
            Ok(())
        })
        .await
    }

    /// Restores a soft-deleted SKU of a live product (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` where it is not deleted or its product is, `DUPLICATE` where its code was taken
    /// in between, `VERSION_CONFLICT`, `VERSION_REQUIRED`.
    pub async fn restore(&self, id: SkuId, read: Read, actor: &Actor) -> Result<Sku> {
        retrying(self.cx, || async {
            let mut tx = self.cx.storage.begin().await?;
            let found = tx.skus().get(id, Deleted::Include).await?;
            let found = found.ok_or_else(|| Error::not_found(Entity::Sku, id))?;
            let before = lock_product(&mut *tx, found.product_id).await.map_err(|e| match e {
                Error::NotFound { .. } => {
                    let message = format!("the product {} is deleted; restore it first", found.product_id);
                    Conflict::State { message }.into()
                }
                e => e,
            })?;
            let found = tx.skus().get(id, Deleted::Include).await?;
            let found = found.ok_or_else(|| Error::not_found(Entity::Sku, id))?;
            if found.audit.is_live() {
                return Err(Conflict::State { message: format!("SKU {id} is not deleted") }.into());
            }
            read.check(Entity::Sku, id, found.audit.version, self.cx.config.last_write_wins)?;
            check_room(&before)?;
            CodeBook::of(&mut *tx, &before.slug, Some(found.code.clone())).await?.claim(
                Some(found.code.clone()),
                &before.slug,
                Some(id),
            )?;
            let mut live = found.clone();
            live.audit.restored(self.cx.now(), actor);
            tx.skus().update(&found, &live).await?;
            // From here on it is one of the product's own, so the product's write finds nothing to do for it.
            let mut with = before.clone();
            with.skus.push(live.clone());
            with.skus.sort_by_key(|s| (s.position, s.id));
            let mut edited = with.clone();
            edited.revision += 1;
            edited.audit.edited(self.cx.now(), actor);
            tx.products().update(&before, &edited).await?;
            let event = self.cx.event(EventKind::ProductUpdated, edited.id, edited.revision, actor);
            tx.outbox().append(&[event]).await?;
            tx.commit().await?;
            crate::service::run::after_commit::AfterCommit::of(crate::service::catalog::product::keys_of(&edited))
                .run_in(self.cx)
                .await;
            Ok(live)
        })
        .await
    }

    fn check(&self, input: &SkuInput) -> Result<SkuValues> {
        check_currency(input.currency.as_deref(), self.cx.config.currency)?;
        let mut errors = ValidationErrors::default();
        let values = input.check("", self.cx.config.currency, &mut errors);
        errors.into_result()?;
        values.ok_or_else(|| Error::Internal { context: "an invalid SKU names no field", source: None })
    }
}

/// Refuses one more SKU where the product has as many as it may.
fn check_room(product: &Product) -> Result<()> {
    if product.skus.len() >= MAX_SKUS {
        let message = format!("a product has at most {MAX_SKUS} SKUs");
        return Err(Error::invalid("product_id", FieldCode::OutOfBounds, message));
    }
    Ok(())
}

/// Locks the live product `id`.
async fn lock_product(tx: &mut dyn UnitOfWork, id: ProductId) -> Result<Product> {
    let found = tx.products().lock(&[id]).await?.pop().filter(|p| p.audit.is_live());
    found.ok_or_else(|| Error::not_found(Entity::Product, id))
}

/// Locks the product of a live SKU, and says where in it the SKU is.
async fn lock_live(tx: &mut dyn UnitOfWork, id: SkuId) -> Result<(Product, usize)> {
    let gone = || Error::not_found(Entity::Sku, id);
    let product = tx.skus().get(id, Deleted::Hide).await?.ok_or_else(gone)?.product_id;
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
    match patch.attributes {
        Patch::Keep => {}
        Patch::Clear => s.attributes = Attributes::default(),
        Patch::Set(a) => s.attributes.merge(&a),
    }
    require(patch.price, &mut s.price, "price", &mut e);
    s.currency = patch.currency;
    patch.weight.apply(&mut s.weight);
    DimensionsPatch::merge(patch.dimensions, &mut s.dimensions, &mut e);
    require(patch.stock, &mut s.stock, "stock", &mut e);
    require(patch.low_stock_threshold, &mut s.low_stock_threshold, "low_stock_threshold", &mut e);
    patch.barcode.apply(&mut s.barcode);
    e.into_result()?;
    Ok(s)
}
