//! A store and a processor of images for tests, in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::clock::{SharedClock, SystemClock, Timestamp};
use crate::domain::catalog::media::{ImageFormat, MediaFile, ProcessedImage, StoredFile};
use crate::error::{Error, FieldCode, Result};
use crate::port::catalog::media::{ImageProcessor, MediaStore};
use crate::shop::Media;

/// A store of image files in memory, which also counts the images that were processed.
#[derive(Debug)]
pub struct Shelf {
    files: Mutex<BTreeMap<MediaFile, (Bytes, Timestamp)>>,
    clock: SharedClock,
    processed: AtomicUsize,
}

/// A processor whose images are texts such as `800x600`: each is an image of that size, with two files.
#[derive(Debug)]
struct Texts(Arc<Shelf>);

impl Shelf {
    /// Returns an empty store with the clock of the machine.
    pub fn new() -> Arc<Self> {
        Self::at(Arc::new(SystemClock))
    }

    /// Returns an empty store whose files are stored at the times of a clock.
    pub fn at(clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { files: Mutex::default(), clock, processed: AtomicUsize::new(0) })
    }

    /// Returns this store with a processor whose images are texts such as `800x600`.
    pub fn media(self: &Arc<Self>) -> Media {
        Media { store: self.clone(), processor: Arc::new(Texts(self.clone())), base_url: "/media".to_owned() }
    }

    /// Returns the number of stored files.
    pub fn files(&self) -> usize {
        self.files.lock().len()
    }

    /// Returns how many uploads the processor has looked at.
    pub fn processed(&self) -> usize {
        self.processed.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl MediaStore for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    async fn put(&self, file: &MediaFile, content: Bytes) -> Result<()> {
        self.files.lock().insert(*file, (content, self.clock.now()));
        Ok(())
    }

    async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        Ok(self.files.lock().get(file).map(|(content, _)| content.clone()))
    }

    async fn list(&self, after: Option<MediaFile>, limit: usize) -> Result<Vec<StoredFile>> {
        let files = self.files.lock();
        let rest = files.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        Ok(rest.take(limit).map(|(file, (_, stored_at))| StoredFile::new(*file, *stored_at)).collect())
    }

    async fn remove(&self, file: &MediaFile, before: Timestamp) -> Result<bool> {
        let mut files = self.files.lock();
        let is_old = files.get(file).is_some_and(|(_, stored_at)| *stored_at < before);
        Ok(is_old && files.remove(file).is_some())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

impl ImageProcessor for Texts {
    fn process(&self, content: &[u8]) -> Result<ProcessedImage> {
        self.0.processed.fetch_add(1, Ordering::SeqCst);
        let size = std::str::from_utf8(content).ok().and_then(|text| text.split_once('x'));
        let size = size.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        let (width, height) =
            size.ok_or_else(|| Error::invalid("image", FieldCode::Malformed, "must be a text such as `800x600`"))?;
        let files =
            [320_u32, 1_280].map(|of| (of, Bytes::from([content, b" at ", of.to_string().as_bytes()].concat())));
        Ok(ProcessedImage::new(ImageFormat::Png, width, height, files.into()))
    }
}
