//! Content that is written to a temporary file before anybody knows whether it is new.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};

use ecom_core::port::FeedError;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// Receives content, and hashes it.
pub(crate) struct Spool {
    file: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
    limit: u64,
}

fn failed(error: std::io::Error) -> FeedError {
    let message = "the source cannot be kept in a temporary file; check the space in the directory of TMPDIR";
    FeedError::new(message).source(error)
}

/// Returns the error for a source that is too large.
pub(crate) fn too_large(limit: u64) -> FeedError {
    FeedError::new(format!("the source is larger than its limit of {limit} bytes (`max_bytes`)"))
}

impl Spool {
    /// Returns an empty file, which has no name and disappears when it is closed.
    pub fn new(limit: u64) -> Result<Self, FeedError> {
        let file = tokio::fs::File::from_std(tempfile::tempfile().map_err(failed)?);
        Ok(Self { file, hash: Sha256::new(), bytes: 0, limit })
    }

    pub async fn write(&mut self, part: &[u8]) -> Result<(), FeedError> {
        self.bytes += part.len() as u64;
        if self.bytes > self.limit {
            return Err(too_large(self.limit));
        }
        self.hash.update(part);
        self.file.write_all(part).await.map_err(failed)
    }

    /// Returns the file from its beginning, and the hash of the content.
    pub async fn end(mut self) -> Result<(File, String), FeedError> {
        self.file.flush().await.map_err(failed)?;
        let mut file = self.file.into_std().await;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let hash = self.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok((file, hash))
    }
}
