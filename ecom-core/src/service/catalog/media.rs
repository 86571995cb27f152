//! Uploads of images: the service makes and stores their files, and a product then names one of them.

use std::sync::Arc;

use bytes::Bytes;
use ring::digest::{SHA256, digest};

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::media::{MediaFile, StoredImage};
use crate::error::{Error, Result};
use crate::service::run::context::Context;
use crate::shop::Media;

/// How many images a process decodes at a time, because each takes a processor and some hundred MiB of memory.
pub(crate) const AT_A_TIME: usize = 2;

/// The service of the image files of a shop.
#[derive(Debug, Clone, Copy)]
pub struct MediaService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> MediaService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Makes the files of an image from the bytes of an upload, and stores them. The same bytes make the same files, so
    /// a repeated upload stores nothing twice. A product shows the image after
    /// [`ProductService::add_image`](crate::catalog::ProductService::add_image), or any other write that names its URL.
    ///
    /// # Errors
    /// `Forbidden` without `products:write`. `Validation` on `image` as in
    /// [`ImageProcessor::process`](crate::port::ImageProcessor::process). `Unsupported` if the shop has no store of
    /// images; `Unavailable`.
    pub async fn upload(&self, content: Bytes) -> Result<StoredImage> {
        self.who.require(Permission::ProductsWrite)?;
        let media = self.media()?;
        let slot = self.cx.image_slots.clone().acquire_owned().await;
        let slot = slot.map_err(|e| Error::internal("waiting for an image", e))?;
        let processor = media.processor.clone();
        let processed = tokio::task::spawn_blocking(move || {
            let processed = processor.process(&content);
            // The thread holds its place also if the caller is gone.
            drop(slot);
            processed
        });
        let processed = processed.await.map_err(|e| Error::internal("processing an image", e))??;
        let Some((largest, content)) = processed.files.last() else {
            return Err(Error::Internal { context: "a processed image has no file", source: None });
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, content).as_ref());
        let named = |width| MediaFile::new(hash, width, processed.format);
        let url = format!("{}/{}", media.base_url, named(*largest));
        // The largest file comes last: if it is there, all are.
        for (width, content) in &processed.files {
            media.store.put(&named(*width), content.clone()).await?;
        }
        Ok(StoredImage::new(url, processed.width, processed.height))
    }

    /// Returns the content of a file, or `None` if there is no such file. It needs no permission: the name of a file
    /// cannot be guessed, and products show it to everybody.
    ///
    /// # Errors
    /// `Unsupported` if the shop has no store of images; `Unavailable`.
    pub async fn read(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        self.media()?.store.get(file).await
    }

    fn media(&self) -> Result<&'a Media> {
        let capability = "uploads of images, because it has no store for them";
        self.cx.media.as_ref().ok_or(Error::Unsupported { provider: "this shop", capability })
    }
}
