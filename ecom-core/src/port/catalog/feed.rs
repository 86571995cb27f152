//! Feeds: the sources that a shop polls, and the repository of their states.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;

use crate::domain::catalog::feed::{FeedState, FeedVersion};
use crate::error::{BoxError, Result};
use crate::id::FeedId;
use crate::stream::reader_of;

port! {
    /// The states of feeds. The domain decides how a state changes; the repository stores it.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait FeedRepository / ForwardFeeds(&mut self): Send {
        /// Inserts the state of a feed that was never polled.
        ///
        /// # Errors
        /// `DUPLICATE` on `name` if the feed has a state already.
        async fn insert(&mut self, state: &FeedState) -> Result<()>;

        /// Returns the state of a feed.
        async fn get(&mut self, id: FeedId) -> Result<Option<FeedState>>;

        /// Locks the state of a feed until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: FeedId) -> Result<Option<FeedState>>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row has another version than `before`, `NotFound` if it does not exist.
        async fn update(&mut self, before: &FeedState, after: &FeedState) -> Result<()>;

        /// Returns the states of these feeds, in any order, without those that were never polled. One
        /// statement for each 30,000 feeds.
        async fn get_many(&mut self, ids: &[FeedId]) -> Result<Vec<FeedState>>;
    }
}

/// Why a source could not be read. As the error within an [`io::Error`] of the content, it is the reason for which the
/// import ends early. The text is shown to operators, so it contains no secret and no address with one.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FeedError {
    /// A description of the failure, which says what to do if somebody can do something.
    pub message: String,
    /// How long the source wants not to be asked again.
    pub retry_after: Option<Duration>,
    /// The error behind it, which is logged and not shown.
    #[source]
    pub source: Option<BoxError>,
}

impl FeedError {
    /// Returns an error with a description.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None, source: None }
    }

    /// Adds the error behind it.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds how long the source wants not to be asked again.
    #[must_use]
    pub fn retry_after(mut self, pause: Option<Duration>) -> Self {
        self.retry_after = pause;
        self
    }
}

port! {
    /// A source that a shop imports again and again, in any format that an import reads. `ecom-ingest` has adapters for
    /// files, URLs and the paged API of DummyJSON.
    ///
    /// Calls come from one process at a time, and each is repeated after an error. A call that is dropped has no
    /// effect.
    pub trait ImportFeed / ForwardFeed(&self): Send + Sync + fmt::Debug {
        /// Returns where the source is, for operators: without passwords, and without the query of a URL, which may
        /// contain a secret.
        fn location(&self) -> String;

        /// Returns everything that decides which source it is, such as the whole URL. The shop stores only a hash of
        /// it; if the hash changes, the versions that it knows count no more.
        fn identity(&self) -> String;

        /// Returns the source if it differs from the version that was imported last, which is `None` if nothing was.
        /// The call ends within a time limit of the adapter.
        ///
        /// # Errors
        /// A [`FeedError`] if the source cannot be read. The shop asks again after a pause that grows.
        async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError>;
    }
}

/// The answer of an [`ImportFeed`].
#[derive(Debug)]
pub enum Fetched {
    /// The source is the version that was imported last.
    Unchanged,
    /// The source has changed, or nobody knows whether it has.
    Changed(FeedContent),
}

/// The content of a source, read while it is imported.
#[must_use]
pub struct FeedContent {
    pub(crate) version: Option<FeedVersion>,
    pub(crate) reader: Box<dyn Read + Send>,
    /// What must run while the reader is read.
    pub(crate) pump: Option<BoxFuture<'static, ()>>,
}

impl FeedContent {
    /// Returns content that a thread reads, which may block. `version` is `None` if the source has no versions: it is
    /// then imported at every poll.
    pub fn from_reader(version: Option<FeedVersion>, reader: impl Read + Send + 'static) -> Self {
        Self { version, reader: Box::new(reader), pump: None }
    }

    /// Returns content that arrives as a stream, of which parts come at most `patience` after each other. A stream
    /// that fails or takes longer breaks the import off at that place.
    pub fn from_stream<S>(version: Option<FeedVersion>, stream: S, patience: Duration) -> Self
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    {
        let (reader, pump) = reader_of(stream, patience);
        Self { version, reader: Box::new(reader), pump: Some(Box::pin(pump.run())) }
    }

    /// Returns the version of the source.
    pub fn version(&self) -> Option<&FeedVersion> {
        self.version.as_ref()
    }

    /// Returns the reader of the content and, for a stream, the future that must run while it is read.
    pub fn into_parts(self) -> (Box<dyn Read + Send>, Option<BoxFuture<'static, ()>>) {
        (self.reader, self.pump)
    }
}

impl fmt::Debug for FeedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedContent").field("version", &self.version).finish_non_exhaustive()
    }
}
