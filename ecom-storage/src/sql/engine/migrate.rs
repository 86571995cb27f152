//! Migrations: forward only, under our own table names, so that they never collide with the host's.

use ecom_core::clock::Timestamp;
use ecom_core::{Error, FieldCode, Result};
use uuid::Uuid;

use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::DbError;
use crate::sql::engine::executor::Executor;

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS ecom_migrations (
    version    BIGINT       NOT NULL PRIMARY KEY,
    name       VARCHAR(100) NOT NULL,
    checksum   VARCHAR(16)  NOT NULL,
    applied_at BIGINT       NOT NULL
);
CREATE TABLE IF NOT EXISTS ecom_meta (
    name  VARCHAR(100) NOT NULL PRIMARY KEY,
    value VARCHAR(255) NOT NULL
);";

static APPLIED: Sql = Sql::new("SELECT version, checksum FROM ecom_migrations ORDER BY version");
static APPLY: Sql =
    Sql::new("INSERT INTO ecom_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)");
static IDENTIFY: Sql = Sql::new(
    "INSERT INTO ecom_meta (name, value) SELECT 'identity', $1 WHERE NOT EXISTS (SELECT 1 FROM ecom_meta WHERE name = \
     'identity')",
);

/// FNV-1a, 64 bits: enough to see that a file was edited after it was applied.
fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .filter(|b| *b != b'\r')
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Brings the schema up to this release, in a transaction of its own, one process at a time. Where it fails, the
/// connection is left as it is, for the caller to close.
pub async fn run(x: &mut Executor<'_>, now: Timestamp, identity: Uuid) -> Result<()> {
    x.script(x.dialect().begin).await?;
    if let Some(lock) = x.dialect().migration_lock {
        let locked = x.fetch_optional(lock, Vec::new()).await?;
        if locked.and_then(|r| r.opt_i64(0).ok().flatten()) != Some(1) {
            return Err(Error::Contention { source: None });
        }
    }
    if let Some(setup) = x.dialect().setup
        && let Some(wrong) = x.fetch_optional(setup, Vec::new()).await?
    {
        return Err(Error::invalid("database_url", FieldCode::OutOfBounds, wrong.string(0)?));
    }
    if x.fetch_optional(x.dialect().has_tables, Vec::new()).await?.is_none() {
        x.script(TABLES).await.map_err(DbError::at_start)?;
    }
    let mut applied = Vec::new();
    for row in x.fetch_all(&APPLIED, Vec::new()).await? {
        applied.push((row.i64(0)?, row.string(1)?));
    }
    let migrations = x.dialect().migrations;
    let newest = migrations.last().map_or(0, |m| m.0);
    if applied.last().is_some_and(|(v, _)| *v > newest) {
        return Err(Error::Internal {
            context: "the database's schema is newer than this release: run the release that made it, or a later one",
            source: None,
        });
    }
    for (version, name, text) in migrations {
        let sum = checksum(text);
        match applied.iter().find(|(v, _)| v == version) {
            Some((_, known)) if *known == sum => {}
            Some(_) => {
                return Err(Error::Internal {
                    context: "the database's schema was made by a migration that this release does not know",
                    source: None,
                });
            }
            None => {
                x.script(text).await.map_err(DbError::at_start)?;
                let args = vec![(*version).into(), (*name).into(), sum.into(), now.timestamp_micros().into()];
                x.execute(&APPLY, args).await?;
            }
        }
    }
    x.execute(&IDENTIFY, vec![identity.to_string().into()]).await?;
    x.script("COMMIT").await?;
    Ok(())
}
