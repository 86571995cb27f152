//! Routes of SKUs.

use std::collections::HashMap;

use ecom_core::catalog::{Product, Sku, SkuInput, SkuPatch};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::Percentage;
use ecom_core::text::check_text;
use ecom_core::{Error, FieldCode, Tx, ValidationErrors};
use serde::Deserialize;

use super::product::id_of;
use crate::dto::{Item, List, SkuView};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, ByKey, Force, Id, IfMatchHeader, Json, Key, Numbers, Query, Shape, ShowDeleted, Version, VersionBody,
    unversioned,
};
use crate::headers::{listed, no_content, public};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

/// The part of a product on which the representations of its SKUs depend.
#[derive(Clone, Copy)]
struct Owner {
    discount: Percentage,
    /// The revision of the product. Unlike the version of the SKU, it also increases with changes of stock and
    /// discount.
    revision: i64,
}

impl From<&Product> for Owner {
    fn from(p: &Product) -> Self {
        Self { discount: p.discount, revision: p.revision }
    }
}

impl Owner {
    /// Loads the data of a product, which can be soft-deleted.
    async fn load(reply: &Reply, id: ProductId) -> Result<Self, Error> {
        let products = reply.shop().products();
        match products.get(id).await {
            Ok(found) => Ok(Self::from(&**found.value)),
            Err(Error::NotFound { .. }) => Ok(Self::from(&products.get_fresh(id, IncludeDeleted::Yes).await?)),
            Err(other) => Err(other),
        }
    }
}

/// A SKU with the data of its product on which its representation depends.
struct SkuOf {
    sku: Sku,
    owner: Owner,
}

impl SkuOf {
    async fn load(reply: &Reply, sku: Sku) -> Result<Self, Error> {
        Ok(Self { owner: Owner::load(reply, sku.product_id).await?, sku })
    }

    /// As [`Self::load`], with the product as the transaction that has written the SKU sees it.
    async fn load_in(reply: &Reply, mut tx: Tx<'static>, sku: Sku) -> Result<(Self, Tx<'static>), Error> {
        let product = reply.shop().products().get_in(&mut tx, sku.product_id, IncludeDeleted::No).await?;
        Ok((Self { owner: Owner::from(&product), sku }, tx))
    }

    /// Loads the products of several SKUs. All live products are loaded at once.
    async fn load_many(reply: &Reply, skus: Vec<Sku>) -> Result<Vec<Self>, Error> {
        let ids: Vec<ProductId> = skus.iter().map(|s| s.product_id).collect();
        let live = reply.shop().products().get_many(&ids).await?;
        let mut owners: HashMap<ProductId, Owner> = live.iter().map(|p| (p.id, Owner::from(&***p))).collect();
        let mut all = Vec::with_capacity(skus.len());
        for sku in skus {
            let owner = match owners.get(&sku.product_id) {
                Some(owner) => *owner,
                None => *owners.entry(sku.product_id).or_insert(Owner::load(reply, sku.product_id).await?),
            };
            all.push(Self { sku, owner });
        }
        Ok(all)
    }
}

impl Shown for SkuOf {
    const FIELDS: &'static [&'static str] = SkuView::FIELDS;
    type View<'a> = SkuView<'a>;

    fn view(&self, format: &Format) -> SkuView<'_> {
        SkuView::of(&self.sku, self.owner.discount, format.numbers)
    }
}

impl Resource for SkuOf {
    const COLLECTION: &'static str = "/skus";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.sku.id.0, version: self.sku.audit.version, revision: self.owner.revision }
    }
}

/// List the SKUs of a product
#[utoipa::path(
    get, path = "/products/{id}/skus", tag = "skus", security(()), params(ByKey, Shape, ShowDeleted),
    responses((status = 200, description = "All SKUs of the product, by position", body = List<SkuView>))
)]
pub(crate) async fn of_product(
    reply: Reply,
    key: Key,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<SkuOf>(&shape)?;
    let product = id_of(&reply, key).await?;
    let skus = reply.shop().skus().of_product(product, deleted.choice()).await?;
    let skus = SkuOf::load_many(&reply, skus).await?;
    Ok(listed(reply.all(skus.iter(), &format)?, deleted.choice(), None))
}

/// The parameters of a lookup of SKUs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindParams {
    /// The code of the SKU, ignoring case.
    #[serde(default)]
    code: Option<String>,
    /// The barcode of the SKUs, compared exactly. Several SKUs can have the same. It cannot be combined with `code`.
    #[serde(default)]
    barcode: Option<String>,
}

