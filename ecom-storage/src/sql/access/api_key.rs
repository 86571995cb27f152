//! API keys.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ecom_core::access::{ApiKey, SecretHash};
use ecom_core::clock::Timestamp;
use ecom_core::id::ApiKeyId;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::ApiKeyRepository;
use ecom_core::{Entity, Error, Result};

use crate::sql::access::role::read_permissions;
use crate::sql::engine::builder::{Builder, bad_cursor, case_size, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of API keys.
pub static API_KEYS: Table<ApiKey> = Table {
    name: "api_keys",
    entity: Entity::ApiKey,
    columns: &[
        Column::fixed("id", |k| k.id.into()),
        Column::field("name", |k| Value::from(&k.name)),
        Column::fixed("prefix", |k| Value::from(&k.prefix)),
        Column::fixed("hash", |k| k.hash.0.as_slice().into()),
        Column::json("permissions", |k| Value::json(&k.permissions)),
        Column::field("is_admin", |k| i32::from(k.is_admin).into()),
        Column::field("expires_at", |k| k.expires_at.into()),
        // An update leaves it to `note_uses`.
        Column::fixed("last_used_at", |k| k.last_used_at.into()),
        Column::Audit(|k| &k.audit),
    ],
    unique: &[Unique {
        index: "api_keys_hash",
        columns: &["hash"],
        field: "secret",
        // The beginning of the secret, which is all that may be shown.
        value: |k| Some(k.prefix.clone()),
    }],
    parent: None,
};

static WRITES: Versioned<ApiKey> = Versioned::new(&API_KEYS);
static GET: Sql = Sql::of(&API_KEYS, "SELECT {*} FROM api_keys WHERE id = $1");
static GET_BY_HASH: Sql = Sql::of(&API_KEYS, "SELECT {*} FROM api_keys WHERE hash = $1");
static LIST: Sql = Sql::of(&API_KEYS, "SELECT {*} FROM api_keys WHERE 1 = 1");
static EXPIRED: Sql = Sql::new("SELECT id FROM api_keys WHERE expires_at < $1 ORDER BY expires_at, id LIMIT $2");
static DELETE: Sql = Sql::new("DELETE FROM api_keys WHERE id = $1");

/// How many keys one statement of [`ApiKeyRepository::note_uses`] updates.
const AT_ONCE: usize = 128;

/// Reads the hash of a secret.
pub(super) fn read_hash(r: &Row, at: usize) -> Result<SecretHash> {
    r.bytes(at)?.try_into().map(SecretHash).map_err(|e| Error::internal("reading a row", e))
}

fn read_key(r: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: ApiKeyId(r.uuid(const { API_KEYS.at("id") })?),
        name: r.string(const { API_KEYS.at("name") })?,
        prefix: r.string(const { API_KEYS.at("prefix") })?,
        hash: read_hash(r, const { API_KEYS.at("hash") })?,
        permissions: read_permissions(r, const { API_KEYS.at("permissions") })?,
        is_admin: r.i32(const { API_KEYS.at("is_admin") })? != 0,
        expires_at: r.opt_time(const { API_KEYS.at("expires_at") })?,
        last_used_at: r.opt_time(const { API_KEYS.at("last_used_at") })?,
        audit: read_audit(r, const { API_KEYS.at("created_at") })?,
    })
}

/// The API keys of a SQL database.
pub type SqlApiKeys<'c> = SqlRepository<'c, dyn ApiKeyRepository>;

#[async_trait]
impl ApiKeyRepository for SqlApiKeys<'_> {
    async fn get(&mut self, id: ApiKeyId) -> Result<Option<ApiKey>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_key).transpose()
    }

    async fn get_by_hash(&mut self, hash: &SecretHash) -> Result<Option<ApiKey>> {
        let row = self.0.fetch_optional(&GET_BY_HASH, vec![hash.0.as_slice().into()]).await?;
        row.as_ref().map(read_key).transpose()
    }

    async fn lock(&mut self, id: ApiKeyId) -> Result<Option<ApiKey>> {
        lock_rows(&mut self.0, "api_keys", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn list(&mut self, paging: &Paging) -> Result<Page<ApiKey>> {
        let mut b = Builder::on(&LIST, self.0.dialect());
        if let Paging::Keyset { after: Some(k), .. } = paging {
            if k.key != SortKey::Id {
                return Err(bad_cursor());
            }
            b.push(" AND id < ").bind(k.id);
        }
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let keys = self.0.fetch_all(text, args).await?.iter().map(read_key).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(keys, paging.limit(), |k| Keyset {
            sort: "created_desc".to_owned(),
            key: SortKey::Id,
            id: k.id.0,
        }))
    }

    async fn count(&mut self, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| {
            b.push(" FROM api_keys");
        })
        .await
    }

    async fn insert(&mut self, key: &ApiKey) -> Result<()> {
        API_KEYS.insert(&mut self.0, &[key]).await
    }

    async fn update(&mut self, before: &ApiKey, after: &ApiKey) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn note_uses(&mut self, uses: &[(ApiKeyId, Timestamp)]) -> Result<()> {
        let mut last: BTreeMap<ApiKeyId, Timestamp> = BTreeMap::new();
        for (id, at) in uses {
            last.entry(*id).and_modify(|t| *t = (*t).max(*at)).or_insert(*at);
        }
        let last: Vec<(ApiKeyId, Timestamp)> = last.into_iter().collect();
        for chunk in last.chunks(AT_ONCE) {
            let ids: Vec<ApiKeyId> = chunk.iter().map(|(id, _)| *id).collect();
            // All transactions lock the rows in one order.
            lock_rows(&mut self.0, "api_keys", "id", &ids).await?;
            let mut b = Builder::new("UPDATE api_keys SET last_used_at = CASE");
            for i in 0..case_size(chunk.len()) {
                if let Some((id, at)) = chunk.get(i).or(chunk.last()) {
                    b.push(" WHEN id = ").bind(*id).push(" AND (last_used_at IS NULL OR last_used_at < ").bind(*at);
                    b.push(") THEN ").bind(*at);
                }
            }
            b.push(" ELSE last_used_at END WHERE id IN ").list(&ids);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn expired(&mut self, before: Timestamp, limit: u32) -> Result<Vec<ApiKeyId>> {
        let rows = self.0.fetch_all(&EXPIRED, vec![before.into(), i64::from(limit).into()]).await?;
        rows.iter().map(|r| Ok(ApiKeyId(r.uuid(0)?))).collect()
    }

    async fn delete(&mut self, id: ApiKeyId) -> Result<()> {
        self.0.execute(&DELETE, vec![id.into()]).await?;
        Ok(())
    }
}
