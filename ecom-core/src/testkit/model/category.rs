//! Categories: their rows in the model, the operations on them, and their comparison.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rand::RngExt as _;
use uuid::Uuid;

use super::World;
use super::comparison::{Checked, Refusal, observe, read, read_ok, same};
use super::generator::{ATTRIBUTES, BAD_SLUGS, SLUGS, attributes, bad_text};
use super::shared::{external, is_made_from, trimmed};
use super::{Operation, Part, Runner};
use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::category::{Category, CategoryInput, CategoryPatch, CategorySummary};
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::common::{Attributes, Audit, DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::error::{ErrorCode, Result};
use crate::id::CategoryId;
use crate::paging::{Paging, Total};
use crate::shop::Shop;
use crate::text::{Slug, fold_key};

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_categories()) };

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create category",
        weight: |w| if w.has_many_categories() { 0 } else { 50 },
        run: |r| Box::pin(r.create_category()),
    },
    Operation { name: "patch category", weight: |_| 50, run: |r| Box::pin(r.patch_category()) },
    Operation { name: "replace category", weight: |_| 20, run: |r| Box::pin(r.replace_category()) },
    Operation { name: "move category", weight: |_| 25, run: |r| Box::pin(r.move_category()) },
    Operation {
        name: "delete category",
        weight: |w| if w.has_many_categories() { 70 } else { 20 },
        run: |r| Box::pin(r.delete_category(DeleteMode::Soft)),
    },
    Operation {
        name: "force-delete category",
        weight: |_| 15,
        run: |r| Box::pin(r.delete_category(DeleteMode::Force)),
    },
    Operation { name: "restore category", weight: |_| 20, run: |r| Box::pin(r.restore_category()) },
    Operation { name: "read category", weight: |_| 8, run: |r| Box::pin(r.read_category()) },
    Operation { name: "resolve category", weight: |_| 8, run: |r| Box::pin(r.resolve_category()) },
    Operation { name: "read tree", weight: |_| 7, run: |r| Box::pin(r.read_tree()) },
    Operation { name: "read ancestors", weight: |_| 7, run: |r| Box::pin(r.read_ancestors()) },
    Operation { name: "list categories", weight: |_| 25, run: |r| Box::pin(r.list_categories()) },
];

/// With more live categories than this, the history deletes and does not create.
const MANY: usize = 24;

/// The categories of the model.
#[derive(Debug, Default)]
pub(super) struct Categories {
    /// Each category without its path and counts.
    pub(super) rows: BTreeMap<CategoryId, Category>,
    /// The last answer that showed each category.
    seen: HashMap<Uuid, Category>,
}

impl World {
    fn has_many_categories(&self) -> bool {
        self.live_categories().count() > MANY
    }

    pub(super) fn live_category(&self, id: CategoryId) -> Option<&Category> {
        self.categories.rows.get(&id).filter(|c| c.audit.is_live())
    }

    pub(super) fn live_categories(&self) -> impl Iterator<Item = &Category> {
        self.categories.rows.values().filter(|c| c.audit.is_live())
    }

    /// Returns the category and its ancestors, itself first.
    pub(super) fn chain(&self, id: CategoryId) -> Vec<CategoryId> {
        let mut chain = vec![id];
        let mut at = id;
        while let Some(parent) = self.categories.rows[&at].parent_id {
            chain.push(parent);
            at = parent;
        }
        chain
    }

    fn path(&self, id: CategoryId) -> String {
        let slugs: Vec<&str> = self.chain(id).iter().rev().map(|c| self.categories.rows[c].slug.as_str()).collect();
        slugs.join("/")
    }

    /// Returns all descendants, deleted ones too.
    fn below(&self, id: CategoryId) -> Vec<CategoryId> {
        self.categories.rows.keys().copied().filter(|c| *c != id && self.chain(*c).contains(&id)).collect()
    }

    /// Returns the category as a read shows it.
    fn category(&self, id: CategoryId) -> Category {
        let mut c = self.categories.rows[&id].clone();
        c.path = self.path(id);
        let active = |p: &Product| p.audit.is_live() && p.status == ProductStatus::Active;
        let counted = |in_it: &dyn Fn(&CategoryId) -> bool| {
            self.products.rows.values().filter(|(p, of)| active(p) && of.iter().any(in_it)).count() as i64
        };
        c.product_count = counted(&|of| *of == id);
        c.subtree_product_count = counted(&|of| self.chain(*of).contains(&id));
        c
    }

