//! Imports categories: builds a tree from rows with their paths.
//!
//! The parents of a row may come after it, or be missing. So all rows are read before the first one is written, into a
//! tree of compact nodes: one for each id that the file names, in a row or in a path.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;

use serde::Deserialize;

use crate::domain::access::principal::Principal;
use crate::domain::catalog::category::{Category, CategoryInput};
use crate::domain::common::{Attributes, Audit, ExpectedVersion, ExternalRef, IncludeDeleted};
use crate::error::{Conflict, Error, ErrorCode, FieldCode, FieldError, Result, ValidationErrors};
use crate::id::CategoryId;
use crate::port::storage::Repositories;
use crate::service::background::{lease, tasks};
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::import::dead_letter::Refused;
use crate::service::catalog::import::{
    Checked, EndedEarly, ForeignId, ImportKind, ImportOptions, ImportReport, ImportService, Item, Message, Patience,
    RecordSource, Rejection, Run, is_of_a_record, lost_reader, patiently, stream,
};
use crate::service::catalog::product::names::is_numbered;
use crate::service::run::transaction::Tx;
use crate::text::{Slug, fold_key, shown, trimmed};

/// Categories per unit of work.
const BATCH: usize = 500;
/// The most bytes of a row that are kept for its dead letter.
const MAX_KEPT: usize = 2 * 1024;
/// The source of categories if neither the options nor the row name one.
const SOURCE: &str = "categories";

/// A row of a category file. Further fields are ignored.
#[derive(Debug, Deserialize)]
struct CategoryRecord {
    id: ForeignId,
    #[serde(default)]
    name: Option<String>,
    /// From the root to the row itself, or to its parent.
    #[serde(default)]
    path: Option<Vec<Step>>,
    #[serde(default)]
    description: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    id: ForeignId,
    #[serde(default)]
    name: Option<String>,
}

/// The position of a row in the file, for its dead letter.
#[derive(Debug)]
struct Row {
    index: u64,
    line: u64,
    raw: Vec<u8>,
    cut: bool,
}

/// An id that the file names.
#[derive(Debug)]
struct Node {
    external_id: String,
    name: Option<String>,
    description: Option<String>,
    parent: Option<usize>,
    /// `None` if only paths name the id.
    row: Option<Row>,
    bad: Option<Rejection>,
}

impl Node {
    fn shown(&self) -> String {
        shown(&self.external_id)
    }
}

/// The nodes of a file, in the order in which it first names them.
#[derive(Debug, Default)]
struct Forest {
    nodes: Vec<Node>,
    by_id: HashMap<String, usize>,
}

impl Forest {
    fn node(&mut self, external_id: &str) -> (usize, bool) {
        if let Some(i) = self.by_id.get(external_id) {
            return (*i, false);
        }
        let i = self.nodes.len();
        self.nodes.push(Node {
            external_id: external_id.to_owned(),
            name: None,
            description: None,
            parent: None,
            row: None,
            bad: None,
        });
        self.by_id.insert(external_id.to_owned(), i);
        (i, true)
    }

    /// Adds a row. Returns it if its id already has one.
    fn add(&mut self, r: CategoryRecord, row: Row) -> Result<(), (Row, Rejection)> {
        let mut parent = None;
        for step in r.path.into_iter().flatten().take_while(|s| s.id != r.id) {
            let (i, new) = self.node(&step.id.0);
            if let (true, Some(node)) = (new, self.nodes.get_mut(i)) {
                node.bad = check(&step.id.0, step.name.as_deref(), None);
                node.name = step.name;
                node.parent = parent;
            }
            parent = Some(i);
        }
        let (i, _) = self.node(&r.id.0);
        match self.nodes.get_mut(i) {
            Some(node) if node.row.is_none() => {
                // The values in the row itself take precedence over those in paths.
                node.bad = check(&r.id.0, r.name.as_deref(), r.description.as_deref());
                node.name = r.name;
                node.description = r.description;
                node.parent = parent;
                node.row = Some(row);
                Ok(())
            }
            _ => {
                let why = Rejection::field(
                    "id",
                    FieldCode::Inconsistent,
                    "must occur only once in the source, but an earlier record has the same one",
                );
                Err((row, why))
            }
        }
    }

