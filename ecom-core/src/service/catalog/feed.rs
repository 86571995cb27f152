//! Feeds: sources that the background work of a shop imports again and again, so that the shop stays in step with them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::feed::FeedState;
use crate::domain::platform::idempotency::RequestHash;
use crate::error::{Entity, Error, FieldCode, Result, ValidationErrors};
use crate::port::catalog::feed::ImportFeed;
use crate::port::storage::Repositories as _;
use crate::service::catalog::import::{ImportKind, ImportOptions};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// Makes the options of a run.
type MakeOptions = dyn Fn() -> ImportOptions + Send + Sync;

/// A source with the settings of its imports, which a shop polls.
///
/// ```
/// # fn app(source: std::sync::Arc<dyn ecom_core::port::ImportFeed>) {
/// use std::time::Duration;
///
/// use ecom_core::catalog::{Feed, ImportKind, ImportOptions};
///
/// let feed = Feed::new("erp", ImportKind::Products, source)
///     .every(Duration::from_secs(300))
///     .options(|| ImportOptions::default().source("erp").batch(500));
/// # }
/// ```
#[derive(Clone)]
pub struct Feed {
    name: Arc<str>,
    kind: ImportKind,
    source: Arc<dyn ImportFeed>,
    every: Duration,
    options: Arc<MakeOptions>,
}

impl Feed {
    /// The interval of a feed that sets none: 5 minutes.
    pub const EVERY: Duration = Duration::from_secs(300);

    /// Returns a feed of records of a kind, with default options. The name is 1 to 64 of `a`–`z`, `0`–`9`, `-` and `_`.
    /// It identifies the feed in all processes: a feed with another name is another feed, which imports the source
    /// again.
    pub fn new(name: &str, kind: ImportKind, source: Arc<dyn ImportFeed>) -> Self {
        Self { name: name.into(), kind, source, every: Self::EVERY, options: Arc::new(ImportOptions::default) }
    }

    /// Sets the time from the end of a poll to the next one: 1 second to 30 days, which [`Self::check_all`] checks.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Sets the function that makes the options of each run. The name of the feed replaces a missing
    /// [`ImportOptions::file`], and the position of an unfinished run replaces [`ImportOptions::skip`]. If `source`,
    /// `format` or `create_categories` differ from those of the last run, the source is imported again although it has
    /// not changed. The shop cannot see a change of a [`Transform`](super::import::Transform).
    pub fn options(mut self, make: impl Fn() -> ImportOptions + Send + Sync + 'static) -> Self {
        self.options = Arc::new(make);
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the kind of the records.
    pub const fn kind(&self) -> ImportKind {
        self.kind
    }

    /// Returns the time from the end of a poll to the next one.
    pub const fn interval(&self) -> Duration {
        self.every
    }

    /// Returns the source.
    pub fn source(&self) -> &dyn ImportFeed {
        &*self.source
    }

    pub(crate) fn make_options(&self) -> ImportOptions {
        let options = (self.options)();
        if options.file.is_none() { options.file(self.name.to_string()) } else { options }
    }

    /// Returns the hash of the settings that versions belong to.
    pub(crate) fn settings(&self) -> Vec<u8> {
        let ImportOptions { source, format, create_categories, dry_run, .. } = (self.options)();
        let settings = format!("{source:?} {format:?} {create_categories} {dry_run}");
        let parts = [self.kind.as_str(), &self.source.identity(), &settings];
        RequestHash::of(parts.map(str::as_bytes)).as_bytes().to_vec()
    }

    /// Returns the principal of the imports.
    pub(crate) fn principal(&self) -> Principal {
        let kind = ImportOptions::permission(self.kind);
        Principal::new(format!("feed:{}", self.name), [Permission::ImportRun, Permission::CategoriesWrite, kind])
    }

    /// Checks the settings of all feeds of a shop.
    ///
    /// # Errors
    /// `Validation` on fields `feeds…` if a name is malformed or used by two feeds, or if an interval or an option is
    /// out of bounds.
    pub fn check_all(feeds: &[Self]) -> Result<()> {
        let mut errors = ValidationErrors::default();
        for (n, feed) in feeds.iter().enumerate() {
            let name = feed.name();
            let field = |field: &str| format!("feeds.{name}.{field}");
            errors.check_name(format!("feeds[{n}].name"), name);
            if feeds.iter().take(n).any(|other| other.name() == name) {
                let message = "must not be the name of another feed";
                errors.push(field("name"), FieldCode::Inconsistent, message);
            }
            if !(1..=30 * 86_400).contains(&feed.every.as_secs()) {
                errors.out_of_bounds(field("interval"), "must be between 1 second and 30 days");
            }
            match (feed.options)().check(feed.kind) {
                Err(Error::Validation(of_options)) => {
                    errors.0.extend(of_options.0.into_iter().map(|mut e| {
                        e.field = field(&e.field);
                        e
                    }));
                }
                other => other?,
            }
        }
        errors.into_result()
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, source, every, .. } = self;
        f.debug_struct("Feed")
            .field("name", name)
            .field("kind", kind)
            .field("source", &source.location())
            .field("every", every)
            .finish_non_exhaustive()
    }
}