    pub(super) fn summary(&self, id: CategoryId) -> CategorySummary {
        let c = &self.categories.rows[&id];
        CategorySummary { id, name: c.name.clone(), slug: c.slug.clone(), path: self.path(id) }
    }

    /// Returns the live category that an id, a slug or a path names.
    pub(super) fn resolve(&self, reference: &str) -> Option<CategoryId> {
        if let Ok(id) = reference.parse() {
            return self.live_category(id).map(|c| c.id);
        }
        let path = reference.trim_matches('/');
        let found = self.live_categories().find(|c| Some(c.slug.as_str()) == path.rsplit('/').next())?.id;
        (!path.contains('/') || self.path(found) == path).then_some(found)
    }

    fn category_slugs(&self) -> HashSet<String> {
        self.live_categories().map(|c| c.slug.to_string()).collect()
    }

    /// Returns the unique values of `c` that another category has.
    fn category_conflicts(&self, c: &Category) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let others = || self.live_categories().filter(|o| o.id != c.id);
        if others().any(|o| o.parent_id == c.parent_id && fold_key(&o.name) == fold_key(&c.name)) {
            refusals.push(Refusal::Duplicate("name"));
        }
        if others().any(|o| o.slug == c.slug) {
            refusals.push(Refusal::Duplicate("slug"));
        }
        if c.external.is_some() && others().any(|o| o.external == c.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        refusals
    }
}

