//! Migrations: forward only, recorded in tables with names of our own, so that they never collide with the host's.

#[cfg(any(feature = "postgres", feature = "mysql"))]
use std::sync::OnceLock;

use ecom_core::clock::Timestamp;
use ecom_core::money::Currency;
use ecom_core::port::SchemaStatus;
use ecom_core::{Conflict, Error, FieldCode, Result};
use uuid::Uuid;

use crate::sql::engine::deferred;
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::DbError;
use crate::sql::engine::executor::Executor;
use crate::sql::{MIGRATIONS, RELEASED_BEFORE};

/// A step of the schema.
pub(crate) struct Migration {
    pub version: i64,
    pub name: &'static str,
    /// The text for each database, in the order of [`Dialect::slot`](crate::sql::engine::dialect::Dialect).
    pub texts: [&'static str; 3],
}

/// The files of a migration, one for each database.
macro_rules! migration {
    ($version:literal, $name:literal) => {
        $crate::sql::engine::migrate::Migration {
            version: $version,
            name: $name,
            texts: [
                include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
                include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
                include_str!(concat!("../../migrations/mysql/", $name, ".sql")),
            ],
        }
    };
}

pub(crate) use migration;

/// The tables that migrations themselves need.
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

static APPLIED: Sql = Sql::new("SELECT version, checksum, name FROM ecom_migrations ORDER BY version");
static APPLY: Sql =
    Sql::new("INSERT INTO ecom_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)");
static IDENTIFY: Sql = Sql::new(
    "INSERT INTO ecom_meta (name, value) SELECT 'identity', $1 WHERE NOT EXISTS (SELECT 1 FROM ecom_meta WHERE name = \
     'identity')",
);
static META: Sql = Sql::new("SELECT name, value FROM ecom_meta WHERE name IN ('currency', 'identity', 'serves_from')");
static SET_CURRENCY: Sql = Sql::new("INSERT INTO ecom_meta (name, value) VALUES ('currency', $1)");
static FORGET_SERVED: Sql = Sql::new("DELETE FROM ecom_meta WHERE name = 'serves_from'");
static SET_SERVED: Sql = Sql::new("INSERT INTO ecom_meta (name, value) VALUES ('serves_from', $1)");

/// The entries of `ecom_meta`; each is absent if the database does not have it.
#[derive(Default)]
struct Meta {
    currency: Option<String>,
    identity: Option<String>,
    /// The newest migration of the oldest release whose processes the schema serves.
    serves_from: Option<i64>,
}

impl Meta {
    /// Returns whether the schema, which a later release has made, serves this one.
    fn serves_this_release(&self) -> bool {
        self.serves_from.is_some_and(|from| from <= newest_version())
    }
}

/// A migration that was applied.
struct Applied {
    version: i64,
    checksum: String,
    name: String,
}

/// Returns the version of the newest migration of this release.
pub fn newest_version() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// Returns the checksum of the newest migration of this release for the database with this slot.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub fn newest_checksum(slot: usize) -> &'static str {
    static CHECKSUMS: [OnceLock<String>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    CHECKSUMS[slot].get_or_init(|| MIGRATIONS.last().map_or_else(String::new, |m| checksum(m.texts[slot])))
}

/// FNV-1a, 64 bits: enough to detect that a file was edited after it was applied.
fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .filter(|b| *b != b'\r')
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// Brings the schema up to this release and stores the shop's currency, in a transaction of its own, one process at a
/// time. Returns the identity of the database, which is the given one if it has none yet. If it fails, the caller must
/// close the connection, whose state is unknown.
pub async fn run(x: &mut Executor<'_>, now: Timestamp, identity: Uuid, currency: Currency) -> Result<String> {
    x.begin().await.map_err(DbError::at_start)?;
    lock(x).await?;
    check_setup(x).await?;
    if x.fetch_optional(x.dialect().has_tables, Vec::new()).await.map_err(DbError::at_start)?.is_none() {
        check_names(x).await?;
        x.script(TABLES).await.map_err(DbError::at_start)?;
    }
    // Checked before any migration, since some databases commit a change of the schema at once.
    let meta = meta(x).await?;
    let code = currency.to_string();
    if let Some(database) = meta.currency.as_ref().filter(|stored| **stored != code) {
        return Err(Conflict::DatabaseCurrency { database: database.clone(), shop: code }.into());
    }
    let applied = applied(x).await?;
    let is_newer = applied.last().is_some_and(|m| m.version > newest_version());
    let has = |version: i64| applied.iter().any(|m| m.version == version);
    if is_newer && !(meta.serves_this_release() && MIGRATIONS.iter().all(|m| has(m.version))) {
        return Err(Error::Internal {
            context: "the database's schema is newer than this release, and does not serve it: run the release that \
                      made it, or a later one",
            source: None,
        });
    }
    if let Some(newest) = applied.last().filter(|_| is_newer) {
        let schema = newest.name.as_str();
        tracing::warn!(schema, "a later release has migrated the database; its schema serves this release too");
    }
    // A migration may change an index that an import in bulk has dropped.
    if has(deferred::MIGRATION) && MIGRATIONS.iter().any(|m| !has(m.version)) {
        while deferred::restore_next(x).await? {}
    }
    for Migration { version, name, texts } in MIGRATIONS {
        let text = texts[x.dialect().slot];
        let sum = checksum(text);
        match applied.iter().find(|m| m.version == *version) {
            Some(known) if known.checksum == sum => {}
            Some(_) => return Err(edited()),
            None => {
                x.script(text).await.map_err(DbError::at_start)?;
                let args = vec![(*version).into(), (*name).into(), sum.into(), now.timestamp_micros().into()];
                x.execute(&APPLY, args).await.map_err(DbError::at_start)?;
            }
        }
    }
    if !is_newer && (meta.serves_from.is_none() || MIGRATIONS.iter().any(|m| !has(m.version))) {
        let from = RELEASED_BEFORE.unwrap_or_else(newest_version).to_string();
        x.execute(&FORGET_SERVED, Vec::new()).await.map_err(DbError::at_start)?;
        x.execute(&SET_SERVED, vec![from.into()]).await.map_err(DbError::at_start)?;
    }
    let is_in_currency = meta.currency.is_some();
    let identity = meta.identity.unwrap_or_else(|| identity.to_string());
    x.execute(&IDENTIFY, vec![identity.as_str().into()]).await.map_err(DbError::at_start)?;
    if !is_in_currency {
        x.execute(&SET_CURRENCY, vec![code.into()]).await.map_err(DbError::at_start)?;
    }
    x.commit().await.map_err(DbError::at_start)?;
    Ok(identity)
}

/// Waits until no other process changes the schema, for a transaction, which then keeps them waiting until its end.
///
/// # Errors
/// `Contention` if the lock was not free in time.
pub async fn lock(x: &mut Executor<'_>) -> Result<()> {
    if let Some(lock) = x.dialect().migration_lock {
        let locked = x.fetch_optional(lock, Vec::new()).await.map_err(DbError::at_start)?;
        if locked.and_then(|r| r.opt_i64(0).ok().flatten()) != Some(1) {
            return Err(Error::Contention { source: None });
        }
    }
    Ok(())
}

/// Returns the identity of the database if its schema is that of this release and in this currency, so that there is
/// nothing to migrate and no index to restore. It writes nothing and takes no lock.
///
/// # Errors
/// `Validation` on field `database` if the setup of the database is wrong.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub async fn current(x: &mut Executor<'_>, currency: Currency) -> Result<Option<String>> {
    check_setup(x).await?;
    if x.fetch_optional(x.dialect().has_tables, Vec::new()).await.map_err(DbError::at_start)?.is_none() {
        return Ok(None);
    }
    let meta = meta(x).await?;
    let is_stored = meta.currency == Some(currency.to_string()) && meta.serves_from.is_some();
    let slot = x.dialect().slot;
    let own = MIGRATIONS.iter().map(|m| (m.version, checksum(m.texts[slot])));
    let applied = applied(x).await?;
    let is_own = own.eq(applied.into_iter().map(|m| (m.version, m.checksum)));
    let is_current = is_stored && is_own && !deferred::is_any(x).await?;
    Ok(meta.identity.filter(|_| is_current))
}

