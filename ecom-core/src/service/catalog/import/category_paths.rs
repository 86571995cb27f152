//! The categories that the paths of records name.
//!
//! A slug is unique in the shop, so `men/shirts` and `women/shirts` cannot both have the slug `shirts`. The category
//! that is created second gets the slugs of its whole path, joined by `-`, as its slug: `women/women-shirts`. A later
//! import looks for `women/shirts` under both paths.

use std::collections::{HashMap, HashSet};

use crate::domain::catalog::category::{Category, CategorySummary};
use crate::error::Result;
use crate::id::CategoryId;
use crate::port::storage::Repositories;
use crate::service::catalog::resolver::Resolver;
use crate::text::Slug;

/// A category that a path names and that does not exist.
pub(super) struct Missing {
    /// The path that the records have.
    pub named: String,
    pub slug: String,
    /// The path that the category will have.
    pub path: String,
    /// The parent, which exists or comes earlier.
    pub parent: Option<Parent>,
}

/// The parent of a category that does not exist.
pub(super) enum Parent {
    Existing(CategoryId),
    /// The path that the records have for it.
    Missing(String),
}

/// The categories that records name by id, slug or path.
pub(super) struct CategoryPaths {
    pub resolver: Resolver,
    /// The path of the category for each path under which the category is not found directly.
    moved: HashMap<String, String>,
    has_missing: bool,
}

impl CategoryPaths {
    /// Looks up all of `references`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn load<'r>(
        tx: &mut dyn Repositories,
        references: impl Iterator<Item = &'r String> + Clone,
    ) -> Result<Self> {
        let mut resolver = Resolver::load(tx, references.clone()).await?;
        let absent: HashSet<&str> = references.map(String::as_str).filter(|r| is_absent(&resolver, r)).collect();
        let mut this = Self { moved: HashMap::new(), has_missing: false, resolver };
        if absent.is_empty() {
            return Ok(this);
        }
        let (found, places, _) = walk(tx, &absent).await?;
        for r in absent {
            match places.get(r) {
                Some(Place { id: Some(_), path }) => drop(this.moved.insert(r.to_owned(), path.clone())),
                _ => this.has_missing = true,
            }
        }
        resolver = this.resolver;
        resolver.extend(found);
        Ok(Self { resolver, ..this })
    }

    /// Returns true if at least one of the references names a category that does not exist.
    pub fn has_missing(&self) -> bool {
        self.has_missing
    }

    /// Returns true if the category of `reference` does not exist.
    pub fn is_missing(&self, reference: &str) -> bool {
        is_absent(&self.resolver, reference) && !self.moved.contains_key(reference)
    }

    /// Returns the references with each path replaced by the path of its category, or `None` if no path differs.
    pub fn found(&self, references: &[String]) -> Option<Vec<String>> {
        let place = |r: &String| self.moved.get(r).unwrap_or(r).clone();
        references.iter().any(|r| self.moved.contains_key(r)).then(|| references.iter().map(place).collect())
    }

    /// Returns the categories that have to be created for `references`, ancestors first. Those that are too deep, and
    /// those whose slugs are taken elsewhere in the tree, are left out with what is below them.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn missing(tx: &mut dyn Repositories, references: &HashSet<&str>) -> Result<Vec<Missing>> {
        Ok(walk(tx, references).await?.2)
    }
}

/// Where a path leads.
struct Place {
    /// The category, if it exists.
    id: Option<CategoryId>,
    path: String,
}

/// Follows paths from their roots. Returns the categories that it has read, the place of each path and of its
/// ancestors, and the categories that do not exist.
async fn walk(
    tx: &mut dyn Repositories,
    references: &HashSet<&str>,
) -> Result<(Resolver, HashMap<String, Place>, Vec<Missing>)> {
    let mut paths: Vec<String> = Vec::new();
    for r in references {
        let segments: Vec<&str> = r.split('/').collect();
        if segments.len() <= Category::MAX_DEPTH {
            paths.extend((1..=segments.len()).map(|n| segments.get(..n).unwrap_or_default().join("/")));
        }
    }
    // In order, so that a parent comes before its children.
    paths.sort();
    paths.dedup();
    let all_slugs: Vec<String> = paths.iter().flat_map(|path| slugs(path)).collect();
    let resolver = Resolver::load(tx, all_slugs.iter()).await?;

    let mut places: HashMap<String, Place> = HashMap::new();
    let mut missing: Vec<Missing> = Vec::new();
    let mut taken: HashSet<String> = HashSet::new();
    for named in paths {
        let above = named.rsplit_once('/').map(|(above, _)| above);
        let parent = match above.map(|above| places.get(above)) {
            None => None,
            Some(Some(parent)) => Some(parent),
            Some(None) => continue,
        };
        let path = |slug: &str| parent.map_or_else(|| slug.to_owned(), |parent| format!("{}/{slug}", parent.path));
        let own = named.rsplit_once('/').map_or(named.as_str(), |(_, own)| own);
        // `garden/garden-tools` is that of `garden/tools` only if that is its name, or if it could not have its own slug.
        let is_meant = |c: &CategorySummary| {
            c.slug.as_str() == own
                || resolver.find(own).is_some()
                || Slug::from_title(&c.name, "category").as_str() == own
        };
        let is_here = |c: &&CategorySummary| c.path == path(c.slug.as_str()) && is_meant(c);
        let found = slugs(&named).find_map(|slug| resolver.find(&slug).filter(is_here));
        if let Some(found) = found {
            let place = Place { id: Some(found.id), path: found.path.clone() };
            places.insert(named, place);
            continue;
        }
        let is_free = |slug: &String| resolver.find(slug).is_none() && !taken.contains(slug);
        let Some(slug) = slugs(&named).find(is_free) else { continue };
        let path = path(&slug);
        let parent = parent.zip(above).map(|(parent, above)| match parent.id {
            Some(id) => Parent::Existing(id),
            None => Parent::Missing(above.to_owned()),
        });
        taken.insert(slug.clone());
        missing.push(Missing { named: named.clone(), slug, path: path.clone(), parent });
        places.insert(named, Place { id: None, path });
    }
    Ok((resolver, places, missing))
}

/// Returns the slugs that the category of a path can have: its own, and that of the whole path.
fn slugs(path: &str) -> impl Iterator<Item = String> {
    let own = path.rsplit_once('/').map_or(path, |(_, own)| own);
    let whole = path.contains('/').then(|| path.replace('/', "-")).filter(|slug| Slug::parse(slug).is_ok());
    std::iter::once(own.to_owned()).chain(whole)
}

/// Returns true if a slug or path leads to no category. An id that does not exist is refused as such.
fn is_absent(resolver: &Resolver, reference: &str) -> bool {
    resolver.find(reference).is_none() && reference.parse::<CategoryId>().is_err()
}