    /// Adds a row of which only the id could be read. The rows below it have no place in the tree.
    fn add_unreadable(&mut self, external_id: &str, why: &Rejection) {
        let (i, _) = self.node(external_id);
        if let Some(node) = self.nodes.get_mut(i).filter(|n| n.row.is_none()) {
            node.bad = Some(why.clone());
        }
    }
}

fn check(external_id: &str, name: Option<&str>, description: Option<&str>) -> Option<Rejection> {
    let mut errors = ValidationErrors::default();
    match name {
        None => errors.push("name", FieldCode::Required, "is required"),
        Some(name) => CategoryInput {
            name: name.to_owned(),
            description: description.map(str::to_owned),
            source: Some(SOURCE.to_owned()),
            external_id: Some(external_id.to_owned()),
            ..CategoryInput::default()
        }
        .check(&mut errors),
    }
    errors.into_result().err().map(|e| Rejection::from(&e))
}

/// The action for a node.
#[derive(Debug)]
enum Action {
    /// A new category.
    Insert(Planned),
    /// A row over an existing category: the one with its external id, or one without an external id under the same
    /// parent.
    Over(Over),
    /// A row that is refused, with the reason.
    Reject(usize, Rejection),
}

#[derive(Debug)]
struct Planned {
    node: usize,
    id: CategoryId,
    parent: Option<CategoryId>,
}

#[derive(Debug)]
struct Over {
    node: usize,
    before: Box<Category>,
    parent: Option<CategoryId>,
}

/// The categories that the shop has.
struct Present {
    by_external: HashMap<String, Category>,
    /// Live categories by parent and folded name.
    siblings: HashMap<(Option<CategoryId>, String), Category>,
}

/// Finds a place for every node, parents first, siblings in the order of the file.
///
/// Of several siblings with the same name, the first is kept: the one that the shop has, else the first row, else the
/// first one that paths name. The others are refused if they are rows, and the nodes below them move below the one that
/// was kept, where their path reads the same. If a node is refused for its own values, everything below it is refused
/// too.
fn plan(forest: &Forest, present: &Present, new_id: &dyn Fn() -> CategoryId) -> Vec<Action> {
    let nodes = &forest.nodes;
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        children.entry(node.parent).or_default().push(i);
    }
    let mut steps = Vec::with_capacity(nodes.len());
    let mut seen = vec![false; nodes.len()];
    // The parent in the shop, its level, and the nodes whose children belong there.
    let mut queue: VecDeque<(Option<CategoryId>, usize, Vec<Option<usize>>)> = VecDeque::from([(None, 0, vec![None])]);
    while let Some((parent, level, members)) = queue.pop_front() {
        let mut group: Vec<usize> = members.iter().filter_map(|m| children.get(m)).flatten().copied().collect();
        let is_here = |n: &Node| present.by_external.get(&n.external_id).is_some_and(|c| c.audit.is_live());
        group.sort_by_key(|i| nodes.get(*i).map(|n| (!is_here(n), n.row.is_none(), *i)));
        let mut kept: HashMap<String, (CategoryId, Vec<Option<usize>>)> = HashMap::new();
        let mut order = Vec::new();
        for i in group {
            let Some(node) = nodes.get(i) else { continue };
            if let Some(s) = seen.get_mut(i) {
                *s = true;
            }
            let refuse = |why: Rejection, steps: &mut Vec<Action>, seen: &mut Vec<bool>| {
                refuse_all(nodes, &children, i, &why, steps, seen);
            };
            if let Some(why) = &node.bad {
                refuse(why.clone(), &mut steps, &mut seen);
                continue;
            }
            if level >= Category::MAX_DEPTH {
                let why = format!("must have at most {} levels", Category::MAX_DEPTH);
                refuse(Rejection::field("path", FieldCode::OutOfBounds, why), &mut steps, &mut seen);
                continue;
            }
            let name = node.name.as_deref().unwrap_or_default();
            let key = fold_key(name);
            if let Some(before) = present.by_external.get(&node.external_id) {
                if !before.audit.is_live() {
                    let reason =
                        format!("category {} is deleted: restore it or delete it permanently first", before.id);
                    let why = Rejection { code: ErrorCode::StateConflict, reason, fields: Vec::new() };
                    refuse(why, &mut steps, &mut seen);
                    continue;
                }
                order.push(key.clone());
                kept.entry(key).or_insert((before.id, Vec::new())).1.push(Some(i));
                if node.row.is_some() {
                    steps.push(Action::Over(Over { node: i, before: Box::new(before.clone()), parent }));
                }
                continue;
            }
            let sibling = present.siblings.get(&(parent, key.clone()));
            if let Some((_, twins)) = kept.get_mut(&key) {
                twins.push(Some(i));
                reject_twin(node, i, &mut steps);
            } else if let Some(sibling) = sibling {
                order.push(key.clone());
                kept.insert(key, (sibling.id, vec![Some(i)]));
                if sibling.external.is_none() {
                    steps.push(Action::Over(Over { node: i, before: Box::new(sibling.clone()), parent }));
                } else {
                    reject_twin(node, i, &mut steps);
                }
            } else {
                let id = new_id();
                order.push(key.clone());
                kept.insert(key, (id, vec![Some(i)]));
                steps.push(Action::Insert(Planned { node: i, id, parent }));
            }
        }
        for key in order {
            if let Some((id, members)) = kept.remove(&key) {
                queue.push_back((Some(id), level + 1, members));
            }
        }
    }
    // A node that no root leads to is its own ancestor.
    for (i, node) in nodes.iter().enumerate() {
        if node.row.is_some() && !seen.get(i).copied().unwrap_or(true) {
            let why = Rejection::field("path", FieldCode::Inconsistent, "must not contain the category itself");
            steps.push(Action::Reject(i, why));
        }
    }
    steps
}