/// Compares the schema with this release. It writes nothing and takes no lock.
///
/// # Errors
/// `Validation` on field `database` if the setup of the database is wrong, or if a database without tables of the shop
/// has one of their names.
pub async fn status(x: &mut Executor<'_>) -> Result<SchemaStatus> {
    check_setup(x).await?;
    let is_new = x.fetch_optional(x.dialect().has_tables, Vec::new()).await.map_err(DbError::at_start)?.is_none();
    let (meta, applied) = if is_new {
        check_names(x).await?;
        (Meta::default(), Vec::new())
    } else {
        (meta(x).await?, applied(x).await?)
    };
    let slot = x.dialect().slot;
    let mut status = SchemaStatus::default();
    let mut is_edited = false;
    for Migration { version, name, texts } in MIGRATIONS {
        match applied.iter().find(|m| m.version == *version) {
            Some(known) => is_edited |= known.checksum != checksum(texts[slot]),
            None => status.pending.push((*name).to_owned()),
        }
    }
    status.newer = applied.into_iter().filter(|m| m.version > newest_version()).map(|m| m.name).collect();
    status.is_served = status.newer.is_empty() || (meta.serves_this_release() && status.pending.is_empty());
    if is_edited && status.is_served { Err(edited()) } else { Ok(status) }
}

