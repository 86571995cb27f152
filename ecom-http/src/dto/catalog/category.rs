//! Categories over the wire.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ecom_core::catalog::Category;
use ecom_core::common::Attributes;
use ecom_core::id::CategoryId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A category.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategoryView<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique among its siblings.
    #[schema(example = "Headphones")]
    pub name: &'a str,
    /// Its name in URLs, unique.
    #[schema(example = "headphones")]
    pub slug: &'a str,
    /// The category above, null at the root.
    pub parent_id: Option<Uuid>,
    /// The slugs from the root to itself.
    #[schema(example = "electronics/audio/headphones")]
    pub path: &'a str,
    /// Its level; the root is 1.
    pub depth: usize,
    /// What is in it.
    pub description: Option<&'a str>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// Active products in it.
    pub product_count: i64,
    /// Active products in it and everything below.
    pub subtree_product_count: i64,
    /// The system it was imported from.
    pub source: Option<&'a str>,
    /// Its id in that system.
    pub external_id: Option<&'a str>,
    /// Moves when somebody edits it.
    pub version: i64,
    /// Moves with whatever this document shows.
    pub revision: i64,
    /// When it was made.
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When it was edited last.
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: &'a str,
    /// Who edited it last.
    pub updated_by: &'a str,
    /// When it was soft-deleted.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl CategoryView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "name",
        "slug",
        "parent_id",
        "path",
        "depth",
        "description",
        "attributes",
        "product_count",
        "subtree_product_count",
        "source",
        "external_id",
        "version",
        "revision",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];
}

impl<'a> From<&'a Category> for CategoryView<'a> {
    fn from(c: &'a Category) -> Self {
        Self {
            id: c.id.0,
            name: &c.name,
            slug: c.slug.as_str(),
            parent_id: c.parent_id.map(Into::into),
            path: &c.path,
            depth: c.depth(),
            description: c.description.as_deref(),
            attributes: &c.attributes,
            product_count: c.product_count,
            subtree_product_count: c.subtree_product_count,
            source: c.external.as_ref().map(|x| x.source.as_str()),
            external_id: c.external.as_ref().map(|x| x.external_id.as_str()),
            version: c.audit.version,
            revision: c.revision,
            created_at: c.audit.created_at,
            updated_at: c.audit.updated_at,
            created_by: c.audit.created_by.as_str(),
            updated_by: c.audit.updated_by.as_str(),
            deleted_at: c.audit.deleted_at,
        }
    }
}

/// A category with everything below it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategoryNode<'a> {
    /// The category.
    #[serde(flatten)]
    pub category: CategoryView<'a>,
    /// The categories directly below.
    #[schema(no_recursion)]
    pub children: Vec<Self>,
}

/// The roots with what is below them; `all` may come in any order.
pub(crate) fn tree(all: &[Category]) -> Vec<CategoryNode<'_>> {
    let mut below: HashMap<Option<CategoryId>, Vec<&Category>> = HashMap::new();
    for c in all {
        below.entry(c.parent_id).or_default().push(c);
    }
    children(None, &below)
}

// Recursion ends at the 32 levels that a category can have.
fn children<'a>(
    of: Option<CategoryId>,
    below: &HashMap<Option<CategoryId>, Vec<&'a Category>>,
) -> Vec<CategoryNode<'a>> {
    below
        .get(&of)
        .into_iter()
        .flatten()
        .map(|c| CategoryNode { category: (*c).into(), children: children(Some(c.id), below) })
        .collect()
}

/// Where a category moves to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"parent_id": "electronics/audio", "version": 1}))]
pub(crate) struct MoveInput {
    /// The category above: an id, slug or path; null for the root.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub parent_id: Option<String>,
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    pub version: Option<i64>,
}