fn reject_twin(node: &Node, i: usize, steps: &mut Vec<Action>) {
    if node.row.is_none() {
        return;
    }
    let message = "must be unique among the categories under the same parent".to_owned();
    steps.push(Action::Reject(
        i,
        Rejection {
            code: ErrorCode::Duplicate,
            reason: "another category under the same parent already has this name".to_owned(),
            fields: vec![FieldError { field: "name".to_owned(), code: FieldCode::Inconsistent, message }],
        },
    ));
}

/// Refuses a node and every row below it.
fn refuse_all(
    nodes: &[Node],
    children: &HashMap<Option<usize>, Vec<usize>>,
    top: usize,
    why: &Rejection,
    steps: &mut Vec<Action>,
    seen: &mut [bool],
) {
    let below = nodes.get(top).map(|n| below_refused(n, why));
    let mut stack = vec![top];
    while let Some(i) = stack.pop() {
        if let Some(s) = seen.get_mut(i) {
            *s = true;
        }
        if nodes.get(i).is_some_and(|n| n.row.is_some()) {
            let why = if i == top { Some(why.clone()) } else { below.clone() };
            steps.extend(why.map(|why| Action::Reject(i, why)));
        }
        stack.extend(children.get(&Some(i)).into_iter().flatten());
    }
}

fn below_refused(above: &Node, why: &Rejection) -> Rejection {
    Rejection::field(
        "path",
        FieldCode::ReferenceNotFound,
        format!("has the parent category `{}`, which was refused: {}", above.shown(), why.reason),
    )
}

