//! Customers and their addresses.

use async_trait::async_trait;
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{AddressId, CustomerId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::{AddressRepository, CustomerRepository};
use ecom_core::sales::{Address, AddressFilter, Customer, CustomerFilter, CustomerSort};
use ecom_core::text::fold_key;
use ecom_core::{Entity, Result};

use crate::sql::access::user::{erase_users_of, release_users_of};
use crate::sql::engine::builder::{Builder, MAX_LIST, bad_cursor, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_external};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};
use crate::sql::sales::cart::delete_carts;

/// The columns of customers.
pub static CUSTOMERS: Table<Customer> = Table {
    name: "customers",
    entity: Entity::Customer,
    columns: &[
        Column::fixed("id", |c| c.id.0.into()),
        Column::field("first_name", |c| Value::from(&c.first_name)),
        Column::field("last_name", |c| Value::from(&c.last_name)),
        Column::derived("name_key", |c| fold_key(&format!("{} {}", c.first_name, c.last_name)).into()),
        Column::derived("sort_name_key", |c| sort_name_key(c).into()),
        Column::field("email", |c| Value::from(&c.email)),
        Column::derived("email_key", |c| fold_key(&c.email).into()),
        Column::field("telephone", |c| c.telephone.as_deref().into()),
        Column::json("attributes", |c| Value::json(&c.attributes)),
        Column::External(|c| &c.external),
        Column::field("erased_at", |c| c.erased_at.into()),
        Column::Audit(|c| &c.audit),
    ],
    unique: &[
        Unique {
            index: "customers_email_live",
            columns: &["email_key"],
            field: "email",
            value: |c| Some(c.email.clone()),
        },
        Unique {
            index: "customers_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |c| c.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: None,
};

static CUSTOMER_WRITES: Versioned<Customer> = Versioned::new(&CUSTOMERS);
static GET_CUSTOMER: Sql = Sql::of(&CUSTOMERS, "SELECT {*} FROM customers WHERE id = $1");
static CUSTOMERS_BY_IDS: Sql = Sql::of(&CUSTOMERS, "SELECT {*} FROM customers WHERE id IN ");
static LIST_CUSTOMERS: Sql = Sql::of(&CUSTOMERS, "SELECT {*}");
static HIDE_ADDRESSES: Sql = Sql::new("UPDATE addresses SET deleted_at = $2 WHERE customer_id = $1");
static DELETE_ADDRESSES: Sql = Sql::new("DELETE FROM addresses WHERE customer_id = $1");
static RELEASE_REVIEWS: Sql =
    Sql::new("UPDATE reviews SET customer_id = NULL, version = version + 1 WHERE customer_id = $1");
/// The carts of a customer, those of guests that its orders were made from, and those that were merged into them.
static CARTS_OF: Sql = Sql::new(
    "WITH RECURSIVE own (id) AS (SELECT id FROM carts WHERE customer_id = $1 \
     UNION SELECT c.id FROM orders o JOIN carts c ON c.id = o.cart_id WHERE o.customer_id = $1 \
     UNION SELECT c.id FROM own o JOIN carts c ON c.merged_into = o.id) SELECT id FROM own ORDER BY id",
);
static DELETE_CUSTOMER: Sql = Sql::new("DELETE FROM customers WHERE id = $1");

fn sort_name_key(c: &Customer) -> String {
    fold_key(&format!("{} {}", c.last_name, c.first_name))
}

fn read_customer(r: &Row) -> Result<Customer> {
    Ok(Customer {
        id: CustomerId(r.uuid(const { CUSTOMERS.at("id") })?),
        first_name: r.string(const { CUSTOMERS.at("first_name") })?,
        last_name: r.string(const { CUSTOMERS.at("last_name") })?,
        email: r.string(const { CUSTOMERS.at("email") })?,
        telephone: r.opt_string(const { CUSTOMERS.at("telephone") })?,
        attributes: r.json(const { CUSTOMERS.at("attributes") })?,
        external: read_external(r, const { CUSTOMERS.at("source") })?,
        erased_at: r.opt_time(const { CUSTOMERS.at("erased_at") })?,
        audit: read_audit(r, const { CUSTOMERS.at("created_at") })?,
    })
}

/// Adds the condition that a key begins with the folded form of `text`.
fn begins_with(b: &mut Builder<'_>, column: &str, text: &str) {
    let key = fold_key(text);
    // No character of a key sorts after it.
    let end = format!("{key}\u{10ffff}");
    b.push(column).push(" >= ").bind(key).push(" AND ").push(column).push(" < ").bind(end);
}

/// The customers of a SQL database.
pub type SqlCustomers<'c> = SqlRepository<'c, dyn CustomerRepository>;

impl SqlCustomers<'_> {
    fn filtered(b: &mut Builder<'_>, filter: &CustomerFilter) {
        b.push(" FROM customers WHERE 1 = 1");
        if let Some(name) = &filter.name {
            b.push(" AND (");
            begins_with(b, "sort_name_key", name);
            b.push(" OR ");
            begins_with(b, "name_key", name);
            b.push(")");
        }
        if let Some(email) = &filter.email {
            b.push(" AND email_key = ").bind(fold_key(email));
        }
        if filter.include_deleted == IncludeDeleted::No {
            b.push(" AND deleted_at IS NULL");
        }
    }

    /// Removes the carts of [`CARTS_OF`] for good. The transaction has locked the customer.
    async fn purge_carts(&mut self, id: CustomerId) -> Result<()> {
        let mut locked: Vec<uuid::Uuid> = Vec::new();
        loop {
            let rows = self.0.fetch_all(&CARTS_OF, vec![id.0.into()]).await?;
            let found = rows.iter().map(|r| r.uuid(0)).collect::<Result<Vec<_>>>()?;
            // Another cart may have been merged into one of them before that one was locked.
            if found == locked {
                break;
            }
            for chunk in found.chunks(MAX_LIST) {
                lock_rows(&mut self.0, "carts", "id", chunk).await?;
            }
            locked = found;
        }
        Ok(delete_carts(&mut self.0, &locked).await?)
    }
}

#[async_trait]
impl CustomerRepository for SqlCustomers<'_> {
    async fn get(&mut self, id: CustomerId, deleted: IncludeDeleted) -> Result<Option<Customer>> {
        let row = self.0.fetch_optional(&GET_CUSTOMER, vec![id.0.into()]).await?;
        let customer = row.as_ref().map(read_customer).transpose()?;
        Ok(customer.filter(|c| deleted == IncludeDeleted::Yes || c.audit.is_live()))
    }

    async fn lock(&mut self, id: CustomerId) -> Result<Option<Customer>> {
        // A statement of its own, since the read must see the change that the lock waited for.
        lock_rows(&mut self.0, "customers", "id", &[id.0]).await?;
        self.get(id, IncludeDeleted::Yes).await
    }

    async fn hold(&mut self, ids: &[CustomerId]) -> Result<Vec<Customer>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&CUSTOMERS_BY_IDS, self.0.dialect());
            b.list(chunk).push(" ORDER BY id").push(self.0.dialect().for_share);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_customer(&row)?);
            }
        }
        Ok(out)
    }

    async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<Customer>> {
        let mut out = Vec::with_capacity(external_ids.len());
        for chunk in external_ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&LIST_CUSTOMERS, self.0.dialect());
            b.push(" FROM customers WHERE source = ").bind(source);
            b.push(" AND external_id IN ").list(&chunk.iter().collect::<Vec<_>>()).push(" ORDER BY id");
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_customer(&row)?);
            }
        }
        Ok(out)
    }

    async fn find_by_emails(&mut self, emails: &[String]) -> Result<Vec<Customer>> {
        let keys: Vec<String> = emails.iter().map(|email| fold_key(email)).collect();
        let mut out = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(MAX_LIST) {
            let mut b = Builder::on(&LIST_CUSTOMERS, self.0.dialect());
            b.push(" FROM customers WHERE deleted_at IS NULL AND email_key IN ");
            b.list(&chunk.iter().collect::<Vec<_>>()).push(" ORDER BY id");
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_customer(&row)?);
            }
        }
        Ok(out)
    }

    async fn list(&mut self, filter: &CustomerFilter, sort: CustomerSort, paging: &Paging) -> Result<Page<Customer>> {
        let mut b = Builder::on(&LIST_CUSTOMERS, self.0.dialect());
        Self::filtered(&mut b, filter);
        let order = match sort {
            CustomerSort::CreatedDesc => "id DESC",
            CustomerSort::CreatedAsc => "id",
            CustomerSort::NameAsc => "sort_name_key, id",
        };
        if let Paging::Keyset { after: Some(k), .. } = paging {
            match (sort, &k.key) {
                (CustomerSort::CreatedDesc, SortKey::Id) => drop(b.push(" AND id < ").bind(k.id)),
                (CustomerSort::CreatedAsc, SortKey::Id) => drop(b.push(" AND id > ").bind(k.id)),
                (CustomerSort::NameAsc, SortKey::Text(name)) => {
                    b.push(" AND sort_name_key >= ").bind(name);
                    b.push(" AND (sort_name_key > ").bind(name).push(" OR id > ").bind(k.id).push(")");
                }
                _ => return Err(bad_cursor()),
            }
        }
        page(&mut b, order, paging);
        let (text, args) = b.done();
        let items = self.0.fetch_all(text, args).await?.iter().map(read_customer).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(items, paging.limit(), |c| Keyset {
            sort: sort.as_str().to_owned(),
            key: if sort == CustomerSort::NameAsc { SortKey::Text(sort_name_key(c)) } else { SortKey::Id },
            id: c.id.0,
        }))
    }

    async fn count(&mut self, filter: &CustomerFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }

    async fn insert(&mut self, customers: &[Customer]) -> Result<()> {
        CUSTOMERS.insert(&mut self.0, customers).await
    }

    async fn update(&mut self, before: &Customer, after: &Customer) -> Result<()> {
        CUSTOMER_WRITES.update(&mut self.0, before, after).await?;
        if before.audit.deleted_at != after.audit.deleted_at {
            self.0.execute(&HIDE_ADDRESSES, vec![after.id.0.into(), after.audit.deleted_at.into()]).await?;
        }
        Ok(())
    }

    async fn erase(&mut self, before: &Customer, after: &Customer) -> Result<()> {
        CUSTOMER_WRITES.update(&mut self.0, before, after).await?;
        self.0.execute(&DELETE_ADDRESSES, vec![after.id.0.into()]).await?;
        erase_users_of(&mut self.0, after.id, after.audit.updated_at, &after.audit.updated_by).await?;
        self.purge_carts(after.id).await
    }

    async fn purge(&mut self, id: CustomerId) -> Result<()> {
        for sql in [&DELETE_ADDRESSES, &RELEASE_REVIEWS] {
            self.0.execute(sql, vec![id.0.into()]).await?;
        }
        release_users_of(&mut self.0, id).await?;
        self.purge_carts(id).await?;
        let deleted = self.0.execute(&DELETE_CUSTOMER, vec![id.0.into()]).await;
        deleted.map_err(|e| e.or_has_sales(Entity::Customer, id.0))?;
        Ok(())
    }
}

