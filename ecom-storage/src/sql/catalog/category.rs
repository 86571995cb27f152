//! Categories.

use std::collections::HashSet;

use async_trait::async_trait;
use ecom_core::catalog::CatalogConflict;
use ecom_core::catalog::{Category, CategoryFilter, path_depth};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::CategoryId;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::{CategoryRepository, CategoryUsage};
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, bad_cursor, case_size, count, page, taken};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit, read_external};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::Kind;
use crate::sql::engine::executor::Text;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of categories.
pub static CATEGORIES: Table<Category> = Table {
    name: "categories",
    entity: Entity::Category,
    columns: &[
        Column::fixed("id", |c| c.id.into()),
        Column::field("name", |c| Value::from(&c.name)),
        Column::derived("name_key", |c| fold_key(&c.name).into()),
        Column::field("slug", |c| c.slug.as_str().into()),
        Column::field("parent_id", |c| c.parent_id.into()),
        Column::field("path", |c| Value::from(&c.path)),
        Column::field("description", |c| c.description.as_deref().into()),
        Column::json("attributes", |c| Value::json(&c.attributes)),
        Column::External(|c| &c.external),
        // Writes of products change them.
        Column::kept("product_count"),
        Column::kept("subtree_product_count"),
        // The difference is added, so that a sale in between is not overwritten.
        Column::counter("revision", |c| c.revision),
        Column::Audit(|c| &c.audit),
    ],
    unique: &[
        Unique {
            index: "categories_sibling_name_live",
            columns: &["parent_id", "name_key"],
            field: "name",
            value: |c| Some(c.name.clone()),
        },
        Unique {
            index: "categories_slug_live",
            columns: &["slug"],
            field: "slug",
            value: |c| Some(c.slug.to_string()),
        },
        Unique {
            index: "categories_external_live",
            columns: &["source", "external_id"],
            field: "external_id",
            value: |c| c.external.as_ref().map(|e| e.external_id.clone()),
        },
    ],
    parent: Some(("parent_id", |c| c.parent_id.map(|p| p.0))),
};

static WRITES: Versioned<Category> = Versioned::new(&CATEGORIES);
static GET: Sql = Sql::of(&CATEGORIES, "SELECT {*} FROM categories WHERE id = $1");
static TREE: Sql = Sql::of(&CATEGORIES, "SELECT {*} FROM categories WHERE deleted_at IS NULL ORDER BY name_key, id");
static SUBTREE: Sql =
    Sql::of(&CATEGORIES, "SELECT {*} FROM categories WHERE path = $1 OR (path >= $2 AND path < $3) ORDER BY path, id");
static MANY: Sql = Sql::of(&CATEGORIES, "SELECT {*} FROM categories WHERE ");
static LIST: Sql = Sql::of(&CATEGORIES, "SELECT {*}, name_key");
/// The position of the column after [`CATEGORIES`] in [`LIST`].
const NAME_KEY: usize = CATEGORIES.width();
static USAGE: Sql = Sql::new(
    "SELECT (SELECT COUNT(*) FROM categories WHERE parent_id = $1 AND deleted_at IS NULL), \
     (SELECT COUNT(*) FROM categories WHERE parent_id = $1), \
     (SELECT COUNT(*) FROM product_categories pc JOIN products p ON p.id = pc.product_id \
     WHERE pc.category_id = $1 AND p.deleted_at IS NULL), \
     (SELECT COUNT(*) FROM product_categories WHERE category_id = $1)",
);
static DELETE: Sql = Sql::new("DELETE FROM categories WHERE id = $1");

fn read(r: &Row) -> Result<Category> {
    Ok(Category {
        id: CategoryId(r.uuid(const { CATEGORIES.at("id") })?),
        name: r.string(const { CATEGORIES.at("name") })?,
        slug: Slug::trusted(r.string(const { CATEGORIES.at("slug") })?),
        parent_id: r.opt_uuid(const { CATEGORIES.at("parent_id") })?.map(CategoryId),
        path: r.string(const { CATEGORIES.at("path") })?,
        description: r.opt_string(const { CATEGORIES.at("description") })?,
        attributes: r.json(const { CATEGORIES.at("attributes") })?,
        external: read_external(r, const { CATEGORIES.at("source") })?,
        product_count: r.i64(const { CATEGORIES.at("product_count") })?,
        subtree_product_count: r.i64(const { CATEGORIES.at("subtree_product_count") })?,
        revision: r.i64(const { CATEGORIES.at("revision") })?,
        audit: read_audit(r, const { CATEGORIES.at("created_at") })?,
    })
}

/// The categories of a SQL database.
pub type SqlCategories<'c> = SqlRepository<'c, dyn CategoryRepository>;

impl SqlCategories<'_> {
    async fn many(&mut self, text: impl Into<Text> + Send, args: Vec<Value<'_>>) -> Result<Vec<Category>> {
        self.0.fetch_all(text, args).await?.iter().map(read).collect()
    }

    fn filtered(b: &mut Builder<'_>, filter: &CategoryFilter) {
        b.push(" FROM categories WHERE 1 = 1");
        match filter.parent {
            None => {}
            Some(None) => {
                b.push(" AND parent_id IS NULL");
            }
            Some(Some(id)) => {
                b.push(" AND parent_id = ").bind(id);
            }
        }
        if filter.include_deleted == IncludeDeleted::No {
            b.push(" AND deleted_at IS NULL");
        }
    }
}

