//! Finds the categories that inputs name by id, slug or path.

use std::collections::{HashMap, HashSet};

use crate::domain::catalog::category::CategorySummary;
use crate::domain::common::IncludeDeleted;
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::CategoryId;
use crate::port::storage::Repositories;
use crate::text::shown;

/// Finds the live categories that inputs name by id, slug or path.
pub(crate) struct Resolver {
    by_id: HashMap<CategoryId, CategorySummary>,
    by_slug: HashMap<String, CategorySummary>,
}

impl Resolver {
    /// Looks up all of `refs` in at most two statements.
    pub async fn load(tx: &mut dyn Repositories, refs: impl Iterator<Item = &String>) -> Result<Self> {
        let mut ids = Vec::new();
        let mut slugs = Vec::new();
        let mut seen = HashSet::new();
        for r in refs {
            if !seen.insert(r.clone()) {
                continue;
            }
            match r.parse::<CategoryId>() {
                Ok(id) => ids.push(id),
                Err(_) => slugs.push(last_segment(r).to_owned()),
            }
        }
        let mut this = Self { by_id: HashMap::new(), by_slug: HashMap::new() };
        if !ids.is_empty() {
            let found = tx.categories().get_many(&ids, IncludeDeleted::No).await?;
            this.by_id.extend(found.iter().map(|c| (c.id, CategorySummary::from(c))));
        }
        if !slugs.is_empty() {
            let found = tx.categories().get_by_slugs(&slugs).await?;
            this.by_slug.extend(found.iter().map(|c| (c.slug.to_string(), CategorySummary::from(c))));
        }
        Ok(this)
    }

    /// Adds what another one has found.
    pub fn extend(&mut self, other: Self) {
        self.by_id.extend(other.by_id);
        self.by_slug.extend(other.by_slug);
    }

    /// Returns the category of one reference.
    pub fn find(&self, r: &str) -> Option<&CategorySummary> {
        match r.parse::<CategoryId>() {
            Ok(id) => self.by_id.get(&id),
            Err(_) => self.by_slug.get(last_segment(r)).filter(|c| !r.contains('/') || c.path == r.trim_matches('/')),
        }
    }

    /// Returns the categories of one input, without duplicates.
    pub fn resolve(&self, refs: &[String]) -> Result<Vec<CategorySummary>> {
        let mut errors = ValidationErrors::default();
        let mut out: Vec<CategorySummary> = Vec::with_capacity(refs.len());
        for (i, r) in refs.iter().enumerate() {
            match self.find(r) {
                Some(c) if out.iter().any(|o| o.id == c.id) => {}
                Some(c) => out.push(c.clone()),
                None => {
                    let shown = shown(r);
                    errors.push(
                        format!("categories[{i}]"),
                        FieldCode::ReferenceNotFound,
                        format!("must be an existing category, but `{shown}` does not exist"),
                    );
                }
            }
        }
        errors.into_result()?;
        Ok(out)
    }
}

fn last_segment(path: &str) -> &str {
    path.trim_matches('/').rsplit('/').next().unwrap_or(path)
}
