//! The indexes on the server, and what is written to them.
//!
//! ```text
//! <index>-f<format>       the index that is searched and written to
//! <index>-f<format>-<n>   an index that a rebuild fills; its content is exchanged with that of the first one at once
//! ```
//! The changes of a call and their checkpoint are documents of one task, which the server carries out as a whole or not
//! at all. The checkpoint belongs to a generation: a write that meets another one, because a process has replaced the
//! index meanwhile, moves no checkpoint. So a search finds all changes of a call or none, and the checkpoint is never
//! ahead of them. If they are larger than [`MeilisearchOptions::bulk_bytes`], there are several tasks, and the last one
//! has the checkpoint.
//!
//! The server has no conditional writes. A call reads the revisions and the checkpoint of the index and sends only what
//! is newer. The lease in the database prevents a second writer in between. If a process stalls between reading and
//! sending until its lease has expired, an older document can replace a newer one, until its next change or `verify`
//! corrects it.
//!
//! A build that a process has left is continued by the next one under a new name. If the earlier process still lives,
//! its later tasks do not reach the index any more. Each batch of a build contains a document that says how far it has
//! come. The tasks of a build are carried out in their order, so this is true unless an earlier task has failed; such a
//! build is not continued.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ecom_core::id::ProductId;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{Applied, BuildProgress, BuildStart, Checkpoint, IndexOp, SearchDocument};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Call, Client};
use super::config::MeilisearchOptions;
use super::error::{blames_documents, is_missing_index};
use super::mapping::{
    CHECKPOINT_ID, FORMAT, MARK, PROGRESS, WORD_ID, checkpoint_document, checkpoint_id, document, field, mark,
    progress_document, settings, tombstone, word_document, word_id,
};
use crate::remote::Failure;

/// The pause before a write is sent again for which the server was too busy.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How often the index is read after the answer to an exchange of indexes was lost.
const LOOKS_AFTER_LOST_ANSWER: u32 = 20;

/// The indexes of a shop on a server.
pub(super) struct Indexes {
    pub(super) client: Client,
    pub(super) options: MeilisearchOptions,
    /// The number of the generation that was read last, so that its checkpoint is read with the mark.
    pub(super) seen: AtomicU64,
}

/// The content of the mark of an index.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pub(super) checkpoint: Option<Checkpoint>,
    /// The number of the rebuild that has made the content.
    pub(super) generation: u64,
}

/// A change of the index, ready to be sent.
pub(super) struct Change {
    id: ProductId,
    revision: i64,
    document: Value,
    words: BTreeSet<String>,
}

/// A document as JSON.
#[derive(Debug, Clone)]
pub(super) struct Item {
    id: String,
    json: String,
}

impl Item {
    fn of(document: &Value) -> Self {
        let id = document.get(field::ID).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { id, json: document.to_string() }
    }

    fn is_word(&self) -> bool {
        self.id.starts_with(WORD_ID)
    }

    /// Returns the document that says how far a build is.
    pub(super) fn progress(progress: BuildProgress) -> Self {
        Self::of(&progress_document(progress))
    }

    /// Returns the document of a word.
    pub(super) fn word(word: &str) -> Self {
        Self::of(&word_document(word))
    }
}

impl Change {
    /// Makes the changes of many values on a blocking thread.
    pub(super) async fn of_each<T: Send + 'static>(
        values: Vec<T>,
        change: fn(&T) -> Result<Self, Failure>,
    ) -> Result<Vec<Self>, Failure> {
        let made = tokio::task::spawn_blocking(move || values.iter().map(change).collect());
        made.await.unwrap_or(Err(Failure::Garbled("a document")))
    }

    fn of(op: &IndexOp) -> Result<Self, Failure> {
        match op {
            IndexOp::Upsert(d) => Self::upsert(d),
            IndexOp::Delete { id, revision } => {
                Ok(Self { id: *id, revision: *revision, document: tombstone(*id, *revision), words: BTreeSet::new() })
            }
        }
    }

    pub(super) fn upsert(d: &SearchDocument) -> Result<Self, Failure> {
        let made = document(d).map_err(|_| Failure::Garbled("a document"))?;
        Ok(Self { id: d.id, revision: d.revision, document: made.document, words: made.words })
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &String> {
        self.words.iter()
    }

    pub(super) fn item(&self) -> Item {
        Item::of(&self.document)
    }
}

