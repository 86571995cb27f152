//! Bytes that arrive over time, such as the body of a request, as a reader for a thread that may block.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

/// How many parts of a stream may wait for the thread that reads them.
const PARTS: usize = 8;

/// A part of a stream, or its end.
enum Part {
    Data(Bytes),
    End,
    Failed(io::Error),
}

/// Reads a stream on a thread that may block. [`Read::read`] panics if it is called from asynchronous code; use
/// `tokio::task::spawn_blocking`.
///
/// If the stream fails, `read` returns its error after the parts before it. It returns [`ErrorKind::TimedOut`] if a
/// part does not arrive in time, and [`ErrorKind::UnexpectedEof`] if the [`StreamPump`] is dropped before the end.
pub struct StreamReader {
    from: mpsc::Receiver<Part>,
    current: Bytes,
    has_ended: bool,
}

/// Receives a stream and passes it on to its [`StreamReader`].
pub struct StreamPump<S> {
    to: mpsc::Sender<Part>,
    stream: S,
    /// The longest time between two parts.
    patience: Duration,
}

/// Returns a reader of a stream, and the pump that must run meanwhile. At most eight parts wait for the reader, so that
/// a slow reader slows the sender down. `patience` is the longest time between two parts.
pub fn reader_of<S>(stream: S, patience: Duration) -> (StreamReader, StreamPump<S>)
where
    S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
{
    let (to, from) = mpsc::channel(PARTS);
    (StreamReader { from, current: Bytes::new(), has_ended: false }, StreamPump { to, stream, patience })
}

impl<S: Stream<Item = io::Result<Bytes>> + Send + Unpin> StreamPump<S> {
    /// Passes on the stream until its end, or until nobody reads it any more. It then drops the rest of the stream.
    pub async fn run(mut self) {
        loop {
            let part = match tokio::time::timeout(self.patience, self.stream.next()).await {
                Ok(None) => Part::End,
                Ok(Some(Ok(data))) => Part::Data(data),
                Ok(Some(Err(error))) => Part::Failed(error),
                Err(_) => Part::Failed(ErrorKind::TimedOut.into()),
            };
            let last = !matches!(part, Part::Data(_));
            if self.to.send(part).await.is_err() || last {
                return;
            }
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            match self.from.blocking_recv() {
                Some(Part::Data(data)) => self.current = data,
                Some(Part::End) => self.has_ended = true,
                Some(Part::Failed(error)) => return Err(error),
                // The stream was given up.
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        let n = self.current.len().min(to.len());
        let part = self.current.split_to(n);
        to.get_mut(..n).unwrap_or_default().copy_from_slice(&part);
        Ok(n)
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for StreamPump<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamPump").field("patience", &self.patience).finish_non_exhaustive()
    }
}
