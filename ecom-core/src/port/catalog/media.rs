//! The store of image files, and the processor that makes these files from uploads.

use std::fmt;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::domain::catalog::media::{MediaFile, ProcessedImage, StoredFile};
use crate::error::Result;

port! {
    /// A store of image files. An implementation runs `ecom_core::media_store_suite!` (feature `testkit`).
    ///
    /// The content of a file never changes, so a call that stores it again only changes the time at which it was
    /// stored. Some files are empty, because they mark images. Calls may come from several tasks and processes at once.
    /// Each method can fail with `Unavailable`.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait MediaStore / ForwardMediaStore(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages: `file`, `s3` …
        fn name(&self) -> &'static str;

        /// Stores a file. When the call returns, the file is durable, and every process can read it. A reader sees the
        /// whole file or none. A call that is dropped may or may not have stored the file.
        async fn put(&self, file: &MediaFile, content: Bytes) -> Result<()>;

        /// Returns the content of a file, or `None` if there is no such file.
        async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>>;

        /// Returns at most `limit` files whose names come after that of `after`, in the order of the names, each with
        /// the time at which it was stored last. Only the last page has fewer than `limit` files. A file that is stored
        /// or removed during the walk may or may not be in it. Objects that are not files of this store are left out.
        async fn list(&self, after: Option<MediaFile>, limit: usize) -> Result<Vec<StoredFile>>;

        /// Removes a file, unless it was stored at `before` or later. Returns whether the file was there and is removed
        /// now.
        async fn remove(&self, file: &MediaFile, before: Timestamp) -> Result<bool>;

        /// Checks that the store responds, and that its directory or bucket exists.
        async fn ping(&self) -> Result<()>;

        /// Ends connections and background work.
        async fn close(&self);
    }
}

/// The processor of images, which an application can replace. It does no I/O.
pub trait ImageProcessor: Send + Sync + fmt::Debug {
    /// Makes the files of an image from the bytes of an upload, which can be hostile. An implementation detects the
    /// format by the content, limits the number of pixels before it decodes them, rotates the image by its metadata,
    /// removes the metadata, and limits the size of the files that it makes. The same bytes make the same files. The
    /// call blocks, so the shop makes it on a blocking thread.
    ///
    /// # Errors
    /// `Validation` on `image` if the bytes are not an image of a supported format, or exceed a limit.
    fn process(&self, content: &[u8]) -> Result<ProcessedImage>;
}
