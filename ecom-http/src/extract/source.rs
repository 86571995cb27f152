//! The body of a request as a source of records, read while it arrives.

use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use ecom_core::stream::{StreamPump, StreamReader, reader_of};
use futures::{Stream, TryStreamExt as _};

/// Returns a reader of a body, and the pump that must run meanwhile. `patience` is the longest time between two parts.
/// If the client does not send the whole body, the reader returns an error at the end of what has arrived.
pub(crate) fn body_reader(
    body: Body,
    patience: Duration,
) -> (StreamReader, StreamPump<impl Stream<Item = io::Result<Bytes>> + Send + Unpin>) {
    reader_of(body.into_data_stream().map_err(|_| ErrorKind::UnexpectedEof.into()), patience)
}