impl Runner<'_> {
    pub(super) fn some_category(&mut self) -> CategoryId {
        let live: Vec<CategoryId> = self.world.live_categories().map(|c| c.id).collect();
        let all: Vec<CategoryId> = self.world.categories.rows.keys().copied().collect();
        self.some_id(&live, &all)
    }

    /// Returns mostly a deleted category.
    fn deleted_category(&mut self) -> CategoryId {
        let gone: Vec<CategoryId> =
            self.world.categories.rows.values().filter(|c| !c.audit.is_live()).map(|c| c.id).collect();
        if self.chance(5) { self.some_category() } else { self.one_of(&gone).unwrap_or_else(Self::missing) }
    }

    /// Returns an id, a slug or a path that names a category, seldom one that does not exist.
    pub(super) fn category_reference(&mut self) -> String {
        let id = self.some_category();
        if !self.world.categories.rows.contains_key(&id) {
            return self.any(&["no-such", "no/such", "0193b5a6-0000-7000-8000-0000000000ff"]).to_owned();
        }
        match self.below(4) {
            0 => self.world.categories.rows[&id].slug.to_string(),
            1 => self.world.path(id),
            _ => id.to_string(),
        }
    }

    fn parent_reference(&mut self) -> Option<String> {
        if self.deep && self.chance(70) {
            let deepest = self.world.live_categories().max_by_key(|c| self.world.chain(c.id).len());
            return deepest.map(|c| c.id.to_string());
        }
        if self.chance(35) { None } else { Some(self.category_reference()) }
    }

    pub(super) fn category_references(&mut self) -> Vec<String> {
        let n = self.below(4);
        (0..n).map(|_| self.category_reference()).collect()
    }

    /// Returns an input and the names of its bad fields.
    fn category_input(&mut self) -> (CategoryInput, BTreeSet<String>) {
        let mut bad = BTreeSet::new();
        let (source, external_id) = self.external_pair(12);
        let mut input = CategoryInput {
            name: self.word(),
            slug: if self.chance(25) { Some(self.any(&SLUGS).to_owned()) } else { None },
            parent_id: self.parent_reference(),
            description: if self.chance(40) {
                Some(self.any(&["d", " two\nlines ", "  ", "ß🎧"]).to_owned())
            } else {
                None
            },
            attributes: attributes(self.any(&ATTRIBUTES)),
            source,
            external_id,
            version: None,
        };
        if self.chance(6) {
            match self.below(4) {
                0 => {
                    input.name = bad_text(&mut self.rng, 100);
                    bad.insert("name".to_owned());
                }
                1 => {
                    input.slug = Some(self.any(&BAD_SLUGS).to_owned());
                    bad.insert("slug".to_owned());
                }
                2 => {
                    input.description = Some("a\0".to_owned());
                    input.source = Some("erp".to_owned());
                    input.external_id = None;
                    bad.extend(["description".to_owned(), "external_id".to_owned()]);
                }
                _ => {
                    input.attributes = attributes(&format!("{{\"a\": \"{}\"}}", "x".repeat(Attributes::MAX_BYTES)));
                    bad.insert("attributes".to_owned());
                }
            }
        }
        (input, bad)
    }

    /// Writes the values of the input into `c` and returns the reasons for which the write is refused.
    fn place_category(&self, c: &mut Category, input: &CategoryInput) -> Vec<Refusal> {
        let before = self.world.categories.rows.get(&c.id).cloned();
        let parent = match &input.parent_id {
            None => None,
            Some(r) => match self.world.resolve(r) {
                Some(id) => Some(id),
                None => return vec![Refusal::field("parent_id")],
            },
        };
        if let (Some(p), Some(b)) = (parent, &before)
            && self.world.chain(p).contains(&b.id)
        {
            return vec![Refusal::Code(ErrorCode::CategoryCycle)];
        }
        let made = Slug::from_title(&input.name, "category");
        c.slug = match (&input.slug, &before) {
            (Some(s), _) => Slug::trusted(s.clone()),
            (None, Some(b)) if is_made_from(&b.slug, &made) => b.slug.clone(),
            (None, _) => made.first_free(&self.world.category_slugs()),
        };
        input.name.trim().clone_into(&mut c.name);
        c.parent_id = parent;
        c.description = trimmed(input.description.as_ref());
        c.attributes = input.attributes.clone();
        if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
            c.external = Some(x);
        }
        let mut refusals = self.world.category_conflicts(c);
        let above = parent.map_or(0, |p| self.world.chain(p).len());
        let own = |id| self.world.chain(id).len();
        let under = before
            .as_ref()
            .map_or(0, |b| self.world.below(b.id).into_iter().map(|d| own(d) - own(b.id)).max().unwrap_or(0));
        if above + 1 + under > 32 && before.is_none_or(|b| b.parent_id != c.parent_id || b.slug != c.slug) {
            refusals.push(Refusal::field("parent_id"));
        }
        refusals
    }

    /// Compares a category that the shop returned. The revision is taken over from the answer.
    fn category_answer(&mut self, got: &Category) -> Checked<()> {
        let mut want = self.world.category(got.id);
        want.revision = got.revision;
        same("the answer", got, &want)?;
        observe(&mut self.world.categories.seen, got.id.0, want, |c| c.revision)
    }

    async fn create_category(&mut self) -> Checked<()> {
        let (input, bad) = self.category_input();
        let who = self.principal();
        self.begins(&input);
        let mut want = Category {
            id: CategoryId(Uuid::nil()),
            name: String::new(),
            slug: Slug::trusted(String::new()),
            parent_id: None,
            path: String::new(),
            description: None,
            attributes: Attributes::default(),
            external: None,
            product_count: 0,
            subtree_product_count: 0,
            revision: 1,
            audit: Audit::created(self.now(), who.actor()),
        };
        let refusals = if bad.is_empty() { self.place_category(&mut want, &input) } else { vec![Refusal::Fields(bad)] };
        let answer = self.shop.acting_as(&who).categories().create(&input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.is_new(got.id.0)?;
            want.id = got.id;
            self.world.categories.rows.insert(got.id, want);
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn write_category(
        &mut self,
        id: CategoryId,
        input: CategoryInput,
        bad: BTreeSet<String>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Category>,
    ) -> Checked<()> {
        let who = self.principal();
        let mut refusals = if bad.is_empty() { Vec::new() } else { vec![Refusal::Fields(bad)] };
        let mut want = None;
        let read = match self.world.live_category(id).cloned() {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                ExpectedVersion::Exact(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                if refusals.is_empty() && stale.is_none() {
                    let mut after = before.clone();
                    refusals = self.place_category(&mut after, &input);
                    if after != before {
                        after.audit.edited(self.now(), who.actor());
                    }
                    want = Some(after);
                }
                refusals.extend(stale);
                read
            }
        };
        self.begins((id, read, &input));
        let answer = call(&self.shop, read, &who).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.categories.rows.insert(id, want.unwrap());
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn replace_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let (mut input, bad) = self.category_input();
        if let Some(c) = self.world.categories.rows.get(&id)
            && self.rng.random_range(0..2) == 0
        {
            input.parent_id = c.parent_id.map(|p| p.to_string());
        }
        let sent = input.clone();
        self.write_category(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).categories().replace(id, read, &sent).await
        })
        .await
    }

    /// Returns the whole category that a patch asks for. A slug that was made from the name follows the name.
    fn patched(&self, id: CategoryId, patch: &CategoryPatch) -> CategoryInput {
        let Some(before) = self.world.categories.rows.get(&id) else { return CategoryInput::default() };
        let derived = is_made_from(&before.slug, &Slug::from_title(&before.name, "category"));
        let follows = patch.name.is_present() && !patch.slug.is_present() && derived;
        let mut input = CategoryInput {
            name: before.name.clone(),
            slug: if follows { None } else { Some(before.slug.to_string()) },
            parent_id: before.parent_id.map(|p| p.to_string()),
            description: before.description.clone(),
            attributes: before.attributes.clone(),
            ..CategoryInput::default()
        };
        if let Patch::Set(name) = &patch.name {
            input.name.clone_from(name);
        }
        patch.slug.clone().apply(&mut input.slug);
        patch.parent_id.clone().apply(&mut input.parent_id);
        patch.description.clone().apply(&mut input.description);
        match &patch.attributes {
            Patch::Keep => {}
            Patch::Clear => input.attributes = Attributes::default(),
            Patch::Set(a) => input.attributes.merge(a),
        }
        input
    }

    async fn patch_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let mut bad = BTreeSet::new();
        let mut patch = CategoryPatch::default();
        if self.chance(50) {
            patch.name = Patch::Set(self.word());
        }
        if self.chance(15) {
            patch.slug = if self.chance(40) { Patch::Clear } else { Patch::Set(self.any(&SLUGS).to_owned()) };
        }
        if self.chance(20) {
            patch.parent_id = self.parent_reference().map_or(Patch::Clear, Patch::Set);
        }
        if self.chance(30) {
            patch.description = if self.chance(30) { Patch::Clear } else { Patch::Set(self.word()) };
        }
        if self.chance(30) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(5) {
            if self.chance(50) {
                patch.name = Patch::Clear;
                bad.insert("name".to_owned());
            } else {
                patch.slug = Patch::Set(self.any(&BAD_SLUGS).to_owned());
                bad.insert("slug".to_owned());
            }
        }
        let input = self.patched(id, &patch);
        self.write_category(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).categories().patch(id, read, patch).await
        })
        .await
    }

    async fn move_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        let parent = self.parent_reference();
        let patch =
            CategoryPatch { parent_id: parent.clone().map_or(Patch::Clear, Patch::Set), ..CategoryPatch::default() };
        let input = self.patched(id, &patch);
        self.write_category(id, input, BTreeSet::new(), async move |shop, read, who| {
            shop.acting_as(who).categories().move_to(id, read, parent).await
        })
        .await
    }

    async fn delete_category(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let used = |w: &World, id: CategoryId, all: bool| {
            w.categories.rows.values().any(|c| c.parent_id == Some(id) && (all || c.audit.is_live()))
                || w.products.rows.values().any(|(p, of)| of.contains(&id) && (all || p.audit.is_live()))
        };
        // Mostly a category that can be deleted.
        let free: Vec<CategoryId> = self
            .world
            .categories
            .rows
            .values()
            .filter(|c| (force || c.audit.is_live()) && !used(&self.world, c.id, force))
            .map(|c| c.id)
            .collect();
        let chosen = if self.chance(70) { self.one_of(&free) } else { None };
        let id = match chosen {
            Some(id) => id,
            None if force => self.deleted_category(),
            None => self.some_category(),
        };
        let who = self.principal();
        let found = self.world.categories.rows.get(&id).filter(|c| force || c.audit.is_live()).cloned();
        let (read, refusals) = match &found {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(c) => {
                let (read, stale) = self.version(c.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if refusals.is_empty() && used(&self.world, id, force) {
                    refusals.push(Refusal::Code(ErrorCode::CategoryNotEmpty));
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).categories().delete(id, read, mode).await;
        if self.judge(answer, &refusals)?.is_some() {
            let now = self.now();
            if force {
                self.world.categories.rows.remove(&id);
                self.world.categories.seen.remove(&id.0);
                let gone = self.shop.categories().get_fresh(id, IncludeDeleted::Yes).await;
                same("reading it", &gone.err().map(|e| e.code()), &Some(ErrorCode::NotFound))?;
            } else {
                self.world.categories.rows.get_mut(&id).unwrap().audit.deleted(now, who.actor());
                let got = read_ok(self.shop.categories().get_fresh(id, IncludeDeleted::Yes).await)?;
                self.category_answer(&got)?;
            }
        }
        Ok(())
    }

    async fn restore_category(&mut self) -> Checked<()> {
        let id = self.deleted_category();
        let who = self.principal();
        let (read, refusals) = match self.world.categories.rows.get(&id).cloned() {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(c) => {
                let (read, stale) = self.version(c.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                let orphan = c.parent_id.is_some_and(|p| self.world.live_category(p).is_none());
                if c.audit.is_live() || orphan {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.category_conflicts(&c);
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).categories().restore(id, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            self.world.categories.rows.get_mut(&id).unwrap().audit.restored(now, who.actor());
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn resolve_category(&mut self) -> Checked<()> {
        let reference = self.category_reference();
        self.begins(&reference);
        let answer = self.shop.categories().resolve(&reference).await.map(|l| Category::clone(&l.value));
        let found = self.world.resolve(&reference);
        self.category_or_gone(answer, found)
    }

    async fn read_tree(&mut self) -> Checked<()> {
        self.begins(());
        let got = read("the tree", self.shop.categories().tree().await)?;
        let mut want: Vec<(usize, String, CategoryId)> =
            self.world.live_categories().map(|c| (self.world.chain(c.id).len(), fold_key(&c.name), c.id)).collect();
        want.sort();
        same("its order", &got.value.iter().map(|c| c.id).collect(), &want.iter().map(|w| w.2).collect::<Vec<_>>())?;
        for c in got.value.iter() {
            self.category_answer(c)?;
        }
        Ok(())
    }

    async fn read_ancestors(&mut self) -> Checked<()> {
        let id = self.some_category();
        self.begins(id);
        let answer = self.shop.categories().ancestors(id).await;
        let refusals = match self.world.live_category(id) {
            Some(_) => Vec::new(),
            None => vec![Refusal::Code(ErrorCode::NotFound)],
        };
        if let Some(got) = self.judge(answer, &refusals)? {
            let mut want = self.world.chain(id);
            want.remove(0);
            want.reverse();
            same("the ancestors", &got.iter().map(|c| c.id).collect(), &want)?;
        }
        Ok(())
    }

    async fn read_category(&mut self) -> Checked<()> {
        let id = self.some_category();
        self.begins(id);
        let answer = self.shop.categories().get(id).await.map(|l| Category::clone(&l.value));
        let found = self.world.live_category(id).map(|c| c.id);
        self.category_or_gone(answer, found)
    }

    fn category_or_gone(&mut self, answer: Result<Category>, found: Option<CategoryId>) -> Checked<()> {
        let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the id", &Some(got.id), &found)?;
            self.category_answer(&got)?;
        }
        Ok(())
    }

    async fn list_categories(&mut self) -> Checked<()> {
        let parent = match self.below(3) {
            0 => None,
            1 => Some(None),
            _ => Some(Some(self.some_category())),
        };
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let filter = CategoryFilter { parent, include_deleted: deleted };
        let mut want: Vec<(String, CategoryId)> = self
            .world
            .categories
            .rows
            .values()
            .filter(|c| deleted == IncludeDeleted::Yes || c.audit.is_live())
            .filter(|c| parent.is_none_or(|p| c.parent_id == p))
            .map(|c| (fold_key(&c.name), c.id))
            .collect();
        want.sort();
        let want: Vec<CategoryId> = want.into_iter().map(|w| w.1).collect();
        let limit = 1 + self.below(8);
        self.begins((&filter, limit));
        let mut paging = Paging::Offset { offset: 0, limit: limit as u32 };
        let mut got = Vec::new();
        loop {
            let found = read("the page", self.shop.categories().list(&filter, &paging).await)?;
            let page = &found.value.page;
            if matches!(paging, Paging::Offset { .. }) {
                same("the total", &found.value.total, &Some(Total { count: want.len() as u64, exact: true }))?;
            }
            for c in &page.items {
                self.category_answer(c)?;
            }
            got.extend(page.items.iter().map(|c| c.id));
            match page.next.clone() {
                Some(k) if got.len() < 20 => paging = Paging::Keyset { after: Some(k), limit: limit as u32 },
                next => {
                    same("the list", &got, &want[..got.len().min(want.len())].to_vec())?;
                    return same("whether there is more", &next.is_some(), &(got.len() < want.len()));
                }
            }
        }
    }

    /// Compares all categories, deleted ones too.
    async fn compare_categories(&mut self) -> Checked<()> {
        let all = CategoryFilter { parent: None, include_deleted: IncludeDeleted::Yes };
        let found = read("the categories", self.shop.categories().list(&all, &Paging::first(1_000)).await)?;
        let page = &found.value.page;
        for c in &page.items {
            if !self.world.categories.rows.contains_key(&c.id) {
                return Err(format!("there is a category too many: {c:?}"));
            }
            self.category_answer(c)?;
            self.digest_at_end(c);
        }
        same("the number of categories", &page.items.len(), &self.world.categories.rows.len())
    }
}
