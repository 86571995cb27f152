//! Categories.

use std::collections::HashSet;

use async_trait::async_trait;
use ecom_core::catalog::{Category, CategoryFilter, path_depth};
use ecom_core::common::{Actor, Audit, Deleted, ExternalRef};
use ecom_core::id::CategoryId;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::port::{CategoryRepository, CategoryUsage};
use ecom_core::text::{Slug, fold_key};
use ecom_core::{Conflict, Entity, Error, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, case_size, insert_rows, taken};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::gone;
use crate::sql::engine::executor::Executor;
use crate::sql::engine::unit_of_work::SqlRepository;
use crate::sql::engine::value::{Row, Value};

macro_rules! columns {
    () => {
        "id, name, slug, parent_id, path, description, attributes, source, external_id, product_count, \
         subtree_product_count, revision, created_at, updated_at, created_by, updated_by, version, deleted_at"
    };
}

static GET: Sql = Sql::new(concat!("SELECT ", columns!(), " FROM categories WHERE id = $1"));
static TREE: Sql =
    Sql::new(concat!("SELECT ", columns!(), " FROM categories WHERE deleted_at IS NULL ORDER BY name_key, id"));
static SUBTREE: Sql = Sql::new(concat!(
    "SELECT ",
    columns!(),
    " FROM categories WHERE path = $1 OR (path >= $2 AND path < $3) ORDER BY path, id"
));
static USAGE: Sql = Sql::new(
    "SELECT (SELECT COUNT(*) FROM categories WHERE parent_id = $1 AND deleted_at IS NULL), \
     (SELECT COUNT(*) FROM categories WHERE parent_id = $1), \
     (SELECT COUNT(*) FROM product_categories pc JOIN products p ON p.id = pc.product_id \
     WHERE pc.category_id = $1 AND p.deleted_at IS NULL), \
     (SELECT COUNT(*) FROM product_categories WHERE category_id = $1)",
);
static UPDATE: Sql = Sql::new(
    "UPDATE categories SET name = $3, name_key = $4, slug = $5, parent_id = $6, path = $7, description = $8, \
     attributes = $9, source = $10, external_id = $11, revision = revision + $12, updated_at = $13, updated_by = $14, \
     version = $15, deleted_at = $16 WHERE id = $1 AND version = $2",
);
static VERSION: Sql = Sql::new("SELECT version FROM categories WHERE id = $1");
static DELETE: Sql = Sql::new("DELETE FROM categories WHERE id = $1");

/// The audit columns, which stand together in every list.
pub fn read_audit(r: &Row, at: usize) -> Result<Audit> {
    Ok(Audit {
        created_at: r.time(at)?,
        updated_at: r.time(at + 1)?,
        created_by: Actor::new(r.text(at + 2)?),
        updated_by: Actor::new(r.text(at + 3)?),
        version: r.i64(at + 4)?,
        deleted_at: r.opt_time(at + 5)?,
    })
}

/// Adds the audit columns.
pub fn bind_audit<'q>(a: &'q Audit, to: &mut Vec<Value<'q>>) {
    to.extend([
        a.created_at.into(),
        a.updated_at.into(),
        a.created_by.as_str().into(),
        a.updated_by.as_str().into(),
        a.version.into(),
        a.deleted_at.into(),
    ]);
}

/// Source and external id, which stand together.
pub fn read_external(r: &Row, at: usize) -> Result<Option<ExternalRef>> {
    Ok(match (r.opt_text(at)?, r.opt_text(at + 1)?) {
        (Some(s), Some(i)) => Some(ExternalRef::new(s, i)),
        _ => None,
    })
}

/// Adds source and external id.
pub fn bind_external<'q>(e: Option<&'q ExternalRef>, to: &mut Vec<Value<'q>>) {
    to.push(e.map(|e| e.source.as_str()).into());
    to.push(e.map(|e| e.external_id.as_str()).into());
}

fn read(r: &Row) -> Result<Category> {
    Ok(Category {
        id: CategoryId(r.uuid(0)?),
        name: r.string(1)?,
        slug: Slug::trusted(r.string(2)?),
        parent_id: r.opt_uuid(3)?.map(CategoryId),
        path: r.string(4)?,
        description: r.opt_string(5)?,
        attributes: r.json(6)?,
        external: read_external(r, 7)?,
        product_count: r.i64(9)?,
        subtree_product_count: r.i64(10)?,
        revision: r.i64(11)?,
        audit: read_audit(r, 12)?,
    })
}

