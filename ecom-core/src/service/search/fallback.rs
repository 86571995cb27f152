//! Which index answers a search: the main one, or the fallback while the engine of the main one does not answer.
//!
//! An engine that is back may lack the writes of its outage. It is asked again once its index is as far as the
//! fallback, and no index answers that is behind a position for which a caller has waited. So a search never misses a
//! write for which a caller of this process has waited, and a change back to the main engine never goes back in time. A
//! change to the fallback can: it may lack the last events that the main index has.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::Instrument as _;

use super::query::SearchService;
use super::state::{Index, version_of};
use crate::circuit::Attempt;
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::query::SearchRequest;
use crate::error::{Dependency, Error, Result, WithCauses};
use crate::log_event;
use crate::port::cache::CacheKey;
use crate::port::search::{Checkpoint, SearchResults};
use crate::service::run::read_through::{Cached, Lookup};
use crate::trace;

/// Why an index is not asked, or does not answer.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the search engine did not answer within the time limit")]
    TooSlow,
    #[error("the index has not caught up yet")]
    Behind,
}

/// Returns whether the engine does not answer, so that another one may.
const fn is_down(error: &Error) -> bool {
    matches!(error, Error::Unavailable { dependency: Dependency::Search, .. })
}

/// Returns what the engine of an index answers.
async fn asked(index: &Index, request: &SearchRequest) -> Result<SearchResults> {
    let span = tracing::debug_span!(target: trace::TARGET, "search", engine = index.provider.name());
    index.provider.search(request).instrument(span).await
}

/// Returns whether an index is not asked because it is behind.
fn is_behind(error: &Error) -> bool {
    let Error::Unavailable { source: Some(source), .. } = error else { return false };
    matches!(source.downcast_ref(), Some(Unusable::Behind))
}

impl Index {
    /// Notes whether the engine has answered, and returns its answer.
    fn settled<T>(&self, attempt: Attempt<'_>, answer: Result<T>) -> Result<T> {
        let engine = self.provider.name();
        match &answer {
            Err(error) if is_down(error) => {
                if attempt.failed() {
                    let (event, error) = (log_event::SEARCH_LOST, WithCauses(error));
                    tracing::warn!(
                        target: log_event::TARGET,
                        event,
                        engine,
                        %error,
                        "the search engine `{engine}` does not answer; searches skip it, except for a trial now and then"
                    );
                }
            }
            _ => {
                if attempt.answered() {
                    let event = log_event::SEARCH_RESTORED;
                    tracing::info!(target: log_event::TARGET, event, engine, "the search engine answers again");
                }
            }
        }
        answer
    }
}

impl<'a> SearchService<'a> {
    /// Returns the result of a request from the main index, or from the fallback if the main one does not answer.
    pub(super) async fn found(&self, request: &SearchRequest) -> Result<Lookup<SearchResults>> {
        let indices = &self.cx.indices;
        let why = match self.attempt_main().await {
            Ok(attempt) => {
                let found = self.within(self.found_in(&indices.main, request)).await;
                // A result from the cache says nothing of the engine.
                if found.as_ref().is_ok_and(|found| found.hit) {
                    attempt.unused();
                    return found;
                }
                match indices.main.settled(attempt, found) {
                    Err(error) if is_down(&error) => error,
                    found => return found,
                }
            }
            Err(error) => error,
        };
        match &indices.fallback {
            Some(fallback) if is_down(&why) => match self.found_by(fallback, request, why).await {
                // Neither index is as far as it should be, and an older answer is better than none.
                Err(why) if is_behind(&why) => self.within(self.found_in(&indices.main, request)).await,
                found => found,
            },
            _ => Err(why),
        }
    }

