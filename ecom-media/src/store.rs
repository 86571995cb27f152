//! The store of image files.

use std::fmt;
use std::fs::DirBuilder;
use std::path::{Path as Directory, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ecom_core::catalog::MediaFile;
use ecom_core::port::MediaStore;
use ecom_core::{Dependency, Error, FieldCode, Result};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, PutOptions};

/// The field of errors.
const FIELD: &str = "media";
/// How browsers and CDNs may keep files that they read from the bucket itself.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A store of image files over the crate `object_store`: `file:///<directory>`, and with the feature `s3` also
/// `s3://<bucket>`.
///
/// In a directory, a file appears with its whole content, and is on the disk when the call returns. All processes of a
/// shop must see the same directory. On S3, an object has its media type and may be cached for ever, so that a CDN can
/// serve the bucket. The key needs `s3:GetObject`, `s3:PutObject`, and `s3:ListBucket`, without which S3 refuses reads
/// of absent objects.
#[derive(Clone)]
pub struct ObjectMediaStore {
    name: &'static str,
    store: Arc<dyn ObjectStore>,
    /// The place of all files in the store.
    prefix: Path,
    /// Whether files have a media type.
    has_attributes: bool,
}

impl ObjectMediaStore {
    /// Opens the store of a URL, which is percent-decoded. `file:///<directory>` is a directory, which is created if it
    /// does not exist. With the feature `s3`, `s3://<key id>:<secret>@<bucket>/<prefix>` is a bucket. The prefix can be
    /// left out, and so can the key if the process runs on an instance of AWS, which provides one. The parameters of an
    /// `s3` URL are:
    ///
    /// | Parameter | Default | Meaning |
    /// |---|---|---|
    /// | `region` | `us-east-1` | the region of the bucket |
    /// | `endpoint` | that of AWS | the URL of another server, such as `http://127.0.0.1:9000` for one on this machine |
    ///
    /// # Errors
    /// `Validation` on `media` if the URL is malformed, or if the directory cannot be created or is not one. No message
    /// shows the URL.
    pub fn open(url: &str) -> Result<Self> {
        #[cfg(feature = "s3")]
        if url.starts_with("s3:") {
            let (store, prefix) = crate::s3::open(url)?;
            return Ok(Self { name: "s3", store: Arc::new(store), prefix, has_attributes: true });
        }
        Self::directory(&directory_of(url)?)
    }

    /// Checks a URL without opening anything.
    ///
    /// # Errors
    /// `Validation` on `media` if the URL is malformed.
    pub fn check(url: &str) -> Result<()> {
        #[cfg(feature = "s3")]
        if url.starts_with("s3:") {
            return crate::s3::open(url).map(drop);
        }
        directory_of(url).map(drop)
    }

    /// Opens a directory, and creates it if it does not exist.
    ///
    /// # Errors
    /// `Validation` on `media` if the directory cannot be created or is not one.
    pub fn directory(directory: &Directory) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory).map_err(|e| {
            let message = format!("must be a directory that exists or can be created ({})", e.kind());
            Error::invalid(FIELD, FieldCode::OutOfBounds, message)
        })?;
        let store = LocalFileSystem::new_with_prefix(directory);
        let store = store.map_err(|e| Error::internal("opening the directory of images", e))?.with_fsync(true);
        Ok(Self { name: "file", store: Arc::new(store), prefix: Path::default(), has_attributes: false })
    }

    /// Returns an empty store in the memory of this process, for tests.
    pub fn in_memory() -> Self {
        Self { name: "memory", store: Arc::new(InMemory::new()), prefix: Path::default(), has_attributes: true }
    }

    fn place(&self, file: &MediaFile) -> Path {
        let (prefix, name) = (self.prefix.as_ref(), file.to_string());
        if prefix.is_empty() { Path::from(name) } else { Path::from(format!("{prefix}/{name}")) }
    }
}

impl fmt::Debug for ObjectMediaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store itself may hold a secret.
        f.debug_struct("ObjectMediaStore").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the directory of a `file` URL, percent-decoded.
fn directory_of(url: &str) -> Result<PathBuf> {
    let bad = |message| Error::invalid(FIELD, FieldCode::Malformed, message);
    let path = url.strip_prefix("file://").ok_or_else(|| bad("must start with `file://`"))?;
    if path.is_empty() || path.contains(['?', '#']) {
        return Err(bad("must name a directory, such as `file:///var/lib/shop/media`, and nothing else"));
    }
    let path = percent_encoding::percent_decode_str(path).decode_utf8();
    let path = path.map_err(|_| bad("must name a directory in UTF-8"))?;
    Ok(PathBuf::from(&*path))
}

/// Returns the error of a call that the store has not answered as expected.
fn unavailable(error: object_store::Error) -> Error {
    Error::unavailable(Dependency::Media, error)
}

#[async_trait]
impl MediaStore for ObjectMediaStore {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn put(&self, file: &MediaFile, content: Bytes) -> Result<()> {
        let mut options = PutOptions::default();
        if self.has_attributes {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::ContentType, file.format().content_type().into());
            attributes.insert(Attribute::CacheControl, FOR_EVER.into());
            options.attributes = attributes;
        }
        self.store.put_opts(&self.place(file), content.into(), options).await.map(drop).map_err(unavailable)
    }

    async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        match self.store.get_opts(&self.place(file), GetOptions::default()).await {
            Ok(found) => found.bytes().await.map(Some).map_err(unavailable),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn ping(&self) -> Result<()> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        // Below the prefix, because a key may be for these objects only.
        match self.store.get_opts(&self.prefix.clone().join("ping"), options).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn close(&self) {}
}