/// The columns of addresses.
static ADDRESSES: Table<Address> = Table {
    name: "addresses",
    entity: Entity::Address,
    columns: &[
        Column::fixed("id", |a| a.id.0.into()),
        Column::fixed("customer_id", |a| a.customer_id.0.into()),
        Column::field("street", |a| Value::from(&a.street)),
        Column::derived("street_key", |a| fold_key(&a.street).into()),
        Column::field("number", |a| a.number.as_deref().into()),
        Column::field("city", |a| Value::from(&a.city)),
        Column::derived("city_key", |a| fold_key(&a.city).into()),
        Column::field("region", |a| a.region.as_deref().into()),
        Column::field("postal_code", |a| a.postal_code.as_deref().into()),
        Column::field("country", |a| a.country.as_deref().into()),
        Column::Audit(|a| &a.audit),
    ],
    unique: &[],
    parent: Some(("customer_id", |a| Some(a.customer_id.0))),
};

static ADDRESS_WRITES: Versioned<Address> = Versioned::new(&ADDRESSES);
static GET_ADDRESS: Sql = Sql::of(&ADDRESSES, "SELECT {*} FROM addresses WHERE id = $1");
static ADDRESSES_BY_IDS: Sql = Sql::of(&ADDRESSES, "SELECT {*} FROM addresses WHERE id IN ");
static LIST_ADDRESSES: Sql = Sql::of(&ADDRESSES, "SELECT {*}");
static DELETE_ADDRESS: Sql = Sql::new("DELETE FROM addresses WHERE id = $1");