/// The categories of a SQL database.
pub type SqlCategories<'c> = SqlRepository<'c, dyn CategoryRepository>;

impl SqlCategories<'_> {
    async fn many(
        &mut self,
        text: impl Into<crate::sql::engine::executor::Text> + Send,
        args: Vec<Value<'_>>,
    ) -> Result<Vec<Category>> {
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
        if filter.deleted == Deleted::Hide {
            b.push(" AND deleted_at IS NULL");
        }
    }
}

/// What of a category a unique index holds.
fn unique_value(c: &Category, field: &str) -> Option<String> {
    match field {
        "name" => Some(c.name.clone()),
        "slug" => Some(c.slug.to_string()),
        "external_id" => c.external.as_ref().map(|e| e.external_id.clone()),
        _ => None,
    }
}

/// The value that one row has, or that two rows of a batch share; else the database knows it and we do not.
pub fn colliding<T>(rows: &[T], value: impl Fn(&T) -> Option<String>) -> Option<String> {
    if let [one] = rows {
        return value(one);
    }
    let mut seen = HashSet::new();
    rows.iter().filter_map(value).find(|v| !seen.insert(fold_key(v)))
}

#[async_trait]
impl CategoryRepository for SqlCategories<'_> {
    async fn get(&mut self, id: CategoryId, deleted: Deleted) -> Result<Option<Category>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        let category = row.as_ref().map(read).transpose()?;
        Ok(category.filter(|c| deleted == Deleted::Include || c.audit.is_live()))
    }

    async fn get_many(&mut self, ids: &[CategoryId], deleted: Deleted) -> Result<Vec<Category>> {
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(MAX_LIST) {
            let mut b = Builder::new(concat!("SELECT ", columns!(), " FROM categories WHERE id IN "));
            b.list(chunk);
            if deleted == Deleted::Hide {
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
            let mut b =
                Builder::new(concat!("SELECT ", columns!(), " FROM categories WHERE deleted_at IS NULL AND slug IN "));
            b.list(&chunk.iter().collect::<Vec<_>>());
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
            let mut b = Builder::new(concat!("SELECT ", columns!(), " FROM categories WHERE source = "));
            b.bind(source).push(" AND external_id IN ").list(&chunk.iter().collect::<Vec<_>>());
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
        let mut b = Builder::new(concat!("SELECT ", columns!(), ", name_key"));
        Self::filtered(&mut b, filter);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            let SortKey::Text(name) = &k.key else {
                return Err(bad_cursor());
            };
            b.push(" AND name_key >= ").bind(name);
            b.push(" AND (name_key > ").bind(name).push(" OR id > ").bind(k.id).push(")");
        }
        b.push(" ORDER BY name_key, id").limit(i64::from(paging.limit()) + 1);
        if let Paging::Offset { offset, .. } = paging {
            b.push(" OFFSET ").bind(i64::try_from(*offset).unwrap_or(i64::MAX));
        }
        let (text, args) = b.done();
        let rows = self.0.fetch_all(text, args).await?;
        let items = rows.iter().map(|r| Ok((read(r)?, r.string(18)?))).collect::<Result<Vec<_>>>()?;
        let page = Page::from_overfetch(items, paging.limit(), |(c, key)| Keyset {
            sort: "name".to_owned(),
            key: SortKey::Text(key.clone()),
            id: c.id.0,
        });
        Ok(page.map(|(c, _)| c))
    }

    async fn count(&mut self, filter: &CategoryFilter, bound: u64) -> Result<Total> {
        let mut b = Builder::new("SELECT COUNT(*) FROM (SELECT 1");
        Self::filtered(&mut b, filter);
        b.limit(limit_over(bound)).push(") counted");
        let (text, args) = b.done();
        let row = self.0.fetch_optional(text, args).await?;
        Ok(Total::bounded(row.map_or(Ok(0), |r| r.count(0))?, bound))
    }

    async fn subtree(&mut self, path: &str) -> Result<Vec<Category>> {
        // What is below starts with the path and a slash; `0` is the character after the slash.
        let args = vec![path.into(), format!("{path}/").into(), format!("{path}0").into()];
        self.many(&SUBTREE, args).await
    }

    async fn tree(&mut self) -> Result<Vec<Category>> {
        let mut all = self.many(&TREE, Vec::new()).await?;
        // Stable: siblings stay by name.
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
        let head = "INSERT INTO categories (id, name, name_key, slug, parent_id, path, description, attributes, source, \
                    external_id, product_count, subtree_product_count, revision, created_at, updated_at, created_by, \
                    updated_by, version, deleted_at)";
        insert_rows(&mut self.0, head, 19, categories, |c, to| {
            to.extend([
                c.id.into(),
                Value::from(&c.name),
                fold_key(&c.name).into(),
                c.slug.as_str().into(),
                c.parent_id.into(),
                Value::from(&c.path),
                c.description.as_deref().into(),
                Value::json(&c.attributes)?,
            ]);
            bind_external(c.external.as_ref(), to);
            to.extend([0_i64.into(), 0_i64.into(), c.revision.into()]);
            bind_audit(&c.audit, to);
            Ok(())
        })
        .await?
        .map_err(|e| match e.kind {
            crate::sql::engine::error::Kind::ForeignKey => e.or_reference("parent_id", || parents(categories)),
            _ => e.or_duplicate(|field| colliding(categories, |c| unique_value(c, field))),
        })
    }

    async fn update(&mut self, before: &Category, after: &Category) -> Result<()> {
        let mut args = vec![
            before.id.into(),
            before.audit.version.into(),
            Value::from(&after.name),
            fold_key(&after.name).into(),
            after.slug.as_str().into(),
            after.parent_id.into(),
            Value::from(&after.path),
            after.description.as_deref().into(),
            Value::json(&after.attributes)?,
        ];
        bind_external(after.external.as_ref(), &mut args);
        args.extend([
            // A sale that moved the revision in between is kept.
            (after.revision - before.revision).into(),
            after.audit.updated_at.into(),
            after.audit.updated_by.as_str().into(),
            after.audit.version.into(),
            after.audit.deleted_at.into(),
        ]);
        let changed = self.0.execute(&UPDATE, args).await.map_err(|e| match e.kind {
            crate::sql::engine::error::Kind::ForeignKey => {
                e.or_reference("parent_id", || parents(std::slice::from_ref(after)))
            }
            _ => e.or_duplicate(|field| unique_value(after, field)),
        })?;
        if changed == 0 {
            return Err(moved_on(&mut self.0, &VERSION, Entity::Category, before.id.0, before.audit.version).await?);
        }
        Ok(())
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
            Error::from(Conflict::CategoryNotEmpty {
                category: id.0,
                children: usage.all_children,
                products: usage.all_products,
            })
        };
        if usage.all_children + usage.all_products > 0 {
            return Err(refused());
        }
        match self.0.execute(&DELETE, vec![id.into()]).await {
            // Something came to refer to it since.
            Err(e) if e.kind == crate::sql::engine::error::Kind::ForeignKey => Err(refused()),
            Err(e) => Err(e.into()),
            Ok(_) => Ok(()),
        }
    }
}

fn parents(categories: &[Category]) -> String {
    let ids: Vec<_> = categories.iter().filter_map(|c| c.parent_id.map(|p| p.to_string())).take(5).collect();
    ids.join("`, `")
}

/// A cursor whose key is of another kind than the list's.
pub fn bad_cursor() -> Error {
    Error::invalid("cursor", ecom_core::FieldCode::Malformed, "is not a cursor of this list; start again without it")
}

/// One more than the bound, to see whether there is more.
pub fn limit_over(bound: u64) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX).saturating_add(1)
}

/// Why an update by version changed nothing.
pub async fn moved_on(
    x: &mut Executor<'_>,
    version: &'static Sql,
    entity: Entity,
    id: uuid::Uuid,
    expected: i64,
) -> Result<Error> {
    Ok(match x.fetch_optional(version, vec![id.into()]).await? {
        Some(r) => Conflict::Version { entity, id, expected, actual: r.i64(0)? }.into(),
        None => Error::not_found(entity, id),
    })
}

/// The error for a category that is gone, as products name it.
pub fn category_gone(id: uuid::Uuid) -> Error {
    gone("categories", &id.to_string())
}
