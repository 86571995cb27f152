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

/// The error of a source that could not be read. A reader of the content returns it inside an [`io::Error`], and its
/// message is then the reason for which the import ends early. Operators see the message, so it must contain no secret
/// and no URL with a secret.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FeedError {
    /// The message, with a remedy if there is one.
    pub message: String,
    /// The time for which the source asks not to be called again. The shop waits for at most a day.
    pub retry_after: Option<Duration>,
    /// The cause, which is logged and not shown.
    #[source]
    pub source: Option<BoxError>,
}

impl FeedError {
    /// Returns an error with a description.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry_after: None, source: None }
    }

    /// Sets the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the time for which the source asks not to be called again.
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

        /// Returns a text that identifies the source, such as the whole URL. The shop stores only a hash of it. If the
        /// hash changes, the shop ignores the versions that it has stored, and imports the source again.
        fn identity(&self) -> String;

        /// Returns the content of the source, unless it still has the version `known`, which was imported last. `known`
        /// is `None` before the first complete import. An adapter should limit the time of this call, because the feed
        /// is not polled again before it returns.
        ///
        /// # Errors
        /// A [`FeedError`] if the source cannot be read. The shop calls again after a pause that grows.
        async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError>;
    }
}

/// The answer of an [`ImportFeed`].
#[derive(Debug)]
pub enum Fetched {
    /// The source is the version that was imported last.
    Unchanged,
    /// The source has changed, or has no version by which the adapter could tell.
    Changed(FeedContent),
}

/// The content of a source, read while it is imported.
#[must_use]
pub struct FeedContent {
    pub(crate) version: Option<FeedVersion>,
    pub(crate) reader: Box<dyn Read + Send>,
    /// Passes the content on to the reader, and must run while a thread reads it.
    pub(crate) pump: Option<BoxFuture<'static, ()>>,
}

impl FeedContent {
    /// Returns content that a thread reads, which may block. `version` is `None` if the source has no versions: it is
    /// then imported at every poll.
    pub fn from_reader(version: Option<FeedVersion>, reader: impl Read + Send + 'static) -> Self {
        Self { version, reader: Box::new(reader), pump: None }
    }

    /// Returns content that arrives as a stream. `patience` is the longest time between two parts. If the stream fails
    /// or takes longer, the import ends early there.
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

    /// Returns the reader of the content, for a thread that may block, and, for a stream, the future that must run
    /// while the content is read.
    pub fn into_parts(self) -> (Box<dyn Read + Send>, Option<BoxFuture<'static, ()>>) {
        (self.reader, self.pump)
    }
}

impl fmt::Debug for FeedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedContent").field("version", &self.version).finish_non_exhaustive()
    }
}