#[async_trait]
impl CategoryRepository for SqlCategories<'_> {
    async fn get(&mut self, id: CategoryId, deleted: IncludeDeleted) -> Result<Option<Category>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        let category = row.as_ref().map(read).transpose()?;
        Ok(category.filter(|c| deleted == IncludeDeleted::Yes || c.audit.is_live()))
    }

    async fn get_many(&mut self, ids: &[CategoryId], deleted: IncludeDeleted) -> Result<Vec<Category>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&MANY, self.0.dialect());
            b.push("id IN ").list(chunk);
            if deleted == IncludeDeleted::No {
                b.push(" AND deleted_at IS NULL");
            }
            b.push(" ORDER BY id");
            let (text, args) = b.done();
            out.extend(self.many(text, args).await?);
        }
        if ids.len() > MAX_LIST {
            out.sort_by_key(|c| c.id);
            out.dedup_by_key(|c| c.id);
        }
        Ok(out)
    }

    async fn get_by_slugs(&mut self, slugs: &[String]) -> Result<Vec<Category>> {
        let mut out = Vec::with_capacity(slugs.len());
        for chunk in slugs.chunks(MAX_LIST) {
            let mut b = Builder::on(&MANY, self.0.dialect());
            b.push("deleted_at IS NULL AND slug IN ").list(&chunk.iter().collect::<Vec<_>>());
            let (text, args) = b.done();
            out.extend(self.many(text, args).await?);
        }
        out.sort_by_key(|c| c.id);
        out.dedup_by_key(|c| c.id);
        Ok(out)
    }

    async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<Category>> {
        let mut out = Vec::with_capacity(external_ids.len());
        for chunk in external_ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&MANY, self.0.dialect());
            b.push("source = ").bind(source).push(" AND external_id IN ").list(&chunk.iter().collect::<Vec<_>>());
            let (text, args) = b.done();
            out.extend(self.many(text, args).await?);
        }
        out.sort_by_key(|c| c.id);
        out.dedup_by_key(|c| c.id);
        Ok(out)
    }

    async fn lock_tree(&mut self) -> Result<()> {
        if let Some(sql) = self.0.dialect().lock_tree {
            self.0.fetch_all(sql, Vec::new()).await?;
        }
        Ok(())
    }

    async fn hold_tree(&mut self) -> Result<()> {
        if let Some(sql) = self.0.dialect().hold_tree {
            self.0.fetch_all(sql, Vec::new()).await?;
        }
        Ok(())
    }

    async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        taken(&mut self.0, "categories", "slug", bases).await
    }

    async fn list(&mut self, filter: &CategoryFilter, paging: &Paging) -> Result<Page<Category>> {
        let mut b = Builder::on(&LIST, self.0.dialect());
        Self::filtered(&mut b, filter);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            let SortKey::Text(name) = &k.key else {
                return Err(bad_cursor());
            };
            b.push(" AND name_key >= ").bind(name);
            b.push(" AND (name_key > ").bind(name).push(" OR id > ").bind(k.id).push(")");
        }
        page(&mut b, "name_key, id", paging);
        let (text, args) = b.done();
        let rows = self.0.fetch_all(text, args).await?;
        let items = rows.iter().map(|r| Ok((read(r)?, r.string(NAME_KEY)?))).collect::<Result<Vec<_>>>()?;
        let found = Page::from_overfetch(items, paging.limit(), |(c, key)| Keyset {
            sort: "name".to_owned(),
            key: SortKey::Text(key.clone()),
            id: c.id.0,
        });
        Ok(found.map(|(c, _)| c))
    }

    async fn count(&mut self, filter: &CategoryFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| Self::filtered(b, filter)).await
    }

    async fn subtree(&mut self, path: &str) -> Result<Vec<Category>> {
        // The paths below start with this path and a slash; `0` is the character after the slash.
        let args = vec![path.into(), format!("{path}/").into(), format!("{path}0").into()];
        self.many(&SUBTREE, args).await
    }

    async fn tree(&mut self) -> Result<Vec<Category>> {
        let mut all = self.many(&TREE, Vec::new()).await?;
        // The sort is stable, so siblings stay sorted by name.
        all.sort_by_cached_key(|c| path_depth(&c.path));
        Ok(all)
    }

    async fn usage(&mut self, id: CategoryId) -> Result<CategoryUsage> {
        let Some(r) = self.0.fetch_optional(&USAGE, vec![id.into()]).await? else {
            return Ok(CategoryUsage::default());
        };
        Ok(CategoryUsage {
            live_children: r.count(0)?,
            all_children: r.count(1)?,
            live_products: r.count(2)?,
            all_products: r.count(3)?,
        })
    }

    async fn insert(&mut self, categories: &[Category]) -> Result<()> {
        CATEGORIES.insert(&mut self.0, categories).await
    }

    async fn update(&mut self, before: &Category, after: &Category) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn rewrite_paths(&mut self, paths: &[(CategoryId, String)]) -> Result<()> {
        for chunk in paths.chunks(128) {
            let mut b = Builder::new("UPDATE categories SET revision = revision + 1, path = CASE id");
            for i in 0..case_size(chunk.len()) {
                if let Some((id, path)) = chunk.get(i).or(chunk.last()) {
                    b.push(" WHEN ").bind(*id).push(" THEN ").bind(path);
                }
            }
            b.push(" ELSE path END WHERE id IN ").list(&chunk.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
        }
        Ok(())
    }

    async fn purge(&mut self, id: CategoryId) -> Result<()> {
        let usage = self.usage(id).await?;
        let refused = || {
            Error::from(CatalogConflict::CategoryNotEmpty {
                category: id.0,
                children: usage.all_children,
                products: usage.all_products,
            })
        };
        if usage.all_children + usage.all_products > 0 {
            return Err(refused());
        }
        match self.0.execute(&DELETE, vec![id.into()]).await {
            // A row that refers to the category was written since.
            Err(e) if matches!(e.kind, Kind::ForeignKey(_)) => Err(refused()),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(()),
        }
    }
}