impl ImportService<'_> {
    /// Imports categories: rows of `{id, name, path: [{id, name}, …], description?}`, whose path leads from the root to
    /// the row itself or to its parent. The source is a JSON array, an object with a `categories` array, or NDJSON.
    ///
    /// Categories that only paths name are created too. Of several siblings with the same name (folded), the first row
    /// is kept and the others go to the dead letters, as do rows that are out of bounds and everything below those. The
    /// same file gives the same tree at every run, and a second run changes nothing. A category without an external id
    /// that has the name and parent of a row is taken over by that row.
    ///
    /// All rows are held in memory, up to [`ImportOptions::max_categories`]. Rows are written parents first, some
    /// hundreds per unit of work.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn categories<R: Read + Send + 'static>(
        &self,
        source: R,
        options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        let records = self.records(ImportKind::Categories, source, &options);
        self.categories_from(records, options, on_progress).await
    }

    /// Imports categories as [`Self::categories`] does, from a [`RecordSource`]. It ignores the `format` of the options.
    ///
    /// # Errors
    /// As [`Self::products`].
    pub async fn categories_from(
        &self,
        records: Box<dyn RecordSource>,
        mut options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportReport> {
        self.allow(ImportKind::Categories, &options)?;
        options.skip = 0;
        let mut incoming = stream(records, &mut options, BATCH, &[], |record: CategoryRecord| {
            if record.id.0.is_empty() {
                return Err(Rejection::field("id", FieldCode::Required, "is required"));
            }
            Ok(record)
        });
        let cx = &self.begin(ImportKind::Categories, &options);
        let max_categories = options.max_categories;
        let source = options.source.clone().unwrap_or_else(|| SOURCE.to_owned());
        let mut run = Run::new(&incoming, options, on_progress);
        let mut forest = Forest::default();
        loop {
            match incoming.next().await {
                Some(Message::Item(item)) => {
                    let Item { index, line, mut raw, mut cut, external_id, value, .. } = *item;
                    if forest.nodes.len() >= max_categories {
                        let reason = format!("the source has more than {max_categories} categories");
                        run.report.ended_early = Some(EndedEarly { reason, index, line, byte: 0 });
                        break;
                    }
                    run.report.read += 1;
                    match value {
                        Checked::Valid(record) => {
                            cut |= raw.len() > MAX_KEPT;
                            raw.truncate(MAX_KEPT);
                            raw.shrink_to_fit();
                            if let Err((row, why)) = forest.add(record, Row { index, line, raw, cut }) {
                                run.refuse(Refused {
                                    index: row.index,
                                    line: row.line,
                                    external_id,
                                    raw: row.raw,
                                    cut: row.cut,
                                    why,
                                });
                            }
                        }
                        Checked::Refused(why) => {
                            if let Some(id) = &external_id {
                                forest.add_unreadable(id, &why);
                            }
                            run.refuse(Refused { index, line, external_id, raw, cut, why });
                        }
                        Checked::Dropped => run.report.dropped += 1,
                    }
                }
                Some(Message::End(ended)) => {
                    run.report.ended_early = ended;
                    break;
                }
                None => {
                    run.report.ended_early = Some(lost_reader(run.report.read));
                    break;
                }
            }
        }
        drop(incoming);
        if run.rolls_back {
            let present = self.present(&source, &forest).await?;
            let steps = plan(&forest, &present, &|| CategoryId(cx.ids.next()));
            Writer { cx, who: self.who, source, forest }.count(steps, &mut run)?;
            return Ok(run.report);
        }
        let turn = patiently(|| lease::wait_for(cx, tasks::IMPORT)).await?;
        let written = async {
            let present = self.present(&source, &forest).await?;
            let steps = plan(&forest, &present, &|| CategoryId(cx.ids.next()));
            drop(present);
            let writer = Writer { cx, who: self.who, source, forest };
            writer.write(steps, &mut run).await
        };
        lease::holding(cx, turn, written).await?;
        Ok(run.report)
    }

    async fn present(&self, source: &str, forest: &Forest) -> Result<Present> {
        let ids: Vec<String> = forest.nodes.iter().map(|n| n.external_id.clone()).collect();
        patiently(|| self.try_present(source, &ids)).await
    }

    async fn try_present(&self, source: &str, ids: &[String]) -> Result<Present> {
        let mut db = self.cx.storage.connect().await?;
        let by_external = db.categories().find_by_external(source, ids).await?;
        let tree = db.categories().tree().await?;
        Ok(Present {
            by_external: by_external
                .into_iter()
                .filter_map(|c| Some((c.external.as_ref()?.external_id.clone(), c)))
                .collect(),
            siblings: tree.into_iter().map(|c| ((c.parent_id, fold_key(&c.name)), c)).collect(),
        })
    }
}

struct Writer<'a> {
    cx: &'a std::sync::Arc<crate::service::run::context::Context>,
    source: String,
    who: &'a Principal,
    forest: Forest,
}