fn read_address(r: &Row) -> Result<Address> {
    Ok(Address {
        id: AddressId(r.uuid(const { ADDRESSES.at("id") })?),
        customer_id: CustomerId(r.uuid(const { ADDRESSES.at("customer_id") })?),
        street: r.string(const { ADDRESSES.at("street") })?,
        number: r.opt_string(const { ADDRESSES.at("number") })?,
        city: r.string(const { ADDRESSES.at("city") })?,
        region: r.opt_string(const { ADDRESSES.at("region") })?,
        postal_code: r.opt_string(const { ADDRESSES.at("postal_code") })?,
        country: r.opt_string(const { ADDRESSES.at("country") })?,
        audit: read_audit(r, const { ADDRESSES.at("created_at") })?,
    })
}

/// The addresses of a SQL database.
pub type SqlAddresses<'c> = SqlRepository<'c, dyn AddressRepository>;

impl SqlAddresses<'_> {
    fn filtered(b: &mut Builder<'_>, filter: &AddressFilter) {
        b.push(" FROM addresses WHERE 1 = 1");
        if let Some(id) = filter.customer {
            b.push(" AND customer_id = ").bind(id.0);
        }
        if let Some(city) = &filter.city {
            b.push(" AND city_key = ").bind(fold_key(city));
        }
        if let Some(street) = &filter.street {
            b.push(" AND ");
            begins_with(b, "street_key", street);
        }
        if filter.include_deleted == IncludeDeleted::No {
            b.push(" AND deleted_at IS NULL");
        }
    }
}