/// Find SKUs
///
/// Finds live SKUs by their code or by their barcode. Exactly one of the two is required. If no SKU has it, the list is
/// empty.
#[utoipa::path(
    get, path = "/skus", tag = "skus", security(()), params(FindParams, Shape),
    responses((status = 200, description = "The matching SKUs", body = List<SkuView>))
)]
pub(crate) async fn find(reply: Reply, Query((p, shape)): Query<(FindParams, Shape)>) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let format = reply.format::<SkuOf>(&shape, &mut errors);
    for (field, text) in [("code", &p.code), ("barcode", &p.barcode)] {
        if let Some(t) = text {
            check_text(field, t, 1, 100, &mut errors);
        }
    }
    match (&p.code, &p.barcode) {
        (None, None) => errors.push("code", FieldCode::Required, "is required if there is no `barcode`"),
        (Some(_), Some(_)) => {
            errors.push("barcode", FieldCode::Inconsistent, "cannot be combined with `code`: send one of the two");
        }
        _ => {}
    }
    errors.into_result()?;
    let skus = match (&p.code, &p.barcode) {
        (Some(code), _) => match reply.shop().skus().get_by_code(code).await {
            Ok(sku) => vec![sku],
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(other) => return Err(other.into()),
        },
        (None, Some(barcode)) => reply.shop().skus().find_by_barcode(barcode).await?,
        (None, None) => Vec::new(),
    };
    let skus = SkuOf::load_many(&reply, skus).await?;
    Ok(public(reply.all(skus.iter(), &format)?, None, None))
}

/// Read a SKU
#[utoipa::path(
    get, path = "/skus/{id}", tag = "skus", security(()), params(ById, Shape, ShowDeleted),
    responses((status = 200, description = "The SKU", body = Item<SkuView>), NotModified)
)]
pub(crate) async fn read(
    reply: Reply,
    Id(id): Id<SkuId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<SkuOf>(&shape)?;
    let sku = SkuOf::load(&reply, reply.shop().skus().get(id, deleted.choice()).await?).await?;
    match deleted.choice() {
        IncludeDeleted::Yes => reply.private(&sku, &format),
        IncludeDeleted::No => reply.public(&sku, &format, None),
    }
}

/// Add a SKU to a product
#[utoipa::path(
    post, path = "/products/{id}/skus", tag = "skus",
    security(("bearer" = ["products:write"])), params(ById, Numbers), request_body = SkuInput,
    responses((status = 201, description = "The created SKU; the header `Location` has its path", body = Item<SkuView>))
)]
pub(crate) async fn create(
    reply: Reply,
    Id(product): Id<ProductId>,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<SkuInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let skus = reply.shop().skus();
    let plain = async { SkuOf::load(&reply, skus.create(product, &input).await?).await };
    let within = |mut tx| async {
        let made = skus.create_in(&mut tx, product, &input).await?;
        SkuOf::load_in(&reply, tx, made).await
    };
    let render = |made: &_| reply.created::<SkuOf>(made, &numbers);
    Ok(keyed.answer(&reply, plain, within, render).await?)
}

/// Replace a SKU
///
/// Fields that the request leaves out are cleared, except `code`, `stock`, `source` and `external_id`; the low-stock
/// threshold becomes 5, and `track_stock` becomes true.
#[utoipa::path(
    put, path = "/skus/{id}", tag = "skus",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Numbers), request_body = SkuInput,
    responses((status = 200, description = "The replaced SKU", body = Item<SkuView>))
)]
pub(crate) async fn replace(
    w: Write<SkuId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<SkuInput>,
) -> ApiResult {
    if input.id.is_some_and(|sent| sent != w.id) {
        return Err(ApiError::field("id", FieldCode::Inconsistent, "must be the id in the path, or be left out"));
    }
    let read = w.read(input.version)?;
    let done = w.shop().skus().replace(w.id, read, &input).await;
    w.written(&SkuOf::load(&w, w.done(done)?).await?, &numbers)
}

/// Change a SKU
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/skus/{id}", tag = "skus",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Numbers), request_body = SkuPatch,
    responses((status = 200, description = "The changed SKU", body = Item<SkuView>))
)]
pub(crate) async fn patch(
    w: Write<SkuId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<SkuPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().skus().patch(w.id, read, patch).await;
    w.written(&SkuOf::load(&w, w.done(done)?).await?, &numbers)
}

/// Delete a SKU
///
/// The SKU is soft-deleted and can be restored, unless `force` deletes it permanently. The last SKU of a product cannot
/// be deleted.
#[utoipa::path(
    delete, path = "/skus/{id}", tag = "skus",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Force, Version),
    responses((status = 204, description = "The SKU is deleted"))
)]
pub(crate) async fn delete(w: Write<SkuId>, Query((force, version)): Query<(Force, Version)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().skus().delete(w.id, read, force.mode()).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted SKU
///
/// Its product must not be soft-deleted.
#[utoipa::path(
    post, path = "/skus/{id}/restore", tag = "skus",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Version, Numbers),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored SKU", body = Item<SkuView>))
)]
pub(crate) async fn restore(
    w: Write<SkuId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let skus = w.shop().skus();
    let plain = async { SkuOf::load(&w, skus.restore(w.id, read).await?).await };
    let within = |mut tx| async {
        let restored = skus.restore_in(&mut tx, w.id, read).await?;
        SkuOf::load_in(&w, tx, restored).await
    };
    let render = |restored: &_| w.written::<SkuOf>(restored, &numbers);
    w.done(keyed.answer(&w, plain, within, render).await)
}
