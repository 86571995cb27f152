//! Categories: a tree whose paths of slugs are stored.

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::common::{Attributes, Audit, ExternalRef, IncludeDeleted, Patch};
use crate::error::{FieldCode, ValidationErrors};
use crate::id::CategoryId;
use crate::text::{Slug, check_text};

/// A category of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// The id of the category.
    pub id: CategoryId,
    /// 1–100 characters, unique among live siblings, case-insensitively.
    pub name: String,
    /// Unique among live categories.
    pub slug: Slug,
    /// The parent; `None` at the root.
    pub parent_id: Option<CategoryId>,
    /// The slugs from the root to this category: `electronics/audio/headphones` (R3).
    pub path: String,
    /// At most 5,000 characters.
    pub description: Option<String>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The record that it was imported from.
    pub external: Option<ExternalRef>,
    /// How many active live products are in it.
    pub product_count: i64,
    /// How many active live products are in it and everything below it, each counted once.
    pub subtree_product_count: i64,
    /// Increases with every change of what its document shows.
    pub revision: i64,
    /// When and by whom it was created and edited.
    pub audit: Audit,
}

impl Category {
    /// The deepest level; the root is 1.
    pub const MAX_DEPTH: usize = 32;
    /// The longest description.
    pub const MAX_DESCRIPTION: usize = 5_000;

    /// Returns its level; the root is 1.
    pub fn depth(&self) -> usize {
        path_depth(&self.path)
    }

    /// Returns true if `other` is this category or below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.path == self.path || other.path.strip_prefix(self.path.as_str()).is_some_and(|r| r.starts_with('/'))
    }

    /// Returns the path of a child with `slug` under `parent`.
    pub fn path_under(parent: Option<&Self>, slug: &Slug) -> String {
        parent.map_or_else(|| slug.to_string(), |p| format!("{}/{slug}", p.path))
    }
}

/// Returns how many slugs a path has.
pub fn path_depth(path: &str) -> usize {
    path.split('/').count()
}

/// Returns the slugs of all categories above the one at `path`, root first.
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
    /// `Some(None)` selects roots, `Some(Some(id))` the children of `id`, and `None` all categories.
    pub parent: Option<Option<CategoryId>>,
    /// Whether soft-deleted categories are listed (R2).
    pub include_deleted: IncludeDeleted,
}

/// A category to create, or to replace another with (PUT).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CategoryInput {
    /// 1–100 characters, unique among siblings.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Headphones"))]
    #[setters(skip)]
    pub name: String,
    /// Made from the name if absent.
    #[serde(default)]
    pub slug: Option<String>,
    /// The parent: an id, slug or path. A root if absent or null.
    #[serde(default)]
    #[setters(skip)]
    pub parent_id: Option<String>,
    /// At most 5,000 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// A JSON object, at most 16 KiB.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The system that it was imported from.
    #[serde(default)]
    pub source: Option<String>,
    /// Its id in that system.
    #[serde(default)]
    pub external_id: Option<String>,
    /// On replace: the version that was read (R1), unless If-Match names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a category (RFC 7396).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CategoryPatch {
    /// 1–100 characters; null is refused.
    #[serde(default)]
    pub name: Patch<String>,
    /// At most 100 characters of a-z, 0-9 and -; null makes it from the name again.
    #[serde(default)]
    pub slug: Patch<String>,
    /// The category above: an id, slug or path; null moves it to the root.
    #[serde(default)]
    pub parent_id: Patch<String>,
    /// At most 5,000 characters; null removes it.
    #[serde(default)]
    pub description: Patch<String>,
    /// Merged into the attributes; null empties them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The version that was read (R1), unless If-Match names it.
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

    /// Puts it under a category, named by its id, slug or path.
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

    /// Pushes an error for every value that is out of the bounds of `docs/rules.md`, "Category".
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

/// Pushes an error if a slug is given and not valid.
pub(crate) fn check_slug(slug: Option<&str>, errors: &mut ValidationErrors) {
    if let Some(Err(why)) = slug.map(Slug::parse) {
        errors.out_of_bounds("slug", why.to_string());
    }
}

/// Checks that source and external id are both given or both absent. Pushes errors under `prefix`.
pub(crate) fn check_external(prefix: &str, source: Option<&str>, id: Option<&str>, errors: &mut ValidationErrors) {
    let at = |field: &str| format!("{prefix}{field}");
    match (source, id) {
        (Some(s), Some(i)) => ExternalRef::new(s, i).check(prefix, errors),
        (None, None) => {}
        (Some(_), None) => errors.push(at("external_id"), FieldCode::Required, "goes with `source`"),
        (None, Some(_)) => errors.push(at("source"), FieldCode::Required, "goes with `external_id`"),
    }
}
