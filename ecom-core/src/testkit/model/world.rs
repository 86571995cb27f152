//! The state that the shop must hold according to the model, and rules that all aggregates share.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::category::Categories;
use super::comparison::Checked;
use super::customer::Customers;
use super::inventory::Moved;
use super::product::Products;
use crate::domain::catalog::sku::Sku;
use crate::domain::common::ExternalRef;
use crate::id::SkuId;
use crate::text::Slug;

/// The rows of every aggregate, deleted ones too. Values that follow from other rows are not kept: the SKUs and the
/// category summaries of a product, the path and the counts of a category.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) categories: Categories,
    pub(super) products: Products,
    pub(super) skus: BTreeMap<SkuId, Sku>,
    pub(super) customers: Customers,
    pub(super) ledger: BTreeMap<SkuId, Vec<Moved>>,
    /// All ids that the shop has given to rows.
    ids: HashSet<Uuid>,
}

impl World {
    /// Records the id of a new row, which must differ from all ids before it.
    pub(super) fn is_new(&mut self, id: Uuid) -> Checked<()> {
        if self.ids.insert(id) { Ok(()) } else { Err(format!("{id} is an old id")) }
    }
}

/// Returns whether `slug` is `base`, or `base` with a number.
pub(super) fn is_made_from(slug: &Slug, base: &Slug) -> bool {
    let number = slug.as_str().rsplit('-').next().and_then(|n| n.parse::<u32>().ok());
    slug == base || number.is_some_and(|n| base.numbered(n) == *slug)
}

/// Returns an optional text as it is stored: without space around it, and as `None` if nothing is left.
pub(super) fn trimmed(text: Option<&String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(super) fn external(source: Option<&String>, id: Option<&String>) -> Option<ExternalRef> {
    Some(ExternalRef::new(source?, id?))
}
