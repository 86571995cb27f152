//! The store of image files.

use std::fmt;
use std::fs::{DirBuilder, read_dir};
use std::io;
use std::path::{Path as Directory, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ecom_core::catalog::{ImageFormat, MediaFile, StoredFile};
use ecom_core::clock::Timestamp;
use ecom_core::port::MediaStore;
use ecom_core::{BoxError, Dependency, Error, FieldCode, RefusedServer, Result};
use futures::{StreamExt as _, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, Attributes, GetOptions, ObjectStore, PutOptions};
use parking_lot::Mutex;

/// The field of errors.
const FIELD: &str = "media";
/// Why a store is refused, as health shows it.
const NO_DIRECTORY: RefusedServer =
    RefusedServer { reason: "the directory of the images does not exist: mount or restore it" };
const NO_BUCKET: RefusedServer =
    RefusedServer { reason: "the bucket does not exist (create it), or the key lacks `s3:ListBucket` (grant it)" };
/// How browsers and CDNs may keep files that they read from the bucket itself.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A store of image files over the crate `object_store`: `file:///<directory>`, and with the feature `s3` also
/// `s3://<bucket>`.
///
/// In a directory, a file appears with its whole content, and is on the disk when the call returns. All processes of a
/// shop must see the same directory. On S3, an object has its media type and may be cached for ever, so that a CDN can
/// serve the bucket. The key needs `s3:GetObject`, `s3:PutObject`, `s3:DeleteObject` to remove files, and
/// `s3:ListBucket` to list them. Without the last one, S3 also refuses reads of absent objects.
#[derive(Clone)]
pub struct ObjectMediaStore {
    name: &'static str,
    store: Arc<dyn ObjectStore>,
    /// The place of all files in the store.
    prefix: Path,
    /// Whether files have a media type.
    has_attributes: bool,
    /// The directory, if the files are in one.
    directory: Option<PathBuf>,
    /// The last walk through the directory, until it is over.
    walk: Arc<Mutex<Option<Walk>>>,
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
            let (store, walk) = (Arc::new(store), Arc::default());
            return Ok(Self { name: "s3", store, prefix, has_attributes: true, directory: None, walk });
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
        let opening = "opening the directory of images";
        // The working directory of the process may change.
        let directory = directory.canonicalize().map_err(|e| Error::internal(opening, e))?;
        let store = LocalFileSystem::new_with_prefix(&directory).map_err(|e| Error::internal(opening, e))?;
        // A removal also removes the directory of an image without files.
        let store = Arc::new(store.with_fsync(true).with_automatic_cleanup(true));
        let (prefix, directory) = (Path::default(), Some(directory));
        Ok(Self { name: "file", store, prefix, has_attributes: false, directory, walk: Arc::default() })
    }

    /// Returns an empty store in the memory of this process, for tests.
    pub fn in_memory() -> Self {
        let (store, walk) = (Arc::new(InMemory::new()), Arc::default());
        Self { name: "memory", store, prefix: Path::default(), has_attributes: true, directory: None, walk }
    }

    fn place(&self, file: &MediaFile) -> Path {
        let (prefix, name) = (self.prefix.as_ref(), file.to_string());
        if prefix.is_empty() { Path::from(name) } else { Path::from(format!("{prefix}/{name}")) }
    }

    /// Returns the file at a place, or `None` if it is not one of this store.
    fn file_at(&self, place: &Path) -> Option<MediaFile> {
        let name = place.as_ref().strip_prefix(self.prefix.as_ref())?;
        MediaFile::parse(name.strip_prefix('/').unwrap_or(name))
    }

    /// Returns the time at which the object at a place was stored, or `None` if there is none.
    async fn stored_at(&self, place: &Path) -> object_store::Result<Option<Timestamp>> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(place, options).await {
            Ok(found) => Ok(Some(found.meta.last_modified)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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
fn unavailable(error: impl Into<BoxError>) -> Error {
    Error::unavailable(Dependency::Media, error)
}

/// Runs a call that blocks.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(call).await.map_err(|e| Error::internal("reading the directory of images", e))
}

/// A walk through the files of a directory. It reads the names of all images once, because a directory has no order,
/// and the files of an image when their turn comes.
#[derive(Debug)]
struct Walk {
    /// The file after which the walk goes on.
    after: Option<MediaFile>,
    /// The digests of the images whose files it has not listed yet, or not all of them, in reverse order.
    images: Vec<[u8; 32]>,
}

impl Walk {
    /// Begins a walk after a file.
    fn begin(directory: &Directory, after: Option<MediaFile>) -> io::Result<Self> {
        let mut images = Vec::new();
        for name in names_in(directory)? {
            // Other directories are skipped. A `lost+found`, for example, can be read by root only.
            let image = MediaFile::parse(&format!("{name}/1.jpg")).map(|file| file.digest());
            images.extend(image.filter(|image| after.is_none_or(|file| *image >= file.digest())));
        }
        images.sort_unstable();
        images.reverse();
        Ok(Self { after, images })
    }

    /// Lists the next files, at most `limit`.
    fn page(&mut self, directory: &Directory, limit: usize) -> io::Result<Vec<StoredFile>> {
        let mut files = Vec::new();
        while files.len() < limit
            && let Some(image) = self.images.last()
        {
            let rest = files_of(directory, *image, self.after)?;
            let left = limit - files.len();
            let is_whole = rest.len() <= left;
            for (file, place) in rest.into_iter().take(left) {
                self.after = Some(file);
                match place.metadata().and_then(|found| found.modified()) {
                    Ok(modified) => files.push(StoredFile::new(file, modified.into())),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            if is_whole {
                self.images.pop();
            }
        }
        Ok(files)
    }
}

/// Returns the files of an image after a file, in the order of their names, and their places.
fn files_of(directory: &Directory, image: [u8; 32], after: Option<MediaFile>) -> io::Result<Vec<(MediaFile, PathBuf)>> {
    let any = MediaFile::new(image, 1, ImageFormat::Jpeg).to_string();
    let image = any.split_once('/').map_or("", |(image, _)| image);
    let place = directory.join(image);
    let names = match names_in(&place) {
        Ok(names) => names,
        // It was removed meanwhile, or is not a directory and so not an image.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        Err(e) => return Err(e),
    };
    let mut files = Vec::new();
    for name in names {
        // Other files are being written, or are none of ours.
        let file = MediaFile::parse(&format!("{image}/{name}")).filter(|file| Some(*file) > after);
        files.extend(file.map(|file| (file, place.join(name))));
    }
    files.sort_unstable_by_key(|(file, _)| *file);
    Ok(files)
}

/// Returns the names in a directory. Names that are not UTF-8 are none of ours.
fn names_in(directory: &Directory) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in read_dir(directory)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
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

    async fn list(&self, after: Option<MediaFile>, limit: usize) -> Result<Vec<StoredFile>> {
        if let Some(directory) = self.directory.clone() {
            // The next page of a walk goes on with the names that the page before has read. A store keeps the names of
            // one walk: of two at a time, each page reads the directory.
            let walk = self.walk.lock().take().filter(|walk| after.is_some() && walk.after == after);
            let list = move || {
                let mut walk = walk.map_or_else(|| Walk::begin(&directory, after), Ok)?;
                let files = walk.page(&directory, limit)?;
                Ok::<_, io::Error>((files, walk))
            };
            let (files, walk) = blocking(list).await?.map_err(unavailable)?;
            *self.walk.lock() = Some(walk).filter(|walk| !walk.images.is_empty());
            return Ok(files);
        }
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let mut objects = match &after {
            Some(file) => self.store.list_with_offset(prefix, &self.place(file)),
            None => self.store.list(prefix),
        };
        let mut files = Vec::new();
        // The stream reads a page of objects at a time, in the order of their names.
        while files.len() < limit
            && let Some(object) = objects.next().await
        {
            let object = object.map_err(unavailable)?;
            let file = self.file_at(&object.location);
            files.extend(file.map(|file| StoredFile::new(file, object.last_modified)));
        }
        Ok(files)
    }

    async fn remove(&self, file: &MediaFile, before: Timestamp) -> Result<bool> {
        let place = self.place(file);
        if self.stored_at(&place).await.map_err(unavailable)?.is_none_or(|stored_at| stored_at >= before) {
            return Ok(false);
        }
        let places = stream::once(std::future::ready(Ok::<_, object_store::Error>(place))).boxed();
        match self.store.delete_stream(places).next().await {
            Some(Err(error)) if !matches!(error, object_store::Error::NotFound { .. }) => Err(unavailable(error)),
            // Another process may have removed it at the same time.
            _ => Ok(true),
        }
    }

    async fn ping(&self) -> Result<()> {
        if let Some(directory) = self.directory.clone() {
            let is_there = blocking(move || directory.is_dir()).await?;
            return if is_there { Ok(()) } else { Err(unavailable(NO_DIRECTORY)) };
        }
        // This lists below the prefix, because the key may have access to these objects only, and after the names of
        // all files, so that the list is short.
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let mut objects = self.store.list_with_offset(prefix, &self.prefix.clone().join("z"));
        let Some(Err(error)) = objects.next().await else { return Ok(()) };
        match self.stored_at(&self.prefix.clone().join("ping")).await {
            // The server answers the question for an object, but refuses the list.
            Ok(_) => Err(unavailable(NO_BUCKET)),
            Err(_) => Err(unavailable(error)),
        }
    }

    async fn close(&self) {}
}
