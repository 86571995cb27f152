//! Users and their roles.

use async_trait::async_trait;
use ecom_core::access::{PasswordHash, User, UserFilter};
use ecom_core::clock::Timestamp;
use ecom_core::common::{Actor, IncludeDeleted};
use ecom_core::id::{CustomerId, RoleId, UserId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::UserRepository;
use ecom_core::text::fold_key;
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, bad_cursor, count, delete_rows, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::executor::Executor;
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of users.
pub static USERS: Table<User> = Table {
    name: "users",
    entity: Entity::User,
    columns: &[
        Column::fixed("id", |u| u.id.into()),
        Column::field("email", |u| Value::from(&u.email)),
        Column::derived("email_key", |u| fold_key(&u.email).into()),
        Column::field("email_verified_at", |u| u.email_verified_at.into()),
        Column::field("name", |u| u.name.as_deref().into()),
        Column::field("password", |u| u.password.as_ref().map(PasswordHash::reveal).into()),
        Column::field("password_set_at", |u| u.password_set_at.into()),
        Column::field("customer_id", |u| u.customer_id.into()),
        Column::field("blocked_at", |u| u.blocked_at.into()),
        Column::Audit(|u| &u.audit),
    ],
    unique: &[
        Unique { index: "users_email_live", columns: &["email_key"], field: "email", value: |u| Some(u.email.clone()) },
        Unique {
            index: "users_customer_live",
            columns: &["customer_id"],
            field: "customer_id",
            value: |u| u.customer_id.map(|id| id.to_string()),
        },
    ],
    parent: Some(("customer_id", |u| u.customer_id.map(|id| id.0))),
};

/// A role of a user.
struct Held {
    user: UserId,
    role: RoleId,
}

static HELD: Table<Held> = Table {
    name: "user_roles",
    entity: Entity::User,
    columns: &[Column::fixed("user_id", |h| h.user.into()), Column::fixed("role_id", |h| h.role.into())],
    unique: &[],
    parent: Some(("roles", |h| Some(h.role.0))),
};

/// The position of the ids of the roles in every read of users: after the user's own columns.
const ROLE_IDS: usize = USERS.width();

static WRITES: Versioned<User> = Versioned::new(&USERS);
static SELECT: Sql = Sql::over(&[("u", &USERS)], "SELECT {u.*}, {role_ids}");
static GET: Sql = Sql::over(&[("u", &USERS)], "SELECT {u.*}, {role_ids} FROM users u WHERE u.id = $1");
static GET_BY_EMAIL: Sql = Sql::over(
    &[("u", &USERS)],
    "SELECT {u.*}, {role_ids} FROM users u WHERE u.email_key = $1 AND u.deleted_at IS NULL",
);
static GET_BY_CUSTOMER: Sql = Sql::over(
    &[("u", &USERS)],
    "SELECT {u.*}, {role_ids} FROM users u WHERE u.customer_id = $1 AND u.deleted_at IS NULL",
);
static OF_CUSTOMER: Sql =
    Sql::over(&[("u", &USERS)], "SELECT {u.*}, {role_ids} FROM users u WHERE u.customer_id = $1 ORDER BY u.id");
static REHASH: Sql = Sql::new("UPDATE users SET password = $3 WHERE id = $1 AND password = $2");
static RELEASE: Sql = Sql::new("UPDATE users SET customer_id = NULL, version = version + 1 WHERE customer_id = $1");
static DELETE_ROLES: Sql = Sql::new("DELETE FROM user_roles WHERE user_id = $1");
static DELETE_TOKENS: Sql = Sql::new("DELETE FROM one_time_tokens WHERE user_id = $1");
static DELETE_SESSIONS: Sql = Sql::new("DELETE FROM sessions WHERE user_id = $1");
static DELETE: Sql = Sql::new("DELETE FROM users WHERE id = $1");

fn read_user(r: &Row) -> Result<User> {
    let mut roles: Vec<RoleId> = r.json(ROLE_IDS)?;
    roles.sort_unstable();
    Ok(User {
        id: UserId(r.uuid(const { USERS.at("id") })?),
        email: r.string(const { USERS.at("email") })?,
        email_verified_at: r.opt_time(const { USERS.at("email_verified_at") })?,
        name: r.opt_string(const { USERS.at("name") })?,
        password: r.opt_text(const { USERS.at("password") })?.map(PasswordHash::new),
        password_set_at: r.opt_time(const { USERS.at("password_set_at") })?,
        roles,
        customer_id: r.opt_uuid(const { USERS.at("customer_id") })?.map(CustomerId),
        blocked_at: r.opt_time(const { USERS.at("blocked_at") })?,
        audit: read_audit(r, const { USERS.at("created_at") })?,
    })
}

/// Erases the personal data of the users of a customer, and removes their sessions and one-time tokens.
pub(in crate::sql) async fn erase_users_of(
    x: &mut Executor<'_>,
    customer: CustomerId,
    now: Timestamp,
    by: &Actor,
) -> Result<()> {
    lock_rows(x, "users", "customer_id", &[customer]).await?;
    let rows = x.fetch_all(&OF_CUSTOMER, vec![customer.into()]).await?;
    let users = rows.iter().map(read_user).collect::<Result<Vec<_>>>()?;
    if users.is_empty() {
        return Ok(());
    }
    for before in &users {
        WRITES.update(x, before, &before.erased(now, by)).await?;
    }
    let ids: Vec<uuid::Uuid> = users.iter().map(|u| u.id.0).collect();
    for table in ["one_time_tokens", "sessions"] {
        delete_rows(x, table, "user_id", &ids).await?;
    }
    Ok(())
}

/// Separates the users of a customer from it.
pub(in crate::sql) async fn release_users_of(x: &mut Executor<'_>, customer: CustomerId) -> Result<()> {
    x.execute(&RELEASE, vec![customer.into()]).await?;
    Ok(())
}

/// Adds the conditions of a filter, and returns the column with the id by which the list walks.
fn filtered(b: &mut Builder<'_>, dialect: &Dialect, filter: &UserFilter) -> &'static str {
    let by_role = filter.role.filter(|_| filter.email.is_none() && filter.customer.is_none());
    if let Some(role) = by_role {
        b.push(" FROM user_roles held ").push(&dialect.render("{page_join}"));
        b.push(" users u ON u.id = held.user_id WHERE held.role_id = ").bind(role);
    } else {
        b.push(" FROM users u WHERE 1 = 1");
        if let Some(email) = &filter.email {
            b.push(" AND u.email_key = ").bind(fold_key(email));
        }
        if let Some(customer) = filter.customer {
            b.push(" AND u.customer_id = ").bind(customer);
        }
        if let Some(role) = filter.role {
            b.push(" AND EXISTS (SELECT 1 FROM user_roles held WHERE held.user_id = u.id AND held.role_id = ");
            b.bind(role).push(")");
        }
    }
    if filter.include_deleted == IncludeDeleted::No {
        b.push(" AND u.deleted_at IS NULL");
    }
    if by_role.is_some() { "held.user_id" } else { "u.id" }
}

/// Returns the statement of a page.
fn list_statement<'q>(dialect: &Dialect, filter: &UserFilter, paging: &Paging) -> Result<(String, Vec<Value<'q>>)> {
    let mut b = Builder::on(&SELECT, dialect);
    let id = filtered(&mut b, dialect, filter);
    if let Paging::Keyset { after: Some(k), .. } = paging {
        if k.key != SortKey::Id {
            return Err(bad_cursor());
        }
        b.push(" AND ").push(id).push(" < ").bind(k.id);
    }
    page(&mut b, &format!("{id} DESC"), paging);
    Ok(b.done())
}

impl SqlStorage {
    /// Returns the plan that the database makes for a list of users, for tests that check the use of indexes.
    #[doc(hidden)]
    pub async fn explain_users(&self, filter: &UserFilter, paging: &Paging) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, paging)?;
        self.explain(&text, args).await
    }
}