fn edited() -> Error {
    Error::Internal {
        context: "the database's schema was made by a migration that this release does not know",
        source: None,
    }
}

async fn check_setup(x: &mut Executor<'_>) -> Result<()> {
    if let Some(setup) = x.dialect().setup
        && let Some(wrong) = x.fetch_optional(setup, Vec::new()).await.map_err(DbError::at_start)?
    {
        return Err(Error::invalid("database", FieldCode::OutOfBounds, wrong.string(0)?));
    }
    Ok(())
}

async fn meta(x: &mut Executor<'_>) -> Result<Meta> {
    let mut meta = Meta::default();
    for row in x.fetch_all(&META, Vec::new()).await.map_err(DbError::at_start)? {
        let value = row.string(1)?;
        match row.text(0)? {
            "currency" => meta.currency = Some(value),
            "identity" => meta.identity = Some(value),
            _ => meta.serves_from = value.parse().ok(),
        }
    }
    Ok(meta)
}

/// Returns the migrations that were applied, oldest first.
async fn applied(x: &mut Executor<'_>) -> Result<Vec<Applied>> {
    let rows = x.fetch_all(&APPLIED, Vec::new()).await.map_err(DbError::at_start)?;
    rows.iter()
        .map(|row| Ok(Applied { version: row.i64(0)?, checksum: row.string(1)?, name: row.string(2)? }))
        .collect()
}

/// Returns the names of the tables that a migration creates.
fn created(text: &str) -> impl Iterator<Item = &str> {
    let statements = text.lines().filter_map(|line| line.trim_start().strip_prefix("CREATE TABLE "));
    statements.filter_map(|rest| rest.trim_start_matches("IF NOT EXISTS ").split([' ', '(']).next())
}

