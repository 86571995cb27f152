//! The body of a request as a source of records, read while it arrives.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

/// How many parts of a body may wait for the thread that reads them.
const PARTS: usize = 8;

/// A part of a body, or its end.
enum Part {
    Data(Bytes),
    End,
    Failed(ErrorKind),
}

/// Reads a body on a thread that may block. A body of which the client does not send the end, or of which no part
/// arrives in time, is an error at the place where it breaks off.
pub(crate) struct BodyReader {
    from: mpsc::Receiver<Part>,
    current: Bytes,
    has_ended: bool,
}

/// Receives a body and passes it on to its reader.
pub(crate) struct BodyPump {
    to: mpsc::Sender<Part>,
    body: Body,
    /// The longest time between two parts.
    patience: Duration,
}

/// Returns a reader of a body, and the pump that must run meanwhile. `patience` is the longest time between two parts.
pub(crate) fn body_reader(body: Body, patience: Duration) -> (BodyReader, BodyPump) {
    let (to, from) = mpsc::channel(PARTS);
    (BodyReader { from, current: Bytes::new(), has_ended: false }, BodyPump { to, body, patience })
}

impl BodyPump {
    /// Passes on the body until its end, or until nobody reads it any more. It then drops the rest of the body, which
    /// the server drains or cuts off.
    pub async fn run(mut self) {
        loop {
            let part = match tokio::time::timeout(self.patience, self.body.frame()).await {
                Ok(None) => Part::End,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => Part::Data(data),
                    // Trailers have no meaning here.
                    Err(_) => continue,
                },
                Ok(Some(Err(_))) => Part::Failed(ErrorKind::UnexpectedEof),
                Err(_) => Part::Failed(ErrorKind::TimedOut),
            };
            let last = !matches!(part, Part::Data(_));
            if self.to.send(part).await.is_err() || last {
                return;
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            match self.from.blocking_recv() {
                Some(Part::Data(data)) => self.current = data,
                Some(Part::End) => self.has_ended = true,
                Some(Part::Failed(kind)) => return Err(kind.into()),
                // The request was given up.
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        let n = self.current.len().min(to.len());
        let part = self.current.split_to(n);
        to.get_mut(..n).unwrap_or_default().copy_from_slice(&part);
        Ok(n)
    }
}
