//! The representation of categories.

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
    /// The id of the category.
    pub id: Uuid,
    /// The name, unique among live siblings, ignoring case.
    #[schema(example = "Headphones")]
    pub name: &'a str,
    /// The name of the category in URLs, unique among live categories.
    #[schema(example = "headphones")]
    pub slug: &'a str,
    /// The id of the parent category; null for a root.
    pub parent_id: Option<Uuid>,
    /// The slugs from the root to the category, separated by slashes.
    #[schema(example = "electronics/audio/headphones")]
    pub path: &'a str,
    /// The level of the category; the level of a root is 1.
    pub depth: usize,
    /// The description; null if there is none.
    pub description: Option<&'a str>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The number of active products that are directly in the category.
    pub product_count: i64,
    /// The number of active products in the category and its descendants. Each product counts once.
    pub subtree_product_count: i64,
    /// The system that the category was imported from; null if it was not imported.
    pub source: Option<&'a str>,
    /// The id of the category in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases when somebody edits the category. Writes name it (R1).
    pub version: i64,
    /// The revision, which increases with every change of this representation.
    pub revision: i64,
    /// When the category was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the category was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the category.
    pub created_by: &'a str,
    /// The actor who last edited the category.
    pub updated_by: &'a str,
    /// When the category was soft-deleted (RFC 3339, UTC); null for a live one.
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

/// A category with its descendants.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CategoryNode<'a> {
    /// The category.
    #[serde(flatten)]
    pub category: CategoryView<'a>,
    /// The child categories, each with its descendants.
    #[schema(no_recursion)]
    pub children: Vec<Self>,
}

/// Returns the roots with their descendants. `all` can be in any order; siblings keep it.
pub(crate) fn tree(all: &[Category]) -> Vec<CategoryNode<'_>> {
    let mut below: HashMap<Option<CategoryId>, Vec<&Category>> = HashMap::new();
    for c in all {
        below.entry(c.parent_id).or_default().push(c);
    }
    children(None, &below)
}

// The recursion ends after at most 32 levels, the maximum depth of the tree.
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

/// The target of a move of a category.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"parent_id": "electronics/audio", "version": 1}))]
pub(crate) struct MoveInput {
    /// The new parent category, by its id, slug or path; null makes the category a root. Required.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub parent_id: Option<String>,
    /// The version of the category that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}