/// The documents of a call that the index has already.
#[derive(Default)]
struct Present {
    mark: Mark,
    revisions: HashMap<String, i64>,
    /// The ids of the words.
    words: BTreeSet<String>,
}

impl Indexes {
    /// Returns the name of the index that is searched.
    pub(super) fn live(&self) -> String {
        format!("{}-f{FORMAT}", self.options.index)
    }

    fn administration<'a>(&self, method: Method, path: &'a str, body: Option<&Value>) -> Call<'a> {
        let is_repeatable = method == Method::GET;
        let body = body.map(|body| Bytes::from(body.to_string()));
        Call { method, path, body, limit: self.options.write_timeout, is_repeatable }
    }

    /// Makes a call that enqueues a task, and waits for its end.
    async fn carry_out(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), Failure> {
        let task = self.client.enqueue(self.administration(method, path, body)).await?;
        self.client.finished(task, self.options.write_timeout).await
    }

    /// Returns what the index has of these documents; `None` if there is no such index.
    async fn present(
        &self,
        index: &str,
        mut ids: BTreeSet<String>,
        limit: Duration,
    ) -> Result<Option<Present>, Failure> {
        ids.insert(MARK.to_owned());
        let mut seen = self.seen.load(Ordering::Relaxed);
        ids.insert(checkpoint_id(seen));
        loop {
            let Some(present) = self.fetch(index, &ids, limit).await? else { return Ok(None) };
            let generation = present.mark.generation;
            if generation == seen {
                return Ok(Some(present));
            }
            // The checkpoint that was read is that of another generation.
            ids.remove(&checkpoint_id(seen));
            ids.insert(checkpoint_id(generation));
            self.seen.store(generation, Ordering::Relaxed);
            seen = generation;
        }
    }

    /// Reads documents, among them the mark and the checkpoint of a generation.
    async fn fetch(&self, index: &str, ids: &BTreeSet<String>, limit: Duration) -> Result<Option<Present>, Failure> {
        let path = format!("indexes/{index}/documents/fetch");
        let fields = [field::ID, field::REVISION, "format", "generation", "checkpoint"];
        let body = json!({"ids": ids, "fields": fields, "limit": ids.len()});
        let call = Call { is_repeatable: true, limit, ..self.administration(Method::POST, &path, Some(&body)) };
        let answer = match self.client.call(call).await {
            Err(failure) if is_missing_index(&failure) => return Ok(None),
            answer => answer?,
        };
        let mut present = Present::default();
        let mut is_marked = false;
        for found in answer.get("results").and_then(Value::as_array).ok_or(Failure::Garbled("documents"))? {
            let id = found.get(field::ID).and_then(Value::as_str).ok_or(Failure::Garbled("an id"))?;
            if id == MARK {
                is_marked = true;
                present.mark.generation = Self::generation_of(index, found)?;
            } else if id.starts_with(CHECKPOINT_ID) {
                let checkpoint = found.get("checkpoint").cloned().unwrap_or_default();
                let read = serde_json::from_value(checkpoint).map_err(|_| Failure::Garbled("a checkpoint"))?;
                present.mark.checkpoint = Some(read);
            } else if let Some(revision) = found.get(field::REVISION).and_then(Value::as_i64) {
                present.revisions.insert(id.to_owned(), revision);
            } else {
                present.words.insert(id.to_owned());
            }
        }
        if is_marked { Ok(Some(present)) } else { Err(Failure::Foreign(index.to_owned())) }
    }

    fn generation_of(index: &str, found: &Value) -> Result<u64, Failure> {
        if found.get("format").and_then(Value::as_u64) != Some(u64::from(FORMAT)) {
            return Err(Failure::Foreign(index.to_owned()));
        }
        Ok(found.get("generation").and_then(Value::as_u64).unwrap_or_default())
    }

    /// Returns the mark of an index; `None` if there is no such index.
    pub(super) async fn mark(&self, index: &str) -> Result<Option<Mark>, Failure> {
        // Searches wait for it.
        let limit = self.options.search_timeout;
        Ok(self.present(index, BTreeSet::new(), limit).await?.map(|present| present.mark))
    }

    /// Returns the generations on the server, with their numbers.
    async fn generations(&self) -> Result<Vec<(String, u64)>, Failure> {
        const PAGE: usize = 1_000;
        let prefix = format!("{}-", self.live());
        let mut found = Vec::new();
        for page in 0.. {
            let path = format!("indexes?limit={PAGE}&offset={}", page * PAGE);
            let answer = self.client.call(self.administration(Method::GET, &path, None)).await?;
            let indexes = answer.get("results").and_then(Value::as_array).ok_or(Failure::Garbled("the indexes"))?;
            let names = indexes.iter().filter_map(|index| index.get("uid").and_then(Value::as_str));
            found.extend(names.filter_map(|name| Some((name.to_owned(), name.strip_prefix(&prefix)?.parse().ok()?))));
            if indexes.len() < PAGE {
                break;
            }
        }
        Ok(found)
    }

    /// Returns the generation to build, and how far an earlier process has come with it: the one that was left, if that
    /// build can be continued, or a new one. Removes the others.
    pub(super) async fn begin_build(
        &self,
        start: BuildStart,
        since: Option<OutboxPosition>,
    ) -> Result<(Generation, Option<BuildProgress>), Failure> {
        let others = self.generations().await?;
        let newest = others.iter().max_by_key(|(_, number)| number);
        let left = match (since, newest) {
            (Some(since), Some((name, number))) => {
                let left = self.take_over(name, *number).await?;
                left.filter(|(_, progress)| progress.fits(&start, since))
            }
            _ => None,
        };
        let (generation, continued) = match left {
            Some((generation, progress)) => (generation, Some(progress)),
            None => (self.create().await?, None),
        };
        if !others.is_empty() {
            for (other, _) in self.generations().await? {
                if other != generation.name {
                    self.remove(&other).await;
                }
            }
        }
        Ok((generation, continued))
    }

    /// Gives a generation that a process has left a new name, and returns it with its progress; `None` if the build
    /// cannot be continued.
    async fn take_over(&self, name: &str, number: u64) -> Result<Option<(Generation, BuildProgress)>, Failure> {
        // The name of a generation that was in use until the last exchange is that of its successor.
        let used = self.mark(&self.live()).await?.map_or(0, |mark| mark.generation);
        match self.mark(name).await {
            Ok(Some(mark)) if (used + 1..=number).contains(&mark.generation) => {}
            // A process has stopped before the mark, or has written to a generation that was gone.
            Ok(_) | Err(Failure::Foreign(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        }
        let number = number + 1;
        let generation = Generation { name: format!("{}-{number}", self.live()), number };
        // The tasks that are under way come before this one, which therefore may take longer than one of them.
        let body = json!([{"indexes": [name, generation.name], "rename": true}]);
        match self.carry_out(Method::POST, "swap-indexes", Some(&body)).await {
            // Another process was faster.
            Err(failure) if is_missing_index(&failure) => return Ok(None),
            renamed => renamed?,
        }
        // The server may list earlier tasks under either name.
        let path = format!("tasks?indexUids={name},{}&statuses=failed,canceled&limit=1", generation.name);
        let answer = self.client.call(self.administration(Method::GET, &path, None)).await?;
        if answer.get("results").and_then(Value::as_array).is_none_or(|failed| !failed.is_empty()) {
            return Ok(None);
        }
        let path = format!("indexes/{}/documents/{PROGRESS}", generation.name);
        let progress = match self.client.call(self.administration(Method::GET, &path, None)).await {
            Err(Failure::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?.get("progress").cloned(),
        };
        let Some(progress) = progress.and_then(|progress| serde_json::from_value(progress).ok()) else {
            return Ok(None);
        };
        self.write(&generation.name, vec![Item::of(&mark(number))]).await?;
        Ok(Some((generation, progress)))
    }

    /// Makes an empty generation that is not in use yet.
    pub(super) async fn create(&self) -> Result<Generation, Failure> {
        let used = self.mark(&self.live()).await?.unwrap_or_default().generation;
        let others = self.generations().await?;
        let mut number = others.into_iter().map(|(_, number)| number).max().unwrap_or(0).max(used);
        loop {
            number += 1;
            let name = format!("{}-{number}", self.live());
            let body = json!({"uid": name, "primaryKey": field::ID});
            match self.carry_out(Method::POST, "indexes", Some(&body)).await {
                // Another process has made it at the same moment.
                Err(Failure::Task { code, .. } | Failure::Refused { code, .. }) if code == "index_already_exists" => {}
                Err(failure) => return Err(failure),
                Ok(()) => {
                    let generation = Generation { name, number };
                    let made = self.set_up(&generation).await;
                    if made.is_err() {
                        self.remove(&generation.name).await;
                    }
                    return made.map(|()| generation);
                }
            }
        }
    }

    async fn set_up(&self, generation: &Generation) -> Result<(), Failure> {
        let path = format!("indexes/{}/settings", generation.name);
        self.carry_out(Method::PATCH, &path, Some(&settings())).await?;
        self.write(&generation.name, vec![Item::of(&mark(generation.number))]).await.map(drop)
    }

    /// Writes the checkpoint of a generation.
    pub(super) async fn set_checkpoint(&self, generation: &Generation, at: Checkpoint) -> Result<(), Failure> {
        let document = checkpoint_document(generation.number, at);
        self.write(&generation.name, vec![Item::of(&document)]).await.map(drop)
    }

    /// Puts a generation in use, and removes all others of this format.
    pub(super) async fn switch(&self, generation: &Generation) -> Result<(), Failure> {
        let live = self.live();
        // If somebody else has made the index, it must stay.
        let exists = self.mark(&live).await?.is_some();
        let body = if exists {
            json!([{"indexes": [live, generation.name]}])
        } else {
            json!([{"indexes": [generation.name, live], "rename": true}])
        };
        let switched = self.carry_out(Method::POST, "swap-indexes", Some(&body)).await;
        if let Err(failure) = switched
            && (failure.wrote_nothing() || !self.is_in_use(generation).await)
        {
            return Err(failure);
        }
        for (other, _) in self.generations().await.unwrap_or_default() {
            self.remove(&other).await;
        }
        Ok(())
    }

    /// Returns whether an exchange whose answer was lost has happened after all.
    async fn is_in_use(&self, generation: &Generation) -> bool {
        for _ in 0..LOOKS_AFTER_LOST_ANSWER {
            let mark = self.mark(&self.live()).await;
            if mark.is_ok_and(|mark| mark.is_some_and(|mark| mark.generation == generation.number)) {
                return true;
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
        false
    }

    /// Removes an index. If that fails, the next rebuild removes it.
    pub(super) async fn remove(&self, name: &str) {
        match self.carry_out(Method::DELETE, &format!("indexes/{name}"), None).await {
            Ok(()) => {}
            Err(failure) if is_missing_index(&failure) => {}
            Err(error) => tracing::warn!(%error, name, "an index that is not in use was not removed"),
        }
    }

    /// Applies changes and their checkpoint to the index in use, whose checkpoint is `before`.
    pub(super) async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Applied, Failure> {
        let changes = Change::of_each(ops, Change::of).await?;
        let words: BTreeMap<String, &String> =
            changes.iter().flat_map(|change| &change.words).map(|word| (word_id(word), word)).collect();
        let mut ids: BTreeSet<String> = changes.iter().map(|change| change.id.to_string()).collect();
        ids.extend(words.keys().cloned());
        let live = self.live();
        let limit = self.options.write_timeout;
        let present = match self.present(&live, ids.clone(), limit).await? {
            Some(present) => present,
            None if before.is_some() => return Err(Failure::Overtaken),
            None => {
                self.begin().await?;
                self.present(&live, ids, limit).await?.ok_or(Failure::Garbled("an index that was just made"))?
            }
        };
        let stored = present.mark;
        if stored.checkpoint != before {
            return Err(Failure::Overtaken);
        }
        let mut revisions = present.revisions;
        let mut newest: BTreeMap<ProductId, &Change> = BTreeMap::new();
        let mut applied: u64 = 0;
        for change in &changes {
            let known = revisions.get(&change.id.to_string());
            if known.is_none_or(|known| change.revision > *known) {
                revisions.insert(change.id.to_string(), change.revision);
                newest.insert(change.id, change);
                applied += 1;
            }
        }
        let needed: BTreeSet<&String> = newest.values().flat_map(|change| &change.words).collect();
        let unknown = words.iter().filter(|(id, word)| needed.contains(*word) && !present.words.contains(*id));
        let mut items: Vec<Item> = unknown.map(|(_, word)| Item::word(word)).collect();
        items.extend(newest.values().map(|change| change.item()));
        items.push(Item::of(&checkpoint_document(stored.generation, checkpoint)));
        let refused = self.write(&live, items).await?;
        Ok(Applied { written: applied - refused, refused })
    }

    /// Makes the index that is searched.
    async fn begin(&self) -> Result<(), Failure> {
        let generation = self.create().await?;
        let switched = self.switch(&generation).await;
        // If the answer was lost, the generation may be in use.
        if switched.as_ref().is_err_and(Failure::wrote_nothing) {
            self.remove(&generation.name).await;
        }
        switched
    }

    /// Writes documents in tasks of bounded size, waits for them, and returns how many products the server refuses.
    async fn write(&self, index: &str, mut items: Vec<Item>) -> Result<u64, Failure> {
        let mut refused = 0;
        while !items.is_empty() {
            let rest = items.split_off(self.fits(&items));
            refused += self.write_at_once(index, items).await?;
            items = rest;
        }
        Ok(refused)
    }

    /// Returns how many of the documents fit in one task.
    pub(super) fn fits(&self, items: &[Item]) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            bytes += item.json.len() + 1;
            bytes <= self.options.bulk_bytes
        };
        items.iter().take_while(fits).count().max(1).min(items.len())
    }

    /// Enqueues the task that writes these documents.
    pub(super) async fn send(&self, index: &str, items: &[Item]) -> Result<u64, Failure> {
        let since = Instant::now();
        let path = format!("indexes/{index}/documents?primaryKey={}", field::ID);
        let documents: Vec<&str> = items.iter().map(|item| item.json.as_str()).collect();
        let body = Bytes::from(format!("[{}]", documents.join(",")));
        loop {
            let limit = self.options.write_timeout.saturating_sub(since.elapsed());
            let call =
                Call { method: Method::POST, path: &path, body: Some(body.clone()), limit, is_repeatable: false };
            match self.client.enqueue(call).await {
                Err(Failure::Refused { status: 429 | 503, .. })
                    if since.elapsed() + BUSY_PAUSE < self.options.write_timeout =>
                {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                sent => return sent,
            }
        }
    }

    /// Writes documents in one task. If the server refuses it because of a document, the task is divided until that one
    /// is found: it must not keep all later ones from the index. Returns how many products the server refuses.
    pub(super) async fn write_at_once(&self, index: &str, mut items: Vec<Item>) -> Result<u64, Failure> {
        let mut refused = 0;
        let mut waiting: Vec<Vec<Item>> = Vec::new();
        loop {
            let written = match self.send(index, &items).await {
                Ok(task) => self.client.finished(task, self.options.write_timeout).await,
                Err(failure) => Err(failure),
            };
            match written {
                Ok(()) => {}
                Err(failure) if !blames_documents(&failure) => return Err(failure),
                Err(failure) => match items.as_slice() {
                    [item] if item.id.starts_with(MARK) => return Err(failure),
                    [item] => {
                        refused += u64::from(!item.is_word());
                        tracing::error!(
                            product = %item.id, error = %failure,
                            "the search server refuses a document; the index lacks it or keeps an older one"
                        );
                    }
                    _ => {
                        waiting.push(items.split_off(items.len() / 2));
                        continue;
                    }
                },
            }
            match waiting.pop() {
                Some(next) => items = next,
                None => return Ok(refused),
            }
        }
    }
}

/// An index that is not in use yet.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) name: String,
    pub(super) number: u64,
}
