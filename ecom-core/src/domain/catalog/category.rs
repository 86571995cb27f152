//! Categories, which form a tree. Each category stores the path of slugs that leads to it.

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::error::{FieldCode, ValidationErrors};
use crate::id::CategoryId;
use crate::text::{Slug, check_text};

/// A category of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// The id of the category.
    pub id: CategoryId,
    /// The name, 1–100 characters, unique among live siblings, ignoring case.
    pub name: String,
    /// The name of the category in URLs, unique among live categories.
    pub slug: Slug,
    /// The parent category; `None` for a root.
    pub parent_id: Option<CategoryId>,
    /// The slugs from the root to this category: `electronics/audio/headphones` (R3).
    pub path: String,
    /// The description, at most 5,000 characters.
    pub description: Option<String>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The record that the category was imported from.
    pub external: Option<ExternalRef>,
    /// The number of active live products that are directly in the category.
    pub product_count: i64,
    /// The number of active live products that are in the category or in its descendants. Each product counts once.
    pub subtree_product_count: i64,
    /// The revision of the category, which increases with every change of its representation.
    pub revision: i64,
    /// When and by whom the category was created and edited, and its version.
    pub audit: Audit,
}

impl Audited for Category {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn document(&self) -> Map<String, Value> {
        fields(self, &["id", "revision", "product_count", "subtree_product_count"])
    }
}

impl Category {
    /// The maximum level; the level of a root is 1.
    pub const MAX_DEPTH: usize = 32;
    /// The maximum length of the description, in characters.
    pub const MAX_DESCRIPTION: usize = 5_000;

    /// Returns the level of the category; the level of a root is 1.
    pub fn depth(&self) -> usize {
        path_depth(&self.path)
    }

    /// Returns true if `other` is this category or one of its descendants.
    pub fn contains(&self, other: &Self) -> bool {
        other.path == self.path || other.path.strip_prefix(self.path.as_str()).is_some_and(|r| r.starts_with('/'))
    }

    /// Returns the path of a category with `slug` under `parent`, or of a root.
    pub fn path_under(parent: Option<&Self>, slug: &Slug) -> String {
        parent.map_or_else(|| slug.to_string(), |p| format!("{}/{slug}", p.path))
    }
}

/// Returns how many slugs a path has.
pub fn path_depth(path: &str) -> usize {
    path.split('/').count()
}

/// Returns the slugs of all ancestors of the category at `path`, root first.
pub fn ancestor_slugs(path: &str) -> impl Iterator<Item = &str> {
    let n = path_depth(path) - 1;
    path.split('/').take(n)
}

/// The part of a category that products show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategorySummary {
    /// The id of the category.
    pub id: CategoryId,
    /// The name of the category.
    pub name: String,
    /// The slug of the category.
    pub slug: Slug,
    /// The path of the category.
    pub path: String,
}

impl From<&Category> for CategorySummary {
    fn from(c: &Category) -> Self {
        Self { id: c.id, name: c.name.clone(), slug: c.slug.clone(), path: c.path.clone() }
    }
}

/// The filter of a list of categories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CategoryFilter {
    /// `Some(None)` selects the roots, `Some(Some(id))` the children of `id`, and `None` all categories.
    pub parent: Option<Option<CategoryId>>,
    /// Whether soft-deleted categories are listed (R2).
    pub include_deleted: IncludeDeleted,
}

/// A category to create or to replace (PUT).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CategoryInput {
    /// The name, 1–100 characters, unique among live siblings, ignoring case.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Headphones"))]
    #[setters(skip)]
    pub name: String,
    /// The name of the category in URLs: 1–100 characters of a-z, 0-9 and -, unique among live categories. If it is
    /// absent, it is derived from the name.
    #[serde(default)]
    pub slug: Option<String>,
    /// The parent category, by its id, slug or path. If it is absent or null, the category is a root.
    #[serde(default)]
    #[setters(skip)]
    pub parent_id: Option<String>,
    /// The description, at most 5,000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The system that the category was imported from, 1–100 characters; requires `external_id`. If it is absent, a
    /// replaced category keeps its own.
    #[serde(default)]
    pub source: Option<String>,
    /// The id of the category in that system, 1–255 characters; requires `source`. No other live category has the same
    /// `source` and `external_id`.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The version of the category that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a category (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CategoryPatch {
    /// The name, 1–100 characters, unique among live siblings, ignoring case; null is refused. A slug that was derived
    /// from the old name follows the new one.
    #[serde(default)]
    pub name: Patch<String>,
    /// The name of the category in URLs: 1–100 characters of a-z, 0-9 and -, unique among live categories; null derives
    /// it from the name again.
    #[serde(default)]
    pub slug: Patch<String>,
    /// The parent category, by its id, slug or path; null makes the category a root.
    #[serde(default)]
    pub parent_id: Patch<String>,
    /// The description, at most 5,000 characters; null removes it.
    #[serde(default)]
    pub description: Patch<String>,
    /// Changes of the attributes, merged into the existing ones (RFC 7396); null removes all of them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The version of the category that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl CategoryInput {
    /// Returns a root category with a name.
    ///
    /// ```
    /// use ecom_core::catalog::CategoryInput;
    ///
    /// let green = CategoryInput::new("Green tea").under("tea").description("Steamed or roasted in a pan");
    /// ```
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Sets the parent category, by its id, slug or path.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "an id, a slug, and a text in quotes read the same")]
    pub fn under(mut self, parent: impl ToString) -> Self {
        self.parent_id = Some(parent.to_string());
        self
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Pushes an error for every value that exceeds the bounds of `docs/rules.md`, "Category".
    pub(crate) fn check(&self, errors: &mut ValidationErrors) {
        check_text("name", &self.name, 1, 100, errors);
        check_slug(self.slug.as_deref(), errors);
        if let Some(d) = &self.description {
            check_text("description", d, 0, Category::MAX_DESCRIPTION, errors);
        }
        self.attributes.check("attributes", errors);
        check_external("", self.source.as_deref(), self.external_id.as_deref(), errors);
    }
}

/// Pushes an error if a slug is present and invalid.
pub(crate) fn check_slug(slug: Option<&str>, errors: &mut ValidationErrors) {
    if let Some(Err(why)) = slug.map(Slug::parse) {
        errors.out_of_bounds("slug", why.to_string());
    }
}

/// Checks that source and external id are valid, and both present or both absent. `prefix` precedes the fields of
/// errors.
pub(crate) fn check_external(prefix: &str, source: Option<&str>, id: Option<&str>, errors: &mut ValidationErrors) {
    let at = |field: &str| format!("{prefix}{field}");
    match (source, id) {
        (Some(s), Some(i)) => ExternalRef::new(s, i).check(prefix, errors),
        (None, None) => {}
        (Some(_), None) => errors.push(at("external_id"), FieldCode::Required, "is required if `source` is present"),
        (None, Some(_)) => errors.push(at("source"), FieldCode::Required, "is required if `external_id` is present"),
    }
}