#[async_trait]
impl AddressRepository for SqlAddresses<'_> {
    async fn get(&mut self, id: AddressId, deleted: IncludeDeleted) -> Result<Option<Address>> {
        let row = self.0.fetch_optional(&GET_ADDRESS, vec![id.0.into()]).await?;
        let address = row.as_ref().map(read_address).transpose()?;
        Ok(address.filter(|a| deleted == IncludeDeleted::Yes || a.audit.is_live()))
    }

    async fn get_many(&mut self, ids: &[AddressId]) -> Result<Vec<Address>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&ADDRESSES_BY_IDS, self.0.dialect());
            b.list(chunk).push(" AND deleted_at IS NULL ORDER BY id");
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_address(&row)?);
            }
        }
        Ok(out)
    }

    async fn of_customers(&mut self, customers: &[CustomerId]) -> Result<Vec<Address>> {
        let customers: Vec<uuid::Uuid> = customers.iter().map(|id| id.0).collect();
        let mut out = Vec::new();
        for chunk in customers.chunks(MAX_LIST) {
            let mut b = Builder::on(&LIST_ADDRESSES, self.0.dialect());
            b.push(" FROM addresses WHERE deleted_at IS NULL AND customer_id IN ").list(chunk).push(" ORDER BY id");
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_address(&row)?);
            }
        }
        Ok(out)
    }

    async fn list(&mut self, filter: &AddressFilter, paging: &Paging) -> Result<Page<Address>> {
        let mut b = Builder::on(&LIST_ADDRESSES, self.0.dialect());
        Self::filtered(&mut b, filter);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            if k.key != SortKey::Id {
                return Err(bad_cursor());
            }
            b.push(" AND id > ").bind(k.id);
        }
        page(&mut b, "id", paging);
        let (text, args) = b.done();
        let items = self.0.fetch_all(text, args).await?.iter().map(read_address).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(items, paging.limit(), |a| Keyset {
            sort: "created_asc".to_owned(),
            key: SortKey::Id,
            id: a.id.0,
        }))
    }

    async fn count(&mut self, filter: &AddressFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }

    async fn insert(&mut self, addresses: &[Address]) -> Result<()> {
        ADDRESSES.insert(&mut self.0, addresses).await
    }

    async fn update(&mut self, before: &Address, after: &Address) -> Result<()> {
        ADDRESS_WRITES.update(&mut self.0, before, after).await
    }

    async fn purge(&mut self, id: AddressId) -> Result<()> {
        self.0.execute(&DELETE_ADDRESS, vec![id.0.into()]).await?;
        Ok(())
    }
}