/// The users of a SQL database.
pub type SqlUsers<'c> = SqlRepository<'c, dyn UserRepository>;

impl SqlUsers<'_> {
    async fn one(&mut self, sql: &'static Sql, key: Value<'_>) -> Result<Option<User>> {
        let row = self.0.fetch_optional(sql, vec![key]).await?;
        row.as_ref().map(read_user).transpose()
    }

    async fn insert_roles(&mut self, user: &User) -> Result<()> {
        let held: Vec<Held> = user.roles.iter().map(|role| Held { user: user.id, role: *role }).collect();
        HELD.insert(&mut self.0, &held).await
    }
}

#[async_trait]
impl UserRepository for SqlUsers<'_> {
    async fn get(&mut self, id: UserId, deleted: IncludeDeleted) -> Result<Option<User>> {
        let user = self.one(&GET, id.into()).await?;
        Ok(user.filter(|u| deleted == IncludeDeleted::Yes || u.audit.is_live()))
    }

    async fn get_by_email(&mut self, email: &str) -> Result<Option<User>> {
        self.one(&GET_BY_EMAIL, fold_key(email).into()).await
    }

    async fn get_by_customer(&mut self, customer: CustomerId) -> Result<Option<User>> {
        self.one(&GET_BY_CUSTOMER, customer.into()).await
    }

    async fn lock(&mut self, id: UserId) -> Result<Option<User>> {
        lock_rows(&mut self.0, "users", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.one(&GET, id.into()).await
    }

    async fn list(&mut self, filter: &UserFilter, paging: &Paging) -> Result<Page<User>> {
        let (text, args) = list_statement(self.0.dialect(), filter, paging)?;
        let users = self.0.fetch_all(text, args).await?.iter().map(read_user).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(users, paging.limit(), |u| Keyset {
            sort: "created_desc".to_owned(),
            key: SortKey::Id,
            id: u.id.0,
        }))
    }

    async fn count(&mut self, filter: &UserFilter, bound: u64) -> Result<Total> {
        let dialect = self.0.dialect();
        count(&mut self.0, bound, |b| {
            filtered(b, dialect, filter);
        })
        .await
    }

    async fn insert(&mut self, user: &User) -> Result<()> {
        USERS.insert(&mut self.0, &[user]).await?;
        self.insert_roles(user).await
    }

    async fn update(&mut self, before: &User, after: &User) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await?;
        if before.roles != after.roles {
            self.0.execute(&DELETE_ROLES, vec![after.id.into()]).await?;
            self.insert_roles(after).await?;
        }
        Ok(())
    }

    async fn rehash(&mut self, id: UserId, before: &PasswordHash, after: &PasswordHash) -> Result<bool> {
        let args = vec![id.into(), before.reveal().into(), after.reveal().into()];
        Ok(self.0.execute(&REHASH, args).await? > 0)
    }

    async fn purge(&mut self, id: UserId) -> Result<()> {
        for sql in [&DELETE_TOKENS, &DELETE_SESSIONS, &DELETE_ROLES, &DELETE] {
            self.0.execute(sql, vec![id.into()]).await?;
        }
        Ok(())
    }
}
