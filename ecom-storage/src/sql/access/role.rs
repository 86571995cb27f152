//! Roles.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ecom_core::access::{Permission, Role};
use ecom_core::id::RoleId;
use ecom_core::port::RoleRepository;
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, lock_rows};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of roles.
pub static ROLES: Table<Role> = Table {
    name: "roles",
    entity: Entity::Role,
    columns: &[
        Column::fixed("id", |r| r.id.into()),
        Column::fixed("name", |r| Value::from(&r.name)),
        Column::field("description", |r| r.description.as_deref().into()),
        Column::json("permissions", |r| Value::json(&r.permissions)),
        Column::Audit(|r| &r.audit),
    ],
    unique: &[Unique { index: "roles_name", columns: &["name"], field: "name", value: |r| Some(r.name.clone()) }],
    parent: None,
};

static WRITES: Versioned<Role> = Versioned::new(&ROLES);
static ALL: Sql = Sql::of(&ROLES, "SELECT {*} FROM roles ORDER BY name");
static GET: Sql = Sql::of(&ROLES, "SELECT {*} FROM roles WHERE id = $1");
static BY_IDS: Sql = Sql::of(&ROLES, "SELECT {*} FROM roles WHERE id IN ");
static USED: Sql = Sql::new("SELECT 1 FROM user_roles WHERE role_id = $1 LIMIT 1");
static DELETE: Sql = Sql::new("DELETE FROM roles WHERE id = $1");

/// Reads a list of permissions. Texts that are no permissions in this release are left out.
pub(super) fn read_permissions(r: &Row, at: usize) -> Result<BTreeSet<Permission>> {
    Ok(r.json::<Vec<String>>(at)?.iter().filter_map(|text| text.parse().ok()).collect())
}

fn read_role(r: &Row) -> Result<Role> {
    Ok(Role {
        id: RoleId(r.uuid(const { ROLES.at("id") })?),
        name: r.string(const { ROLES.at("name") })?,
        description: r.opt_string(const { ROLES.at("description") })?,
        permissions: read_permissions(r, const { ROLES.at("permissions") })?,
        audit: read_audit(r, const { ROLES.at("created_at") })?,
    })
}

/// The roles of a SQL database.
pub type SqlRoles<'c> = SqlRepository<'c, dyn RoleRepository>;

#[async_trait]
impl RoleRepository for SqlRoles<'_> {
    async fn all(&mut self) -> Result<Vec<Role>> {
        self.0.fetch_all(&ALL, Vec::new()).await?.iter().map(read_role).collect()
    }

    async fn get(&mut self, id: RoleId) -> Result<Option<Role>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_role).transpose()
    }

    async fn lock(&mut self, id: RoleId) -> Result<Option<Role>> {
        lock_rows(&mut self.0, "roles", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn hold(&mut self, ids: &[RoleId]) -> Result<Vec<Role>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&BY_IDS, self.0.dialect());
            b.list(chunk).push(" ORDER BY id").push(self.0.dialect().for_share);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                out.push(read_role(&row)?);
            }
        }
        Ok(out)
    }

    async fn insert(&mut self, role: &Role) -> Result<()> {
        ROLES.insert(&mut self.0, &[role]).await
    }

    async fn update(&mut self, before: &Role, after: &Role) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn is_used(&mut self, id: RoleId) -> Result<bool> {
        Ok(self.0.fetch_optional(&USED, vec![id.into()]).await?.is_some())
    }

    async fn delete(&mut self, id: RoleId) -> Result<()> {
        self.0.execute(&DELETE, vec![id.into()]).await?;
        Ok(())
    }
}
