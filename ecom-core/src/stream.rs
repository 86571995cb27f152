//! Bytes that arrive over time, such as the body of a request, as a reader for a thread that may block.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How many parts of a stream may wait for the thread that reads them.
const PARTS: usize = 8;
/// The least bytes per second that a sender must send, on average over the patience of the reader. A sender that
/// trickles would otherwise never end.
const LEAST_RATE: u64 = 100;

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
/// part does not arrive in time, or if the sender sends less than 100 bytes per second over that time, and
/// [`ErrorKind::UnexpectedEof`] if the [`StreamPump`] is dropped before the end.
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
        let mut pace = Pace::new(self.patience);
        loop {
            let asked = Instant::now();
            let part = match tokio::time::timeout(self.patience, self.stream.next()).await {
                Ok(None) => Part::End,
                Ok(Some(Ok(data))) if pace.keeps_up(data.len() as u64, asked.elapsed()) => Part::Data(data),
                Ok(Some(Ok(_))) | Err(_) => Part::Failed(ErrorKind::TimedOut.into()),
                Ok(Some(Err(error))) => Part::Failed(error),
            };
            let last = !matches!(part, Part::Data(_));
            if self.to.send(part).await.is_err() || last {
                return;
            }
        }
    }
}

/// How fast a sender sends.
struct Pace {
    patience: Duration,
    /// The bytes that have arrived, and the time that the pump has waited for them. The time of a slow reader does not
    /// count.
    arrived: u64,
    waited: Duration,
    is_too_slow: bool,
}

impl Pace {
    const fn new(patience: Duration) -> Self {
        Self { patience, arrived: 0, waited: Duration::ZERO, is_too_slow: false }
    }

    /// Adds a part, and returns false if the sender was too slow before it, over a period of patience. So the last part
    /// of a short stream may be late.
    fn keeps_up(&mut self, bytes: u64, waited: Duration) -> bool {
        if self.is_too_slow {
            return false;
        }
        self.arrived += bytes;
        self.waited += waited;
        if self.waited < self.patience {
            return true;
        }
        let least = self.patience.as_secs().saturating_mul(LEAST_RATE);
        *self = Self { is_too_slow: self.arrived < least, ..Self::new(self.patience) };
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_trickles_is_given_up() {
        let second = Duration::from_secs(1);
        let given_up_after = |bytes| {
            let mut pace = Pace::new(30 * second);
            (1..=1_000).find(|_| !pace.keeps_up(bytes, second))
        };
        assert_eq!(given_up_after(1), Some(31));
        assert_eq!(given_up_after(99), Some(31));
        assert_eq!(given_up_after(100), None);
        // Each period counts for itself.
        let mut pace = Pace::new(30 * second);
        assert!(pace.keeps_up(1_000_000, 30 * second));
        assert!(pace.keeps_up(1, 30 * second), "it may be the last part");
        assert!(!pace.keeps_up(1_000_000, second));
    }
}
