//! The indices on the server, and what is written to them.
//!
//! ```text
//! <index>                       the alias for dashboards and other services
//! <index>-f<format>             the alias that this adapter searches; a rebuild moves both at once
//! <index>-f<format>-<n>         a generation: an index
//! <index>-f<format>-<n>-write   the alias that it is written to, so that a write never makes an index that is gone
//! <index>-f<format>-<n>-unfinished
//!                               the alias of a generation that was not in use yet; the call that puts it in use takes
//!                               the alias away
//! ```
//! The checkpoint is a document of the generation that it describes. It is written once the documents are searchable,
//! so it is never ahead of them. The server refreshes only when this adapter asks, so a search finds all changes of a
//! call or none. Each document has the revision of its product as its external version, so a late older document never
//! replaces a newer one, whichever process sends it.
//!
//! A build that a process has left is continued by the next one. Each bulk call of a build has a document that says how
//! far the calls before it have come, because the server has these on its disk. If the earlier process still lives,
//! both write the same documents, each in its newest revision, and the generation is put in use once: the second
//! process finds a checkpoint that it has not read, or no `unfinished` alias. A generation is removed only after it has
//! lost this alias, so the server never removes one that another process has just put in use.

use std::time::{Duration, Instant};

use ::elasticsearch::http::Method;
use ecom_core::id::ProductId;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{Applied, BuildProgress, BuildStart, Checkpoint, IndexOp, SearchDocument};
use serde_json::{Value, json};

use super::answer::Written;
use super::client::{Call, Client};
use super::config::ElasticsearchOptions;
use super::error::is_missing_index;
use super::mapping::{
    CHECKPOINT, FORMAT, PROGRESS, checkpoint_document, document, field, new_index, progress_document, settings,
    tombstone,
};
use crate::remote::Failure;

/// The pause before items are sent again for which the server was too busy.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// The indices of a shop on a server.
pub(super) struct Indices {
    pub(super) client: Client,
    pub(super) options: ElasticsearchOptions,
}

/// The checkpoint of a generation, and the state of the document that contains it.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) checkpoint: Option<Checkpoint>,
    /// Sequence number and primary term, by which the server recognizes that another process has written it since.
    state: Option<(u64, u64)>,
}

/// A generation on the server.
struct Known {
    name: String,
    number: u64,
    is_used: bool,
    is_unfinished: bool,
}

/// A generation that is being built.
pub(super) struct Begun {
    pub(super) generation: String,
    /// Its checkpoint, if an earlier process has stopped just before it put the generation in use.
    pub(super) stored: Stored,
    /// How far an earlier process has come with it.
    pub(super) continued: Option<BuildProgress>,
}

/// A document or a tombstone, as a bulk call sends it.
pub(super) struct Item {
    id: String,
    lines: String,
}

impl Indices {
    /// Returns the alias that is searched.
    pub(super) fn alias(&self) -> String {
        format!("{}-f{FORMAT}", self.options.index)
    }

    fn write_alias(generation: &str) -> String {
        format!("{generation}-write")
    }

    fn unfinished_alias(generation: &str) -> String {
        format!("{generation}-unfinished")
    }

