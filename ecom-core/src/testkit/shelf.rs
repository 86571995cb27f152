//! A store and a processor of images for tests, in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::domain::catalog::media::{ImageFormat, MediaFile, ProcessedImage};
use crate::error::{Error, FieldCode, Result};
use crate::port::catalog::media::{ImageProcessor, MediaStore};
use crate::shop::Media;

/// A store of image files in memory.
#[derive(Default)]
pub struct Shelf {
    files: Mutex<HashMap<MediaFile, Bytes>>,
}

/// A processor whose images are texts such as `800x600`: each is an image of that size, with two files.
#[derive(Debug)]
struct Texts;

impl Shelf {
    /// Returns an empty store.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns this store with a processor whose images are texts such as `800x600`.
    pub fn media(self: &Arc<Self>) -> Media {
        Media { store: self.clone(), processor: Arc::new(Texts), base_url: "/media".to_owned() }
    }

    /// Returns the number of stored files.
    pub fn files(&self) -> usize {
        self.files.lock().len()
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("files", &self.files()).finish()
    }
}

#[async_trait]
impl MediaStore for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    async fn put(&self, file: &MediaFile, content: Bytes) -> Result<()> {
        self.files.lock().insert(*file, content);
        Ok(())
    }

    async fn get(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        Ok(self.files.lock().get(file).cloned())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

impl ImageProcessor for Texts {
    fn process(&self, content: &[u8]) -> Result<ProcessedImage> {
        let size = std::str::from_utf8(content).ok().and_then(|text| text.split_once('x'));
        let size = size.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        let (width, height) =
            size.ok_or_else(|| Error::invalid("image", FieldCode::Malformed, "must be a text such as `800x600`"))?;
        let files =
            [320_u32, 1_280].map(|of| (of, Bytes::from([content, b" at ", of.to_string().as_bytes()].concat())));
        Ok(ProcessedImage::new(ImageFormat::Png, width, height, files.into()))
    }
}
