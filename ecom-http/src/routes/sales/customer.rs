//! Routes of customers and of their addresses. All responses contain personal data, so shared caches must not store
//! them.

use ecom_core::id::{AddressId, CustomerId};
use ecom_core::platform::AnswerSubject;
use ecom_core::sales::{
    Address, AddressFilter, AddressInput, AddressPatch, Customer, CustomerFilter, CustomerInput, CustomerPatch,
    CustomerSort,
};
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{AddressView, CustomerView, Item, List};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, Cursor, Force, Id, IfMatchHeader, Json, NoBody, Pages, Picked, Query, ShowDeleted, Version, VersionBody,
    unversioned, word,
};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Customer {
    const FIELDS: &'static [&'static str] = CustomerView::FIELDS;
    type View<'a> = CustomerView<'a>;

    fn view(&self, _: &Format) -> CustomerView<'_> {
        self.into()
    }
}

impl Resource for Customer {
    const COLLECTION: &'static str = "/customers";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }

    fn subject(&self) -> Option<AnswerSubject> {
        self.erased_at.is_none().then_some(AnswerSubject::Customer(self.id))
    }
}

impl Shown for Address {
    const FIELDS: &'static [&'static str] = AddressView::FIELDS;
    type View<'a> = AddressView<'a>;

    fn view(&self, _: &Format) -> AddressView<'_> {
        self.into()
    }
}

impl Resource for Address {
    const COLLECTION: &'static str = "/addresses";

    fn stamp(&self) -> Stamp {
        // A deletion and a restore of the customer change the representation, but not the version.
        let revision = self.audit.deleted_at.map_or(self.audit.version, |at| at.timestamp_micros());
        Stamp { id: self.id.0, version: self.audit.version, revision }
    }

    fn subject(&self) -> Option<AnswerSubject> {
        Some(AnswerSubject::Customer(self.customer_id))
    }
}

/// The filters of a list of customers.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CustomerParams {
    /// The sort order: `created_desc` (default), `created_asc` or `name_asc` (by last name, then first name).
    #[serde(default)]
    sort: Option<String>,
    /// Lists only customers whose full name begins with this text, ignoring case. The full name is the last name and
    /// the first name, or the first name and the last name.
    #[serde(default)]
    name: Option<String>,
    /// Lists only the customer with this email address, ignoring case.
    #[serde(default)]
    email: Option<String>,
}

/// List customers
#[utoipa::path(
    get, path = "/customers", tag = "customers",
    security(("bearer" = ["customers:read"])), params(Pages, Cursor, Picked, ShowDeleted, CustomerParams),
    responses((status = 200, description = "A page of customers", body = List<CustomerView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, picked, deleted, p)): Query<(Pages, Cursor, Picked, ShowDeleted, CustomerParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let sort = word("sort", p.sort.as_deref(), &CustomerSort::ALL, CustomerSort::as_str, &mut errors);
    let sort = sort.unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let format = reply.format::<Customer>(&picked, &mut errors);
    let filter = CustomerFilter { name: p.name, email: p.email, include_deleted: deleted.choice() };
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().customers().list(&filter, sort, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Create a customer
#[utoipa::path(
    post, path = "/customers", tag = "customers",
    security(("bearer" = ["customers:write"])), request_body = CustomerInput,
    responses(
        (status = 201, description = "The created customer; `Location` has its path", body = Item<CustomerView>),
    )
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<CustomerInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let customers = reply.shop().customers();
    let within = |mut tx| async { Ok((customers.create_in(&mut tx, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Customer>(made, &());
    Ok(keyed.answer(&reply, customers.create(&input), within, render).await?)
}

/// Read a customer
#[utoipa::path(
    get, path = "/customers/{id}", tag = "customers",
    security(("bearer" = ["customers:read"]), ("bearer" = ["own"])), params(ById, Picked, ShowDeleted),
    responses((status = 200, description = "The customer", body = Item<CustomerView>), NotModified)
)]
pub(crate) async fn read(
    reply: Reply,
    Id(id): Id<CustomerId>,
    Query((picked, deleted)): Query<(Picked, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<Customer>(&picked)?;
    reply.personal(&reply.shop().customers().get(id, deleted.choice()).await?, &format)
}

/// Replace a customer
///
/// Fields that the request leaves out are cleared, except `source` and `external_id`.
#[utoipa::path(
    put, path = "/customers/{id}", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader), request_body = CustomerInput,
    responses((status = 200, description = "The replaced customer", body = Item<CustomerView>))
)]
pub(crate) async fn replace(w: Write<CustomerId>, Query(()): Query<()>, Json(input): Json<CustomerInput>) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().customers().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &())
}