    /// Returns the result of a request from the fallback. If it cannot answer either, the error is `why`, that of the
    /// main index.
    async fn found_by(&self, fallback: &Index, request: &SearchRequest, why: Error) -> Result<Lookup<SearchResults>> {
        let indices = &self.cx.indices;
        let Ok(attempt) = fallback.circuit.attempt() else { return Err(why) };
        let least = *indices.promised.lock();
        let found = self.within(async {
            let poll = self.cx.config.poll_interval;
            let is_level = self.is_level(fallback.checkpoint(poll).await?, least).await?
                || self.is_level(fallback.read_checkpoint().await?, least).await?;
            if !is_level {
                return Ok(None);
            }
            self.found_in(fallback, request).await.map(Some)
        });
        match fallback.settled(attempt, found.await) {
            Ok(Some(found)) => {
                // The main index answers again once it is as far.
                if let Some(position) = fallback.state.position() {
                    self.promise(position);
                }
                indices.by_fallback.fetch_add(1, Ordering::Relaxed);
                let (main, fallback) = (indices.main.provider.name(), fallback.provider.name());
                tracing::debug!(error = %WithCauses(&why), "`{fallback}` has answered a search in place of `{main}`");
                Ok(found)
            }
            Ok(None) => {
                self.forget_promises().await;
                Err(why)
            }
            Err(error) if is_down(&error) => {
                tracing::debug!(error = %WithCauses(&error), "the fallback does not answer a search either");
                Err(why)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the result of a request: from the cache, if the index has not changed since, or else from its engine. If
    /// the version of the index cannot be read, the engine is asked.
    async fn found_in(&self, index: &Index, request: &SearchRequest) -> Result<Lookup<SearchResults>> {
        let cx = self.cx;
        let version = if cx.cache.name() == "none" {
            None
        } else {
            let read = index.checkpoint(cx.config.poll_interval).await;
            let read = read.inspect_err(|error| tracing::debug!(%error, "a search does without the cache"));
            read.ok().flatten().and_then(version_of)
        };
        if let Some(version) = version {
            let key = CacheKey::Search(request.hash(version));
            let load = async { asked(index, request).await.map(Some) };
            if let Some(found) = cx.cache.get_or_load(key, cx.config.product_ttl, load).await? {
                return Ok(found);
            }
        }
        let found = asked(index, request).await?;
        Ok(Lookup { value: Arc::new(Cached::new(found)), hit: false })
    }

    /// Returns the checkpoint of the index that would answer a search now.
    pub(super) async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let indices = &self.cx.indices;
        let why = match self.attempt_main().await {
            Ok(attempt) => {
                let read = self.within(indices.main.read_checkpoint()).await;
                // An engine whose checkpoint can be read need not answer searches.
                if read.is_ok() {
                    attempt.unused();
                    return read;
                }
                match indices.main.settled(attempt, read) {
                    Err(error) if is_down(&error) => error,
                    read => return read,
                }
            }
            Err(error) => error,
        };
        match &indices.fallback {
            Some(fallback) if is_down(&why) => self.within(fallback.read_checkpoint()).await.map_err(|_| why),
            _ => Err(why),
        }
    }

    /// Makes sure that searches which begin from now on are answered by indices that have applied this position.
    pub(super) fn promise(&self, position: OutboxPosition) {
        let mut promised = self.cx.indices.promised.lock();
        *promised = position.max(*promised);
    }

    /// Returns an attempt to ask the main engine.
    ///
    /// # Errors
    /// `Unavailable` while the engine rests, or while its index is behind.
    async fn attempt_main(&self) -> Result<Attempt<'a>> {
        let indices = &self.cx.indices;
        let main = &indices.main;
        let attempt = main.circuit.attempt().map_err(|resting| Error::unavailable(Dependency::Search, resting))?;
        let Some(fallback) = &indices.fallback else { return Ok(attempt) };
        let mut least = *indices.promised.lock();
        if attempt.is_trial() {
            let here = self.within(fallback.checkpoint(self.cx.config.poll_interval)).await.ok().flatten();
            least = here.map_or(least, |here| least.max(here.position));
        }
        if !attempt.is_trial() && (least == OutboxPosition::default() || main.state.position() >= Some(least)) {
            return Ok(attempt);
        }
        let is_level = self.within(async { self.is_level(main.read_checkpoint().await?, least).await }).await;
        match is_level {
            Ok(true) => Ok(attempt),
            Ok(false) => {
                attempt.too_early();
                self.forget_promises().await;
                Err(Error::unavailable(Dependency::Search, Unusable::Behind))
            }
            Err(error) => main.settled(attempt, Err(error)),
        }
    }

    /// Returns whether an index belongs to the database and has applied this position.
    async fn is_level(&self, at: Option<Checkpoint>, least: OutboxPosition) -> Result<bool> {
        Ok(match at {
            Some(at) if at.language != self.cx.config.search_language => false,
            Some(at) => at.position >= least && at.database == self.cx.database().await?,
            None => false,
        })
    }

    /// Forgets the position for which a caller has waited if the log does not reach it any more, as after the restore
    /// of a backup. Otherwise, no index would ever be there.
    async fn forget_promises(&self) {
        let read = async { self.cx.storage.connect().await?.outbox().head().await };
        if let Ok(head) = read.await {
            let mut promised = self.cx.indices.promised.lock();
            if *promised > head {
                *promised = OutboxPosition::default();
            }
        }
    }

    /// Returns the answer of an engine, or `Unavailable` if it does not come within the time limit.
    async fn within<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(self.cx.config.search_timeout, answer).await;
        answer.unwrap_or_else(|_| Err(Error::unavailable(Dependency::Search, Unusable::TooSlow)))
    }
}