impl Writer<'_> {
    async fn write<P: FnMut(&ImportReport) + Send>(mut self, steps: Vec<Action>, run: &mut Run<P>) -> Result<()> {
        let mut inserts = Vec::new();
        let mut over = Vec::new();
        for step in steps {
            match step {
                Action::Insert(p) => inserts.push(p),
                Action::Over(o) => over.push(o),
                Action::Reject(node, why) => self.reject(node, why, run),
            }
        }
        // Ids of planned categories that were not created.
        let mut lost: HashMap<CategoryId, Rejection> = HashMap::new();
        for chunk in inserts.chunks(BATCH) {
            let chunk: Vec<&Planned> = chunk.iter().collect();
            match self.insert(&chunk).await {
                Ok(()) => chunk.iter().for_each(|p| self.inserted(p, run)),
                Err(e) if is_of_a_record(&e) => {
                    for p in chunk {
                        let above = p.parent.and_then(|parent| lost.get(&parent)).cloned();
                        let failed = match above {
                            Some(why) => Some(why),
                            None => match self.insert(&[p]).await {
                                Ok(()) => None,
                                Err(e) if is_of_a_record(&e) => Some(Rejection::from(&e)),
                                Err(e) => return Err(e),
                            },
                        };
                        let Some(why) = failed else {
                            self.inserted(p, run);
                            continue;
                        };
                        if let Some(node) = self.forest.nodes.get(p.node) {
                            lost.insert(p.id, below_refused(node, &why));
                        }
                        self.reject(p.node, why, run);
                    }
                }
                Err(e) => return Err(e),
            }
            run.batch_done()?;
        }
        for o in over {
            let unwritten = o.parent.and_then(|p| lost.get(&p)).cloned();
            match unwritten.map_or(Ok(()), Err) {
                Err(why) => self.reject(o.node, why, run),
                Ok(()) => match self.update(&o).await {
                    Ok(_) if self.forest.nodes.get(o.node).is_none_or(|n| n.row.is_none()) => {}
                    Ok(true) => run.report.updated += 1,
                    Ok(false) => run.report.unchanged += 1,
                    Err(e) if is_of_a_record(&e) => self.reject(o.node, Rejection::from(&e), run),
                    Err(e) => return Err(e),
                },
            }
        }
        run.batch_done()
    }

    /// Counts what [`Self::write`] would do.
    fn count<P: FnMut(&ImportReport) + Send>(mut self, steps: Vec<Action>, run: &mut Run<P>) -> Result<()> {
        for step in steps {
            match step {
                Action::Insert(p) => self.inserted(&p, run),
                Action::Over(o) => {
                    if let Some(node) = self.forest.nodes.get(o.node).filter(|n| n.row.is_some()) {
                        let counter = if self.change(&o, node).is_some() {
                            &mut run.report.updated
                        } else {
                            &mut run.report.unchanged
                        };
                        *counter += 1;
                    }
                }
                Action::Reject(node, why) => self.reject(node, why, run),
            }
        }
        run.batch_done()
    }

    fn inserted<P>(&self, p: &Planned, run: &mut Run<P>) {
        match self.forest.nodes.get(p.node) {
            Some(n) if n.row.is_some() => run.report.inserted += 1,
            _ => run.report.categories_created += 1,
        }
    }

    fn reject<P: FnMut(&ImportReport) + Send>(&mut self, node: usize, why: Rejection, run: &mut Run<P>) {
        if let Some(node) = self.forest.nodes.get_mut(node)
            && let Some(row) = node.row.take()
        {
            let external_id = Some(node.external_id.clone());
            run.refuse(Refused { index: row.index, line: row.line, external_id, raw: row.raw, cut: row.cut, why });
        }
    }

    /// Inserts categories in one unit of work, all or nothing.
    async fn insert(&self, planned: &[&Planned]) -> Result<()> {
        let mut patience = Patience::new();
        let mut unknown = false;
        loop {
            match self.try_insert(planned, unknown).await {
                Err(e) => {
                    unknown |= e.outcome_unknown();
                    patience.after(e).await?;
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn try_insert(&self, planned: &[&Planned], unknown: bool) -> Result<()> {
        self.cx
            .write_at_length(|mut tx| async move {
                let here = match planned.first() {
                    // All or nothing was written, so one category tells whether all exist.
                    Some(p) if unknown => tx.categories().get(p.id, IncludeDeleted::Yes).await?.is_some(),
                    _ => false,
                };
                if !here {
                    self.insert_in(&mut tx, planned).await?;
                }
                Ok(((), tx))
            })
            .await
    }

    async fn insert_in(&self, tx: &mut Tx<'_>, planned: &[&Planned]) -> Result<()> {
        tx.categories().lock_tree().await?;
        let here: HashSet<CategoryId> = planned.iter().map(|p| p.id).collect();
        let above: HashSet<CategoryId> =
            planned.iter().filter_map(|p| p.parent).filter(|p| !here.contains(p)).collect();
        let above: Vec<CategoryId> = above.into_iter().collect();
        // Read again, since another writer may have moved or deleted them since the plan was made.
        let mut paths: HashMap<CategoryId, String> = if above.is_empty() {
            HashMap::new()
        } else {
            let found = tx.categories().get_many(&above, IncludeDeleted::No).await?;
            found.into_iter().map(|c| (c.id, c.path)).collect()
        };
        let named: Vec<(&Planned, &Node, Slug)> = planned
            .iter()
            .filter_map(|p| self.forest.nodes.get(p.node).map(|n| (*p, n)))
            .map(|(p, n)| (p, n, Slug::from_title(n.name.as_deref().unwrap_or_default(), "category")))
            .collect();
        let mut bases: Vec<Slug> = named.iter().map(|(_, _, slug)| slug.clone()).collect();
        bases.sort();
        bases.dedup();
        let mut taken = tx.categories().taken_slugs(&bases).await?;
        let now = self.cx.now();
        let mut rows = Vec::with_capacity(named.len());
        for (p, node, base) in named {
            let slug = base.first_free(&taken);
            taken.insert(slug.to_string());
            let path = match p.parent {
                None => slug.to_string(),
                Some(parent) => {
                    let above = paths.get(&parent).ok_or_else(|| {
                        let message = format!("has the parent category `{parent}`, which no longer exists");
                        Error::invalid("path", FieldCode::ReferenceNotFound, message)
                    })?;
                    format!("{above}/{slug}")
                }
            };
            paths.insert(p.id, path.clone());
            rows.push(Category {
                id: p.id,
                name: node.name.as_deref().unwrap_or_default().trim().to_owned(),
                slug,
                parent_id: p.parent,
                path,
                description: trimmed(node.description.as_deref()),
                attributes: Attributes::default(),
                external: Some(ExternalRef::new(&self.source, &node.external_id)),
                product_count: 0,
                subtree_product_count: 0,
                revision: 1,
                audit: Audit::created(now, self.who.actor()),
            });
        }
        CategoryService::new(self.cx, self.who).insert_in(tx, &rows).await
    }

    /// Returns the new values of an existing category, or `None` if it agrees with its record.
    fn change(&self, o: &Over, node: &Node) -> Option<CategoryInput> {
        let before = &o.before;
        let name = node.name.as_deref().unwrap_or_default().trim();
        let description = trimmed(node.description.as_deref()).or_else(|| before.description.clone());
        let external = ExternalRef::new(&self.source, &node.external_id);
        if before.name == name
            && before.parent_id == o.parent
            && before.description == description
            && before.external.as_ref() == Some(&external)
        {
            return None;
        }
        // A slug that was made from the name follows the new name; a slug that was chosen stays.
        let derived = is_numbered(&before.slug, &Slug::from_title(&before.name, "category"));
        Some(CategoryInput {
            name: name.to_owned(),
            slug: (before.name == name || !derived).then(|| before.slug.to_string()),
            parent_id: o.parent.map(|p| p.to_string()),
            description,
            attributes: before.attributes.clone(),
            source: Some(external.source),
            external_id: Some(external.external_id),
            version: None,
        })
    }

    /// Updates an existing category if it differs from its record, and returns whether it did.
    async fn update(&self, o: &Over) -> Result<bool> {
        let Some(node) = self.forest.nodes.get(o.node) else { return Ok(false) };
        let Some(input) = self.change(o, node) else { return Ok(false) };
        let before = &o.before;
        let categories = CategoryService::new(self.cx, self.who);
        let read = ExpectedVersion::Exact(before.audit.version);
        let mut patience = Patience::new();
        let mut unknown = false;
        loop {
            match categories.replace(before.id, read, &input).await {
                // Our own write, whose answer was lost, has changed the version.
                Err(Error::Conflict(c))
                    if unknown
                        && matches!(*c, Conflict::Version { actual, .. } if actual == before.audit.version + 1) =>
                {
                    return Ok(true);
                }
                Err(e) => {
                    unknown |= e.outcome_unknown();
                    patience.after(e).await?;
                }
                Ok(_) => return Ok(true),
            }
        }
    }
}
