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
        let least = self.patience.as_secs().saturating_mul(LEAST_RATE);
        // What has arrived, and how long this has waited for it. The time of a slow reader does not count.
        let (mut arrived, mut waited) = (0, Duration::ZERO);
        loop {
            let asked = Instant::now();
            let part = match tokio::time::timeout(self.patience, self.stream.next()).await {
                Ok(None) => Part::End,
                Ok(Some(Ok(data))) => {
                    arrived += data.len() as u64;
                    waited += asked.elapsed();
                    let is_over = waited >= self.patience;
                    if is_over && arrived < least {
                        Part::Failed(ErrorKind::TimedOut.into())
                    } else {
                        if is_over {
                            (arrived, waited) = (0, Duration::ZERO);
                        }
                        Part::Data(data)
                    }
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Returns what a reader gets from a sender that sends a part of some bytes each second.
    async fn read(parts: u64, bytes: usize, reader_pause: Duration) -> (u64, io::Result<()>) {
        let stream = futures::stream::unfold(0, move |n| async move {
            if n == parts {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok(Bytes::from(vec![b'x'; bytes])), n + 1))
        });
        let (mut reader, pump) = reader_of(Box::pin(stream), PATIENCE);
        let receive = async {
            let mut read = 0;
            loop {
                tokio::time::sleep(reader_pause).await;
                match reader.from.recv().await {
                    Some(Part::Data(data)) => read += data.len() as u64,
                    Some(Part::End) => return (read, Ok(())),
                    Some(Part::Failed(error)) => return (read, Err(error)),
                    None => return (read, Err(ErrorKind::UnexpectedEof.into())),
                }
            }
        };
        tokio::join!(pump.run(), receive).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_trickles_is_given_up_and_a_slow_reader_is_waited_for() {
        let (read_slowly, end) = read(1_000, 1, Duration::ZERO).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(read_slowly, 29, "the first 30 seconds show that it trickles");
        assert!(matches!(read(1_000, 100, Duration::ZERO).await, (100_000, Ok(()))));
        assert!(matches!(read(100, 200, Duration::from_secs(60)).await, (20_000, Ok(()))));
    }
}