/// Change a customer
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/customers/{id}", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader), request_body = CustomerPatch,
    responses((status = 200, description = "The changed customer", body = Item<CustomerView>))
)]
pub(crate) async fn patch(w: Write<CustomerId>, Query(()): Query<()>, Json(patch): Json<CustomerPatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().customers().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete a customer
///
/// The customer is soft-deleted: it can be restored, and its addresses are hidden until then. `force` deletes the
/// customer, its addresses and its carts permanently; its reviews remain, without a customer. A customer with orders
/// can only be soft-deleted. With `force`, it also requires `force:delete`.
#[utoipa::path(
    delete, path = "/customers/{id}", tag = "customers",
    security(("bearer" = ["customers:write"])), params(ById, IfMatchHeader, Force, Version),
    responses((status = 204, description = "The customer is deleted"))
)]
pub(crate) async fn delete(w: Write<CustomerId>, Query((force, version)): Query<(Force, Version)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().customers().delete(w.id, read, force.mode()).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted customer
///
/// Its addresses are no longer hidden.
#[utoipa::path(
    post, path = "/customers/{id}/restore", tag = "customers",
    security(("bearer" = ["customers:write"])), params(ById, IfMatchHeader, Version),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored customer", body = Item<CustomerView>))
)]
pub(crate) async fn restore(
    w: Write<CustomerId>,
    Query((version,)): Query<(Version,)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let customers = w.shop().customers();
    let within = |mut tx| async { Ok((customers.restore_in(&mut tx, w.id, read).await?, tx)) };
    let render = |restored: &_| w.written::<Customer>(restored, &());
    w.done(keyed.answer(&w, customers.restore(w.id, read), within, render).await)
}

/// Erase the personal data of a customer
///
/// The customer is soft-deleted and cannot be restored. Its names and its email are replaced, and its addresses and
/// carts are deleted permanently. Its orders lose the buyer, the addresses, the tracking reference, the attributes and
/// the external reference, and keep their lines and amounts (R45). Its reviews remain. Stored responses about the
/// customer are removed: a repetition of such a request with its `Idempotency-Key` gets the error
/// `IDEMPOTENCY_ANSWER_ERASED`. This needs no version and is safe to repeat, and it requires the permission
/// `customers:erase`.
#[utoipa::path(
    post, path = "/customers/{id}/erase", tag = "customers", security(("bearer" = ["customers:erase"])), params(ById),
    responses((status = 200, description = "The customer without personal data", body = Item<CustomerView>))
)]
pub(crate) async fn erase(
    reply: Reply,
    Id(id): Id<CustomerId>,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let customers = reply.shop().customers();
    let within = |mut tx| async { Ok((customers.erase_in(&mut tx, id).await?, tx)) };
    let render = |erased: &_| reply.written::<Customer>(erased, &());
    Ok(keyed.answer(&reply, customers.erase(id), within, render).await?)
}

/// Returns a page of addresses, oldest first. `failed` converts an error of the list into the response, because the
/// customer is given by the path or by a parameter.
async fn page_of_addresses(
    reply: &Reply,
    (pages, cursor, picked): (Pages, Cursor, Picked),
    filter: AddressFilter,
    failed: impl Fn(Error) -> ApiError,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "created_asc", &reply.app.config, &mut errors);
    let format = reply.format::<Address>(&picked, &mut errors);
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().addresses().list(&filter, &part.paging).await.map_err(failed)?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// List the addresses of a customer
///
/// Addresses are sorted by time of creation, oldest first.
#[utoipa::path(
    get, path = "/customers/{id}/addresses", tag = "customers",
    security(("bearer" = ["customers:read"]), ("bearer" = ["own"])), params(ById, Pages, Cursor, Picked, ShowDeleted),
    responses((status = 200, description = "A page of the customer's addresses", body = List<AddressView>))
)]
pub(crate) async fn addresses_of(
    reply: Reply,
    Id(id): Id<CustomerId>,
    Query((pages, cursor, picked, deleted)): Query<(Pages, Cursor, Picked, ShowDeleted)>,
) -> ApiResult {
    let filter = AddressFilter { customer: Some(id), include_deleted: deleted.choice(), ..AddressFilter::default() };
    page_of_addresses(&reply, (pages, cursor, picked), filter, ApiError::from).await
}