    fn administration<'a>(&self, method: Method, path: &'a str, body: Option<&Value>) -> Call<'a> {
        let is_repeatable = matches!(method, Method::Get);
        // Searches wait for what is read.
        let limit = if is_repeatable { self.options.search_timeout } else { self.options.write_timeout };
        Call { method, path, parameters: &[], body: body.map(|body| body.to_string().into()), limit, is_repeatable }
    }

    /// Returns the generation in use; `None` if there is none yet.
    pub(super) async fn current(&self) -> Result<Option<String>, Failure> {
        let alias = self.alias();
        let answer = match self.client.call(self.administration(Method::Get, &alias, None)).await {
            Err(failure) if is_missing_index(&failure) => return Ok(None),
            answer => answer?,
        };
        let (name, about) = answer.as_object().and_then(|o| o.iter().next()).ok_or(Failure::Garbled("an index"))?;
        let format = about.pointer("/mappings/_meta/format").and_then(Value::as_u64);
        if *name == alias || format != Some(u64::from(FORMAT)) {
            return Err(Failure::Foreign(name.clone()));
        }
        Ok(Some(name.clone()))
    }

    /// Makes an empty generation and puts it in use.
    async fn begin(&self) -> Result<String, Failure> {
        let generation = self.create().await?;
        match self.switch(&generation).await {
            Ok(()) => Ok(generation),
            Err(failure) => {
                // If the answer was lost, the generation may be in use.
                if failure.wrote_nothing() {
                    self.remove(&generation).await;
                }
                Err(failure)
            }
        }
    }

    /// Returns the generations on the server.
    async fn generations(&self) -> Result<Vec<Known>, Failure> {
        let path = format!("{}-*/_alias", self.alias());
        let answer = self.client.call(self.administration(Method::Get, &path, None)).await?;
        let prefix = format!("{}-", self.alias());
        let found = answer.as_object().ok_or(Failure::Garbled("the indices"))?;
        let generation = |(name, about): (&String, &Value)| {
            let has = |alias: String| about.get("aliases").is_some_and(|aliases| aliases.get(alias).is_some());
            Some(Known {
                number: name.strip_prefix(&prefix)?.parse().ok()?,
                is_used: has(self.alias()),
                is_unfinished: has(Self::unfinished_alias(name)),
                name: name.clone(),
            })
        };
        Ok(found.iter().filter_map(generation).collect())
    }

    /// Returns the generation to build: the one that an earlier process has left, if that build can be continued, or a
    /// new one. Removes the others that are not in use.
    pub(super) async fn begin_build(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Begun, Failure> {
        let others = self.generations().await?;
        let left = others.iter().filter(|found| found.is_unfinished && !found.is_used).max_by_key(|found| found.number);
        let earlier = match (since, left) {
            (Some(since), Some(left)) => {
                let (progress, stored) = self.left(&left.name).await?;
                let progress = progress.filter(|progress| progress.fits(&start, since));
                progress.map(|p| Begun { generation: left.name.clone(), stored, continued: Some(p) })
            }
            _ => None,
        };
        let begun = match earlier {
            Some(begun) => begun,
            // Its number is above those of the others, so that no process mistakes it for a generation that is gone.
            None => Begun { generation: self.create().await?, stored: Stored::default(), continued: None },
        };
        for other in others {
            if other.name != begun.generation && !other.is_used {
                self.discard(&other).await;
            }
        }
        Ok(begun)
    }

    /// Returns what an earlier process has left of a generation: how far it has come, and the checkpoint if there is
    /// one already. After a restart, the server needs a moment for the documents of an index; if they do not come back,
    /// the generation is given up.
    async fn left(&self, generation: &str) -> Result<(Option<BuildProgress>, Stored), Failure> {
        let since = Instant::now();
        let path = format!("{generation}/_mget");
        let body = json!({"ids": [PROGRESS, CHECKPOINT]});
        loop {
            let call = Call { is_repeatable: true, ..self.administration(Method::Post, &path, Some(&body)) };
            let answer = self.client.call(call).await?;
            let documents = answer.get("docs").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let [progress, checkpoint] = documents else { return Err(Failure::Garbled("two documents")) };
            if [progress, checkpoint].iter().all(|document| document.get("error").is_none()) {
                let fits = progress.pointer("/_source/settings") == Some(&settings(&self.options));
                let progress = progress.pointer("/_source/progress").filter(|_| fits).cloned();
                let progress = progress.and_then(|progress| serde_json::from_value(progress).ok());
                let is_found = checkpoint.get("found").and_then(Value::as_bool) == Some(true);
                return Ok((progress, if is_found { Stored::of(checkpoint)? } else { Stored::default() }));
            }
            if since.elapsed() + BUSY_PAUSE >= self.options.write_timeout {
                tracing::warn!(generation, "an index that was being built cannot be read; it is built anew");
                return Ok((None, Stored::default()));
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// Makes a generation that is not in use yet.
    async fn create(&self) -> Result<String, Failure> {
        let mut number = self.generations().await?.into_iter().map(|found| found.number).max().unwrap_or(0);
        loop {
            number += 1;
            let generation = format!("{}-{number}", self.alias());
            let aliases = [Self::write_alias(&generation), Self::unfinished_alias(&generation)];
            let body = new_index(&self.options, aliases.each_ref().map(String::as_str));
            match self.client.call(self.administration(Method::Put, &generation, Some(&body))).await {
                Ok(_) => return Ok(generation),
                // Another process has made it at the same moment.
                Err(Failure::Refused { code, .. }) if code == "resource_already_exists_exception" => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Puts a generation in use, and removes all others of this format that are not in use.
    pub(super) async fn switch(&self, generation: &str) -> Result<(), Failure> {
        let (alias, shown) = (self.alias(), &self.options.index);
        let body = json!({"actions": [
            {"remove": {"index": format!("{shown}-f*"), "aliases": [shown, alias], "must_exist": false}},
            {"add": {"index": generation, "aliases": [shown, alias]}},
            {"remove": {"index": generation, "alias": Self::unfinished_alias(generation), "must_exist": true}},
        ]});
        let switched = self.client.call(self.administration(Method::Post, "_aliases", Some(&body))).await;
        // Otherwise not all nodes know of the change yet, and it may not last.
        let acknowledged = |answer: Value| match answer.get("acknowledged").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(Failure::Garbled("an acknowledgment")),
        };
        if let Err(failure) = switched.and_then(acknowledged) {
            if failure.wrote_nothing() {
                return Err(self.named(failure).await);
            }
            // The answer is lost. If the aliases have moved, all is well.
            if !matches!(self.current().await, Ok(Some(current)) if current == generation) {
                return Err(failure);
            }
        }
        for other in self.generations().await.unwrap_or_default() {
            // Another process may have switched since.
            if other.name != generation && !other.is_used {
                self.discard(&other).await;
            }
        }
        Ok(())
    }

    /// Explains the failure to put a generation in use: the generation has no `unfinished` alias any more, or somebody
    /// else's index has the name of an alias.
    async fn named(&self, failure: Failure) -> Failure {
        if matches!(failure, Failure::Refused { status: 404, .. }) {
            return Failure::BuildIsGone;
        }
        for name in [self.alias(), self.options.index.clone()] {
            let about = self.client.call(self.administration(Method::Get, &name, None)).await;
            if about.is_ok_and(|about| about.get(&name).is_some()) {
                return Failure::Foreign(name);
            }
        }
        failure
    }

    /// Removes a generation that was not in use. Another process may put it in use at the same time: the one that takes
    /// away the `unfinished` alias first decides.
    async fn discard(&self, found: &Known) {
        if found.is_unfinished {
            let alias = Self::unfinished_alias(&found.name);
            let body = json!({"actions": [{"remove": {"index": found.name, "alias": alias, "must_exist": true}}]});
            match self.client.call(self.administration(Method::Post, "_aliases", Some(&body))).await {
                Ok(_) => {}
                Err(Failure::Refused { status: 404, .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, generation = found.name, "an index that is not in use was not removed");
                    return;
                }
            }
        }
        self.remove(&found.name).await;
    }

    /// Removes a generation. If that fails, the next rebuild removes it.
    pub(super) async fn remove(&self, generation: &str) {
        match self.client.call(self.administration(Method::Delete, generation, None)).await {
            Ok(_) => {}
            Err(failure) if is_missing_index(&failure) => {}
            Err(error) => tracing::warn!(%error, generation, "an index that is not in use was not removed"),
        }
    }

    /// Makes everything that was written to the generation searchable.
    pub(super) async fn refresh(&self, generation: &str) -> Result<(), Failure> {
        let path = format!("{generation}/_refresh");
        let call = Call { is_repeatable: true, ..self.administration(Method::Post, &path, None) };
        let answer = self.client.call(call).await?;
        let failed = answer.pointer("/_shards/failed").and_then(Value::as_u64);
        if failed == Some(0) { Ok(()) } else { Err(Failure::Garbled("a refresh of all shards")) }
    }

    /// Returns the checkpoint of a generation.
    pub(super) async fn checkpoint(&self, generation: &str) -> Result<Stored, Failure> {
        let path = format!("{generation}/_doc/{CHECKPOINT}");
        let answer = match self.client.call(self.administration(Method::Get, &path, None)).await {
            Err(Failure::Refused { status: 404, code, .. }) if code.is_empty() => return Ok(Stored::default()),
            answer => answer?,
        };
        Stored::of(&answer)
    }

    /// Writes the checkpoint of a generation, if it still has the state that it was read in.
    pub(super) async fn set_checkpoint(
        &self,
        generation: &str,
        before: &Stored,
        checkpoint: Checkpoint,
    ) -> Result<(), Failure> {
        let path = format!("{}/_doc/{CHECKPOINT}", Self::write_alias(generation));
        let state = before.state.map(|(seq_no, term)| (seq_no.to_string(), term.to_string()));
        let mut parameters = vec![("require_alias", "true")];
        match &state {
            Some((seq_no, term)) => parameters.extend([("if_seq_no", seq_no.as_str()), ("if_primary_term", term)]),
            None => parameters.push(("op_type", "create")),
        }
        let call = self.administration(Method::Put, &path, Some(&checkpoint_document(checkpoint)));
        match self.client.call(Call { parameters: &parameters, ..call }).await {
            Ok(_) => Ok(()),
            Err(Failure::Refused { status: 409, .. }) => Err(Failure::Overtaken),
            Err(failure) => Err(failure),
        }
    }

    /// Applies changes and then their checkpoint to the generation in use, whose checkpoint is `before`.
    pub(super) async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Applied, Failure> {
        let generation = match self.current().await? {
            Some(current) => current,
            None if before.is_none() => self.begin().await?,
            None => return Err(Failure::Overtaken),
        };
        let stored = self.checkpoint(&generation).await?;
        if stored.checkpoint != before {
            return Err(Failure::Overtaken);
        }
        let items = Item::of_each(ops, Item::change).await?;
        let write = async {
            let has_changes = !items.is_empty();
            let applied = self.write(&generation, items).await?;
            // Searches find the changes before the checkpoint says so. A call that failed half-way may have written
            // them already.
            if has_changes {
                self.refresh(&generation).await?;
            }
            self.set_checkpoint(&generation, &stored, checkpoint).await?;
            Ok::<_, Failure>(applied)
        };
        match write.await {
            // Another process has replaced the generation meanwhile, and has removed it.
            Err(failure) if is_missing_index(&failure) => Err(Failure::Overtaken),
            applied => applied,
        }
    }

    /// Writes items in calls of bounded size.
    pub(super) async fn write(&self, generation: &str, items: Vec<Item>) -> Result<Applied, Failure> {
        let mut applied = Applied::default();
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |item: &&Item| {
                bytes += item.lines.len();
                bytes <= self.options.bulk_bytes
            };
            let count = rest.iter().take(self.options.bulk_documents).take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            let more = self.write_at_once(generation, now.iter().collect()).await?;
            applied.written += more.written;
            applied.refused += more.refused;
            rest = later;
        }
        Ok(applied)
    }

    /// Writes items in one call. Those for which the server was too busy are sent again.
    async fn write_at_once(&self, generation: &str, mut items: Vec<&Item>) -> Result<Applied, Failure> {
        let since = Instant::now();
        let path = format!("{}/_bulk", Self::write_alias(generation));
        let mut applied = Applied::default();
        let mut waiting: Vec<Vec<&Item>> = Vec::new();
        loop {
            let body: String = items.iter().map(|item| item.lines.as_str()).collect();
            let limit = self.options.write_timeout.saturating_sub(since.elapsed());
            let parameters = [("require_alias", "true")];
            let call = Call {
                method: Method::Post,
                path: &path,
                parameters: &parameters,
                body: Some(body.into()),
                limit,
                is_repeatable: false,
            };
            let busy = match self.client.call(call).await {
                Ok(answer) => {
                    let written = Written::of(&answer, items.len())?;
                    applied.written += written.applied;
                    applied.refused += written.refused.len() as u64;
                    for (at, reason) in written.refused {
                        Self::report(items[at], &reason);
                    }
                    written.busy.into_iter().map(|at| items[at]).collect()
                }
                Err(Failure::Refused { status: 413, reason, .. }) if items.len() == 1 => {
                    Self::report(items[0], &reason);
                    applied.refused += 1;
                    Vec::new()
                }
                Err(Failure::Refused { status: 413, .. }) => {
                    waiting.push(items.split_off(items.len() / 2));
                    continue;
                }
                Err(Failure::Refused { status: 429, .. }) => items,
                Err(failure) => return Err(failure),
            };
            if busy.is_empty() {
                match waiting.pop() {
                    Some(next) => items = next,
                    None => return Ok(applied),
                }
            } else {
                if since.elapsed() + BUSY_PAUSE >= self.options.write_timeout {
                    let (code, reason) = ("es_rejected_execution_exception".to_owned(), "too busy".to_owned());
                    return Err(Failure::Refused { status: 429, code, reason });
                }
                items = busy;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
    }

    /// A document that the server refuses must not keep all later ones from the index.
    fn report(item: &Item, reason: &str) {
        tracing::error!(product = %item.id, reason, "the search server refuses a document; the index lacks it or keeps an older one");
    }

    /// Returns ids and revisions of live products, by ascending id.
    pub(super) fn revisions(after: Option<ProductId>, limit: u32) -> Value {
        let mut body = json!({
            "query": {"term": {field::LIVE: true}},
            "sort": [{field::ID: "asc"}],
            "size": limit,
            "_source": false,
            "docvalue_fields": [field::REVISION],
        });
        if let Some(after) = after {
            body["search_after"] = json!([after]);
        }
        body
    }
}

impl Stored {
    /// Reads a document that the server has.
    fn of(found: &Value) -> Result<Self, Failure> {
        let garbled = || Failure::Garbled("a checkpoint");
        let checkpoint = found.pointer("/_source/checkpoint").cloned().ok_or_else(garbled)?;
        let number = |name: &str| found.get(name).and_then(Value::as_u64).ok_or_else(garbled);
        Ok(Self {
            checkpoint: Some(serde_json::from_value(checkpoint).map_err(|_| garbled())?),
            state: Some((number("_seq_no")?, number("_primary_term")?)),
        })
    }
}

impl Item {
    /// Makes the items of many values on a blocking thread.
    pub(super) async fn of_each<T: Send + 'static>(
        values: Vec<T>,
        item: fn(&T) -> Result<Self, Failure>,
    ) -> Result<Vec<Self>, Failure> {
        let made = tokio::task::spawn_blocking(move || values.iter().map(item).collect());
        made.await.unwrap_or(Err(Failure::Garbled("a document")))
    }

    fn change(op: &IndexOp) -> Result<Self, Failure> {
        match op {
            IndexOp::Upsert(d) => Self::upsert(d),
            IndexOp::Delete { id, revision } => Ok(Self::of(*id, *revision, &tombstone())),
        }
    }

    pub(super) fn upsert(d: &SearchDocument) -> Result<Self, Failure> {
        let document = document(d).map_err(|_| Failure::Garbled("a document"))?;
        Ok(Self::of(d.id, d.revision, &document))
    }

    /// Makes the item that says how far a build is.
    pub(super) fn progress(progress: BuildProgress, options: &ElasticsearchOptions) -> Self {
        let action = json!({"index": {"_id": PROGRESS}});
        let document = progress_document(progress, options);
        Self { lines: format!("{action}\n{document}\n"), id: PROGRESS.to_owned() }
    }

    fn of(id: ProductId, revision: i64, document: &Value) -> Self {
        let id = id.to_string();
        let action = json!({"index": {"_id": id, "version": revision, "version_type": "external"}});
        Self { lines: format!("{action}\n{document}\n"), id }
    }
}