/// Checks that a database without tables of the shop has none of their names, before anything is written.
///
/// # Errors
/// `Validation` on field `database`.
async fn check_names(x: &mut Executor<'_>) -> Result<()> {
    let mut taken = Vec::new();
    for row in x.fetch_all(x.dialect().names, Vec::new()).await.map_err(DbError::at_start)? {
        taken.push(row.string(0)?);
    }
    let mut own = MIGRATIONS.iter().flat_map(|m| created(m.texts[x.dialect().slot]));
    match own.find(|name| taken.iter().any(|other| other == name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "names a database in which another program has a table `{name}`: name a database of the shop's own, or \
                 rename that table"
            );
            Err(Error::invalid("database", FieldCode::OutOfBounds, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sql::TABLES;

    /// A unique index of a migration.
    #[derive(Debug, PartialEq)]
    struct Found {
        /// The columns, if none of them is an expression.
        columns: Option<String>,
        /// Whether the index covers live or open rows only.
        live: bool,
    }

    /// Returns the unique indexes in one migration's text, by name.
    fn unique_indexes(text: &str) -> BTreeMap<String, Found> {
        let code: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("--")).collect();
        let code = code.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        let mut found = BTreeMap::new();
        for (start, _) in code.match_indices("UNIQUE INDEX ") {
            let rest = &code[start + "UNIQUE INDEX ".len()..];
            let name = rest.split([' ', '(']).next().unwrap_or_default();
            let open = rest.find('(').expect("an index has columns");
            let mut depth = 0;
            let close = rest[open..]
                .find(|c| {
                    depth += i32::from(c == '(') - i32::from(c == ')');
                    depth == 0
                })
                .map_or(rest.len(), |n| open + n);
            let columns = &rest[open + 1..close];
            let predicate = rest[close + 1..].split(';').next().unwrap_or_default();
            let in_mysql = columns.strip_suffix(", live").or_else(|| columns.strip_suffix(", is_open"));
            let live =
                in_mysql.is_some() || ["WHERE deleted_at IS NULL", "WHERE state = 0"].contains(&predicate.trim());
            let columns = Some(in_mysql.unwrap_or(columns).to_owned()).filter(|c| !c.contains('('));
            found.insert(name.to_owned(), Found { columns, live });
        }
        found
    }

    #[test]
    fn tables_and_migrations_have_the_same_unique_indexes() {
        for slot in 0..3 {
            let mut in_schema = BTreeMap::new();
            for migration in MIGRATIONS {
                in_schema.extend(unique_indexes(migration.texts[slot]));
            }
            let in_tables: BTreeMap<String, String> =
                TABLES.iter().flat_map(|t| t.indexes()).map(|i| (i.name.to_owned(), i.columns.join(", "))).collect();
            // Every index over live rows is in a table, and a table may also list an index over all rows.
            in_schema.retain(|name, index| index.live || in_tables.contains_key(name));
            let names = |of: Vec<&String>| of.into_iter().cloned().collect::<Vec<_>>();
            assert_eq!(names(in_schema.keys().collect()), names(in_tables.keys().collect()), "database {slot}");
            // SQLite names an index that has no expressions by its columns.
            for (name, columns) in in_schema.iter().filter_map(|(n, i)| Some((n, i.columns.as_ref()?))) {
                assert!(slot != 0 || in_tables[name] == *columns, "{name}: {columns}");
            }
            assert!(in_schema.len() >= 7, "{in_schema:?}");
        }
    }

    #[test]
    fn indexes_are_found_in_every_database_s_way_of_writing() {
        let text = "CREATE UNIQUE INDEX a ON t (coalesce(x, ''), y)\n  WHERE deleted_at IS NULL;\n\
                    -- UNIQUE INDEX no (x) WHERE deleted_at IS NULL;\nCREATE UNIQUE INDEX b ON t (x);\n\
                    UNIQUE INDEX c (x, y, live),\nUNIQUE INDEX d (seq)";
        let found = unique_indexes(text);
        let index = |name: &str, columns: Option<&str>, live| {
            (name.to_owned(), Found { columns: columns.map(str::to_owned), live })
        };
        let all = [
            index("a", None, true),
            index("b", Some("x"), false),
            index("c", Some("x, y"), true),
            index("d", Some("seq"), false),
        ];
        assert_eq!(found, BTreeMap::from(all));
    }

    #[test]
    fn the_names_of_tables_are_found_in_every_database_s_way_of_writing() {
        for slot in 0..3 {
            let names: Vec<&str> = MIGRATIONS.iter().flat_map(|m| created(m.texts[slot])).collect();
            assert!(names.contains(&"products") && names.contains(&"audit_log"), "database {slot}: {names:?}");
            assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '_')), "{names:?}");
            let described = TABLES.iter().all(|table| names.contains(&table.name()));
            assert!(described, "database {slot}: {names:?}");
        }
    }

    #[test]
    fn the_release_before_has_no_later_migrations() {
        assert!(RELEASED_BEFORE.is_none_or(|before| (1..=newest_version()).contains(&before)));
    }

    #[test]
    fn versions_rise_by_one() {
        let versions: Vec<i64> = MIGRATIONS.iter().map(|m| m.version).collect();
        assert_eq!(versions, (1..=i64::try_from(versions.len()).unwrap()).collect::<Vec<_>>());
    }
}