/// The filters of a list of addresses.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AddressParams {
    /// Lists only addresses in this city, ignoring case.
    #[serde(default)]
    city: Option<String>,
    /// Lists only addresses whose street begins with this text, ignoring case.
    #[serde(default)]
    street: Option<String>,
    /// Lists only addresses of the customer with this id.
    #[serde(default)]
    customer_id: Option<Uuid>,
}

/// List addresses
///
/// Lists the addresses of all customers, sorted by time of creation, oldest first.
#[utoipa::path(
    get, path = "/addresses", tag = "customers",
    security(("bearer" = ["customers:read"]), ("bearer" = ["own"])),
    params(Pages, Cursor, Picked, ShowDeleted, AddressParams),
    responses((status = 200, description = "A page of addresses", body = List<AddressView>))
)]
pub(crate) async fn list_addresses(
    reply: Reply,
    Query((pages, cursor, picked, deleted, p)): Query<(Pages, Cursor, Picked, ShowDeleted, AddressParams)>,
) -> ApiResult {
    let customer = p.customer_id.map(CustomerId);
    let filter = AddressFilter { customer, city: p.city, street: p.street, include_deleted: deleted.choice() };
    page_of_addresses(&reply, (pages, cursor, picked), filter, |e| ApiError::reference(e, "customer_id")).await
}

/// Add an address to a customer
#[utoipa::path(
    post, path = "/customers/{id}/addresses", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])), params(ById), request_body = AddressInput,
    responses(
        (status = 201, description = "The created address; `Location` has its path", body = Item<AddressView>),
    )
)]
pub(crate) async fn create_address(
    reply: Reply,
    Id(customer): Id<CustomerId>,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<AddressInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let addresses = reply.shop().addresses();
    let within = |mut tx| async { Ok((addresses.create_in(&mut tx, customer, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Address>(made, &());
    Ok(keyed.answer(&reply, addresses.create(customer, &input), within, render).await?)
}

/// Read an address
#[utoipa::path(
    get, path = "/addresses/{id}", tag = "customers",
    security(("bearer" = ["customers:read"]), ("bearer" = ["own"])), params(ById, Picked, ShowDeleted),
    responses((status = 200, description = "The address", body = Item<AddressView>), NotModified)
)]
pub(crate) async fn read_address(
    reply: Reply,
    Id(id): Id<AddressId>,
    Query((picked, deleted)): Query<(Picked, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<Address>(&picked)?;
    reply.personal(&reply.shop().addresses().get(id, deleted.choice()).await?, &format)
}

/// Replace an address
///
/// Fields that the request leaves out are cleared; the address stays with its customer.
#[utoipa::path(
    put, path = "/addresses/{id}", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader), request_body = AddressInput,
    responses((status = 200, description = "The replaced address", body = Item<AddressView>))
)]
pub(crate) async fn replace_address(
    w: Write<AddressId>,
    Query(()): Query<()>,
    Json(input): Json<AddressInput>,
) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().addresses().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &())
}

/// Change an address
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/addresses/{id}", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader), request_body = AddressPatch,
    responses((status = 200, description = "The changed address", body = Item<AddressView>))
)]
pub(crate) async fn patch_address(
    w: Write<AddressId>,
    Query(()): Query<()>,
    Json(patch): Json<AddressPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().addresses().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete an address
///
/// The deletion is permanent, because addresses cannot be soft-deleted individually.
#[utoipa::path(
    delete, path = "/addresses/{id}", tag = "customers",
    security(("bearer" = ["customers:write"]), ("bearer" = ["own"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The address is deleted"))
)]
pub(crate) async fn delete_address(w: Write<AddressId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().addresses().delete(w.id, read).await)?;
    Ok(no_content())
}