/// A feed of this process and its state.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FeedStatus {
    /// The feed.
    pub feed: Feed,
    /// The state. A feed that was never polled has the state of a new feed, which is due.
    pub state: FeedState,
}

/// The service of the feeds that a shop polls. The background work of the shop polls them
/// ([`Shop::start`](crate::Shop::start)), in one process at a time.
///
/// A poll asks the source whether it has changed. If it has, it is imported, and each import is a job. The version of
/// the source counts as known once its import has reached the end, so that a process which dies in the middle leads to
/// another import, which continues where the first one has stopped if the source is still the same. After a failure,
/// the pauses grow from 30 seconds to an hour, or to the interval of the feed if that is longer.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
#[derive(Debug, Clone, Copy)]
pub struct FeedService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> FeedService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns the feeds of this process in the order in which they were registered. The permission is `jobs:read`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self) -> Result<Vec<FeedStatus>> {
        self.who.require(Permission::JobsRead)?;
        let feeds = &self.cx.feeds;
        if feeds.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = feeds.iter().map(|feed| FeedState::id_of(feed.name())).collect();
        let states = self.cx.storage.connect().await?.feeds().get_many(&ids).await?;
        let state_of = |feed: &Feed| states.iter().find(|state| state.name == feed.name()).cloned();
        Ok(feeds.iter().map(|feed| self.status(feed, state_of(feed))).collect())
    }

    /// Returns a feed of this process. The permission is `jobs:read`.
    ///
    /// # Errors
    /// `NotFound` if this process has no feed of this name, `Unavailable`.
    pub async fn get(&self, name: &str) -> Result<FeedStatus> {
        self.who.require(Permission::JobsRead)?;
        let feed = self.find(name)?;
        let state = self.cx.storage.connect().await?.feeds().get(FeedState::id_of(name)).await?;
        Ok(self.status(feed, state))
    }

    fn status(&self, feed: &Feed, state: Option<FeedState>) -> FeedStatus {
        let new = || FeedState::new(feed.name(), self.cx.now(), self.who.actor());
        FeedStatus { feed: feed.clone(), state: state.unwrap_or_else(new) }
    }

    /// Makes a feed of this process due, so that the background work polls it within about a second. If a poll or an
    /// import of the feed is running, in any process, the feed is polled once more after its end. The permission is
    /// `import:run`.
    ///
    /// # Errors
    /// `NotFound` if this process has no feed of this name, `Unavailable`.
    pub async fn poll(&self, name: &str) -> Result<FeedStatus> {
        self.who.require(Permission::ImportRun)?;
        self.find(name)?;
        self.cx.write(|mut tx| async move { Ok((self.poll_in(&mut tx, name).await?, tx)) }).await
    }

    /// [`Self::poll`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub async fn poll_in(&self, tx: &mut Tx<'_>, name: &str) -> Result<FeedStatus> {
        self.who.require(Permission::ImportRun)?;
        let feed = self.find(name)?.clone();
        tx.started();
        let (now, by) = (self.cx.now(), self.who.actor());
        let found = tx.feeds().lock(FeedState::id_of(name)).await?;
        let state = match found {
            Some(before) => {
                let after = before.requested(now, by);
                tx.feeds().update(&before, &after).await?;
                after
            }
            None => {
                let new = FeedState::new(name, now, by);
                let inserted = tx.feeds().insert(&new).await;
                // Another transaction has inserted it meanwhile, which the next try finds.
                tx.or_next_name(inserted, |field| field == "name")?;
                new
            }
        };
        tx.ended(Ok(FeedStatus { feed, state }))
    }

    fn find(&self, name: &str) -> Result<&'a Feed> {
        let found = self.cx.feeds.iter().find(|feed| feed.name() == name);
        found.ok_or_else(|| Error::not_found(Entity::Feed, name.chars().take(64).collect::<String>()))
    }
}
