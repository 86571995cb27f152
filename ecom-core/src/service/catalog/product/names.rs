//! Slugs of products and codes of SKUs: finds out which are taken, and makes new ones.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{duplicate, makes_code};
use crate::domain::catalog::product::ProductValues;
use crate::error::{Entity, Result};
use crate::id::SkuId;
use crate::port::storage::Repositories;
use crate::text::{Slug, fold_key};

/// Returns the current slug if it was made from this title, or the first free one that is.
pub(crate) async fn next_slug(tx: &mut dyn Repositories, current: &Slug, title: &str) -> Result<Slug> {
    let base = Slug::from_title(title, "product");
    if is_numbered(current, &base) {
        return Ok(current.clone());
    }
    let taken = tx.products().taken_slugs(std::slice::from_ref(&base)).await?;
    Ok(base.first_free(&taken))
}

/// Returns true if `slug` is `base`, or `base` with a number.
pub(crate) fn is_numbered(slug: &Slug, base: &Slug) -> bool {
    slug == base
        || slug
            .as_str()
            .rsplit_once('-')
            .and_then(|(_, n)| n.parse::<u32>().ok())
            .is_some_and(|n| base.numbered(n) == *slug)
}

/// Returns a free slug for each product. They also differ from each other.
pub(super) async fn pick_slugs(tx: &mut dyn Repositories, values: &[ProductValues]) -> Result<Vec<Slug>> {
    let bases: Vec<Slug> =
        values.iter().map(|v| v.slug.clone().unwrap_or_else(|| Slug::from_title(&v.title, "product"))).collect();
    let mut taken = tx.products().taken_slugs(&bases).await?;
    let mut slugs = Vec::with_capacity(values.len());
    for (v, base) in values.iter().zip(bases) {
        let slug = match &v.slug {
            Some(s) if taken.contains(s.as_str()) => return Err(duplicate(Entity::Product, "slug", s.as_str())),
            Some(s) => s.clone(),
            None => base.first_free(&taken),
        };
        taken.insert(slug.to_string());
        slugs.push(slug);
    }
    Ok(slugs)
}

/// Assigns SKU codes, and refuses those that are taken.
pub(crate) struct CodeBook {
    /// Folded code → the live SKU that has it; nil for a SKU that this write creates.
    pub(super) owners: HashMap<String, SkuId>,
    /// Folded codes that are slugs or numbered slugs.
    taken: HashSet<String>,
}

impl CodeBook {
    pub(super) async fn load(tx: &mut dyn Repositories, values: &[ProductValues], slugs: &[Slug]) -> Result<Self> {
        let said: Vec<String> =
            values.iter().flat_map(|v| v.skus.iter().flatten()).filter_map(|(_, s)| s.code.clone()).collect();
        // A code is made from the slug of its product. Without products, the caller makes codes from all slugs.
        let makes = |(v, slug): (&ProductValues, &Slug)| makes_code(v).then(|| slug.clone());
        let bases: Cow<'_, [Slug]> =
            if values.is_empty() { slugs.into() } else { values.iter().zip(slugs).filter_map(makes).collect() };
        let taken = tx.skus().taken_codes(&bases).await?;
        let mut book = Self { owners: HashMap::new(), taken };
        book.add(tx, said).await?;
        Ok(book)
    }

    /// Creates one for SKUs that are written outside of a write of their product.
    pub async fn of(tx: &mut dyn Repositories, slug: &Slug, said: Option<String>) -> Result<Self> {
        let mut book = Self::load(tx, &[], std::slice::from_ref(slug)).await?;
        book.add(tx, said.into_iter().collect()).await?;
        Ok(book)
    }

    pub(super) async fn add(&mut self, tx: &mut dyn Repositories, said: Vec<String>) -> Result<()> {
        if !said.is_empty() {
            // A code that the caller chose takes precedence over one that is made, whichever comes first.
            self.taken.extend(said.iter().map(|c| fold_key(c)));
            self.owners.extend(tx.skus().find_by_codes(&said).await?.into_iter().map(|(k, id, _)| (k, id)));
        }
        Ok(())
    }

    /// Returns the code for a SKU: the one that the caller chose, else the first free one made from the slug.
    pub fn claim(&mut self, said: Option<String>, slug: &Slug, holder: Option<SkuId>) -> Result<String> {
        let code = match said {
            Some(code) => {
                if let Some(owner) = self.owners.get(&fold_key(&code))
                    && Some(*owner) != holder
                {
                    return Err(duplicate(Entity::Sku, "code", code));
                }
                code
            }
            None => slug.first_free(&self.taken).to_string(),
        };
        let key = fold_key(&code);
        self.owners.insert(key.clone(), holder.unwrap_or(SkuId(Uuid::nil())));
        self.taken.insert(key);
        Ok(code)
    }
}
