//! Settings that a shop edits while it runs.

use async_trait::async_trait;
use ecom_core::id::SettingId;
use ecom_core::platform::{Setting, SettingName};
use ecom_core::port::SettingRepository;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::lock_rows;
use crate::sql::engine::columns::{Column, Table, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of settings.
pub static SETTINGS: Table<Setting> = Table {
    name: "settings",
    entity: Entity::Setting,
    columns: &[
        Column::fixed("id", |s| s.id.into()),
        Column::fixed("name", |s| s.name.into()),
        Column::json("value", |s| Value::json(&s.value)),
        Column::Audit(|s| &s.audit),
    ],
    unique: &[],
    parent: None,
};

static WRITES: Versioned<Setting> = Versioned::new(&SETTINGS);
static GET: Sql = Sql::of(&SETTINGS, "SELECT {*} FROM settings WHERE id = $1");

fn read_setting(r: &Row) -> Result<Setting> {
    Ok(Setting {
        id: SettingId(r.uuid(const { SETTINGS.at("id") })?),
        name: r.stored(const { SETTINGS.at("name") })?,
        value: r.json(const { SETTINGS.at("value") })?,
        audit: read_audit(r, const { SETTINGS.at("created_at") })?,
    })
}

/// The settings of a SQL database.
pub type SqlSettings<'c> = SqlRepository<'c, dyn SettingRepository>;

#[async_trait]
impl SettingRepository for SqlSettings<'_> {
    async fn get(&mut self, name: SettingName) -> Result<Setting> {
        let row = self.0.fetch_optional(&GET, vec![name.id().into()]).await?;
        row.as_ref().map(read_setting).transpose()?.ok_or_else(|| Error::not_found(Entity::Setting, name.id()))
    }

    async fn lock(&mut self, name: SettingName) -> Result<Setting> {
        lock_rows(&mut self.0, "settings", "id", &[name.id()]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(name).await
    }

    async fn update(&mut self, before: &Setting, after: &Setting) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }
}
