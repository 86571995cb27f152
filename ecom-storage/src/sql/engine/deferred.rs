//! Indexes that an import in bulk drops at its beginning and creates again at its end.
//!
//! An index whose order is not that of the import has a page for every few rows of a batch, so that each batch writes
//! most of it anew. Built at the end, it is sorted and written once. The transaction that drops the indexes records
//! their definitions in the table `deferred_indexes`, so that whoever comes after a process that has died can create
//! them.

use ecom_core::Result;

use crate::sql::engine::dialect::Sql;
use crate::sql::engine::executor::Executor;
use crate::sql::engine::migrate;

/// The version of the migration with the table of deferred indexes.
pub const MIGRATION: i64 = 17;

/// The indexes that are dropped: those that lists, filters and the histories of SKUs walk. None of them is unique, and
/// an import looks up nothing by them. The names are the same in every database.
const DEFERRED: [&str; 15] = [
    "product_categories_category",
    "product_listings_id",
    "product_listings_price",
    "product_listings_rating",
    "product_listings_title",
    "product_tags_tag",
    "products_brand",
    "products_list_availability",
    "products_list_id",
    "products_list_price",
    "products_list_rating",
    "products_list_title",
    "products_updated",
    "skus_barcode",
    "stock_movements_sku",
];

static NEXT: Sql = Sql::new("SELECT name, definition FROM deferred_indexes ORDER BY name LIMIT 1");
static NOTE: Sql = Sql::new(
    "INSERT INTO deferred_indexes (name, definition) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
);
static FORGET: Sql = Sql::new("DELETE FROM deferred_indexes WHERE name = $1");

/// Drops the indexes that exist, and records their definitions, in a transaction.
pub async fn defer(x: &mut Executor<'_>) -> Result<()> {
    let Some(indexes) = x.dialect().indexes else { return Ok(()) };
    migrate::lock(x).await?;
    let mut found = Vec::new();
    for row in x.fetch_all(indexes, Vec::new()).await? {
        found.push((row.string(0)?, row.string(1)?));
    }
    for (name, definition) in found.iter().filter(|(name, _)| DEFERRED.contains(&name.as_str())) {
        x.execute(&NOTE, vec![name.as_str().into(), definition.as_str().into()]).await?;
        x.define(format!("DROP INDEX {name}")).await?;
    }
    Ok(())
}

/// Returns whether there are indexes to restore. The tables of the shop must exist.
pub async fn is_any(x: &mut Executor<'_>) -> Result<bool> {
    Ok(x.dialect().indexes.is_some() && x.fetch_optional(&NEXT, Vec::new()).await?.is_some())
}

/// Creates the next index, in a transaction that has the lock of migrations. Returns false if there are no more.
pub async fn restore_next(x: &mut Executor<'_>) -> Result<bool> {
    let Some(row) = x.fetch_optional(&NEXT, Vec::new()).await? else { return Ok(false) };
    let (name, definition) = (row.string(0)?, row.string(1)?);
    // Somebody may have created it by hand.
    x.define(definition.replacen("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS ", 1)).await?;
    x.execute(&FORGET, vec![name.as_str().into()]).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::MIGRATIONS;

    #[test]
    fn deferred_indexes_exist_and_are_not_unique() {
        assert!(MIGRATIONS.iter().any(|m| m.version == MIGRATION && m.name == "0017_deferred_indexes"));
        for slot in 0..2 {
            let all: String = MIGRATIONS.iter().map(|m| m.texts[slot]).collect();
            for name in DEFERRED {
                assert!(all.contains(&format!("CREATE INDEX {name} ON ")), "database {slot}: {name}");
                assert!(!all.contains(&format!("DROP INDEX {name}")), "database {slot}: {name}");
            }
        }
        assert!(DEFERRED.is_sorted());
    }
}
