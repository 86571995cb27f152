//! Uploads of images: the service makes and stores their files, and a product then names one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::Timestamp;
use crate::config::ShopConfig;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::media::{MediaFile, StoredFile, StoredImage};
use crate::domain::common::{ExpectedVersion, IncludeDeleted};
use crate::domain::platform::job::JobKind;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::{Dependency, Error, Result};
use crate::id::{CategoryId, ProductId};
use crate::paging::Paging;
use crate::port::storage::Connection;
use crate::service::background::worker::Progress;
use crate::service::catalog::product::ProductService;
use crate::service::platform::job_queue::{Handler, JobError, JobHandler, JobQueue, JobRun, Runner};
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;
use crate::shop::Media;

/// How many images a process decodes at a time, because each takes a processor and some hundred MiB of memory.
const AT_A_TIME: usize = 2;
/// How many uploads may wait for each image that is decoded at a time. The last of them waits for some seconds, and
/// each keeps its bytes in memory.
const WAITING: usize = 8;
/// How many uploads a process has at a time.
const ADMITTED: usize = AT_A_TIME * (WAITING + 1);

/// How many files are listed with one call of the store: one page of S3.
const LISTED_AT_ONCE: usize = 1_000;
/// How many images are compared with the catalog at once, which takes some 200 bytes of memory for each. Each walk
/// through the catalog reads all products.
const COMPARED_AT_ONCE: usize = 50_000;
/// How many rows of the catalog are read at once.
const READ_AT_ONCE: u32 = 200;
/// How many images one run marks or removes, at most. The next run continues.
const CHANGED_AT_MOST: u64 = 10_000;
/// When the job that removes unused images is created, in UTC.
const EVERY_NIGHT: &str = "17 3 * * *";
/// The name of its schedule. No schedule of an application can have it.
const SCHEDULE: &str = "ecom:media-cleanup";

/// The digest of an image, which is the first part of the names of its files.
type ImageDigest = [u8; 32];
/// Images with their files, without their marks.
type Unused = BTreeMap<ImageDigest, Vec<MediaFile>>;

/// The uploads of a process: a bounded number is decoded at a time, and a bounded number waits.
#[derive(Debug)]
pub(crate) struct Uploads {
    /// A permit for each image that is decoded at a time.
    decoding: Arc<Semaphore>,
    /// A permit for each upload.
    admitted: Semaphore,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { decoding: Arc::new(Semaphore::new(AT_A_TIME)), admitted: Semaphore::new(ADMITTED) }
    }
}

impl Uploads {
    /// Returns a permit for an upload.
    fn admit(&self) -> Result<SemaphorePermit<'_>> {
        self.admitted.try_acquire().map_err(|e| Error::unavailable(Dependency::Uploads, e))
    }

    /// Takes all permits until the result is dropped; returns `None` if one of them is in use. For tests.
    #[cfg(feature = "testkit")]
    pub fn fill(&self) -> Option<SemaphorePermit<'_>> {
        self.admitted.try_acquire_many(u32::try_from(ADMITTED).ok()?).ok()
    }
}

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
    /// a repeated upload makes no second copy. A product shows the image after
    /// [`ProductService::add_image`](crate::catalog::ProductService::add_image), or any other write that names its URL.
    ///
    /// # Errors
    /// `Forbidden` without `products:write`. `Validation` on `image` as in
    /// [`ImageProcessor::process`](crate::port::ImageProcessor::process). `Unsupported` if the shop has no store of
    /// images. `Unavailable`, also if too many uploads wait in this process.
    pub async fn upload(&self, content: Bytes) -> Result<StoredImage> {
        self.who.require(Permission::ProductsWrite)?;
        let media = self.media()?;
        let _place = self.cx.uploads.admit()?;
        let slot = self.cx.uploads.decoding.clone().acquire_owned().await;
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
        // Files that exist already are stored too: this makes them young again, so that nothing removes them before a
        // product names them. The largest file comes last: if it is young, all are.
        for (width, content) in &processed.files {
            media.store.put(&named(*width), content.clone()).await?;
        }
        Ok(StoredImage::new(url, processed.width, processed.height))
    }

    /// Makes and stores the files of an image for a product, as [`Self::upload`] does, if the product can have another
    /// image. It checks the product, its version, the number of its images and the text of the new one before it
    /// decodes the image, so that an upload that would be refused later costs little. The caller then calls
    /// [`ProductService::add_image`](crate::catalog::ProductService::add_image), which checks everything again.
    ///
    /// # Errors
    /// Those of [`Self::upload`] and of [`ProductService::add_image`](crate::catalog::ProductService::add_image). A
    /// product with 50 images accepts no upload, not even of an image that it has already.
    pub async fn upload_for(
        &self,
        product: ProductId,
        expected: ExpectedVersion,
        alt: Option<&str>,
        content: Bytes,
    ) -> Result<StoredImage> {
        self.who.require(Permission::ProductsWrite)?;
        self.media()?;
        ProductService::new(self.cx, self.who).check_new_image(product, expected, alt).await?;
        self.upload(content).await
    }

    /// Returns the content of a file, or `None` if there is no such file. It needs no permission: the name of a file
    /// cannot be guessed, and products show it to everybody.
    ///
    /// # Errors
    /// `Unsupported` if the shop has no store of images; `Unavailable`.
    pub async fn read(&self, file: &MediaFile) -> Result<Option<Bytes>> {
        let media = self.media()?;
        if file.is_mark() { Ok(None) } else { media.store.get(file).await }
    }

    /// Removes the files of images that nothing in the catalog names any more, and returns the number of these images.
    ///
    /// The first call that finds an image unused marks it, by an empty file in the store. A later call removes it, if
    /// it is still unused and both the mark and the last upload are older than
    /// [`media_retention`](ShopConfig::media_retention); if something names the image again, the call removes the mark
    /// instead. Without that setting, a call does nothing and returns 0. A call changes at most 10,000 images.
    ///
    /// An image is named if the name of one of its files is anywhere in a product, a SKU or a category: in its images,
    /// its description or its attributes. Soft-deleted ones count, because they can be restored. Several processes can
    /// make this call at the same time. It reads all products, so a shop makes it once a day: in a job of the kind
    /// [`JobKind::MEDIA_CLEANUP`].
    ///
    /// # Errors
    /// `Forbidden` without `products:write`. `Unsupported` if the shop has no store of images; `Unavailable`. Images
    /// that were removed before the error stay removed.
    pub async fn remove_unused(&self) -> Result<u64> {
        self.remove_unused_counted(&Progress::default()).await
    }

    async fn remove_unused_counted(&self, progress: &Progress) -> Result<u64> {
        self.who.require(Permission::ProductsWrite)?;
        let media = self.media()?;
        let Some(kept) = self.cx.config.media_retention else { return Ok(0) };
        let before = self.cx.now() - kept;
        let (mut walk, mut changed) = (Walk::default(), Changed::default());
        while !walk.is_over && !changed.is_enough() {
            let begun = EventLog::new(self.cx, Principal::system()).head().await?;
            let mut found = walk.candidates(media, before, progress).await?;
            // If it is unknown what has changed meanwhile, the next run compares these again.
            if self.spare_named(&mut found.unused, begun).await? {
                self.mark_and_remove(media, &found, before, &mut changed, progress).await?;
            }
        }
        Ok(changed.removed)
    }

    /// Removes the marks of the images that the catalog names. Of the unused images, it removes those whose mark is
    /// older than `before`, and marks those without a mark, until the run has changed enough.
    async fn mark_and_remove(
        &self,
        media: &Media,
        found: &Candidates,
        before: Timestamp,
        changed: &mut Changed,
        progress: &Progress,
    ) -> Result<()> {
        for image in found.marks.keys() {
            if !found.unused.contains_key(image) {
                self.unmark(media, *image).await?;
            }
        }
        for (image, files) in &found.unused {
            if changed.is_enough() {
                break;
            }
            match found.marks.get(image) {
                Some(since) if *since < before => {
                    for file in files {
                        // The store itself compares the times: an upload may have stored it again meanwhile.
                        media.store.remove(file, before).await?;
                    }
                    self.unmark(media, *image).await?;
                    progress.add("removed", 1);
                    changed.removed += 1;
                }
                Some(_) => {}
                None => {
                    media.store.put(&MediaFile::mark(*image), Bytes::new()).await?;
                    progress.add("marked", 1);
                    changed.marked += 1;
                }
            }
        }
        Ok(())
    }

    /// Removes those images from `unused` that the catalog names. `begun` is the end of the log before the call, so
    /// that changes meanwhile are found. Returns false if it is unknown which products have changed.
    async fn spare_named(&self, unused: &mut Unused, begun: OutboxPosition) -> Result<bool> {
        let mut after = None;
        while !unused.is_empty() {
            let mut db = self.cx.storage.connect().await?;
            let rows = db.products().revisions(after, READ_AT_ONCE).await?;
            let ids: Vec<ProductId> = rows.into_iter().map(|(id, _)| id).collect();
            let Some(last) = ids.last().copied() else { break };
            spare_products(&mut *db, unused, &ids).await?;
            after = Some(last);
        }
        let filter = CategoryFilter { include_deleted: IncludeDeleted::Yes, ..CategoryFilter::default() };
        let mut paging = Some(Paging::first(READ_AT_ONCE));
        while let Some(part) = paging.take().filter(|_| !unused.is_empty()) {
            let page = self.cx.storage.connect().await?.categories().list(&filter, &part).await?;
            spare(unused, &page.items)?;
            paging = page.next.map(|next| Paging::Keyset { after: Some(next), limit: READ_AT_ONCE });
        }
        self.spare_changed(unused, begun).await
    }

    /// As [`Self::spare_named`], for the products and categories that have changed after a position in the log.
    async fn spare_changed(&self, unused: &mut Unused, begun: OutboxPosition) -> Result<bool> {
        let log = EventLog::new(self.cx, Principal::system());
        let mut position = begun;
        while !unused.is_empty() {
            let batch = log.read(position, READ_AT_ONCE).await?;
            if batch.events.iter().any(|(_, event)| event.imported_products().is_some()) {
                // The event of an import in bulk does not list its products.
                return Ok(false);
            }
            let changed: BTreeSet<_> = batch.events.iter().map(|(_, event)| event.aggregate_id).collect();
            let products: Vec<ProductId> = changed.iter().copied().map(ProductId).collect();
            let categories: Vec<CategoryId> = changed.into_iter().map(CategoryId).collect();
            let mut db = self.cx.storage.connect().await?;
            spare_products(&mut *db, unused, &products).await?;
            spare(unused, &db.categories().get_many(&categories, IncludeDeleted::Yes).await?)?;
            position = batch.end;
            if !batch.full {
                break;
            }
        }
        Ok(true)
    }

    /// Removes the mark of an image, whatever its age is.
    async fn unmark(&self, media: &Media, image: ImageDigest) -> Result<()> {
        let later = self.cx.now() + Duration::from_secs(86_400);
        media.store.remove(&MediaFile::mark(image), later).await.map(drop)
    }

    fn media(&self) -> Result<&'a Media> {
        let capability = "uploads of images, because it has no store for them";
        self.cx.media.as_ref().ok_or(Error::Unsupported { provider: "this shop", capability })
    }
}

/// A walk through the files of a store.
#[derive(Debug, Default)]
struct Walk {
    /// The last file of the walk so far.
    after: Option<MediaFile>,
    /// The last image with a young file.
    young: Option<ImageDigest>,
    is_over: bool,
}

impl Walk {
    /// Lists the next files, and returns the images among them that may be unused.
    async fn candidates(&mut self, media: &Media, before: Timestamp, progress: &Progress) -> Result<Candidates> {
        let mut found = Candidates::default();
        while !self.is_over && found.unused.len() < COMPARED_AT_ONCE {
            let page = media.store.list(self.after, LISTED_AT_ONCE).await?;
            progress.add("files", page.len() as u64);
            self.is_over = page.len() < LISTED_AT_ONCE;
            self.after = page.last().map(|last| last.file).or(self.after);
            for file in &page {
                found.add(file, before, &mut self.young);
            }
        }
        Ok(found)
    }
}

/// How many images a run has changed.
#[derive(Debug, Default)]
struct Changed {
    marked: u64,
    removed: u64,
}

impl Changed {
    /// Returns whether the run leaves further images to the next one.
    const fn is_enough(&self) -> bool {
        self.marked + self.removed >= CHANGED_AT_MOST
    }
}

/// The images of a part of a store that may be unused.
#[derive(Debug, Default)]
struct Candidates {
    /// The images whose last upload is old enough, with their files.
    unused: Unused,
    /// The times of the marks.
    marks: BTreeMap<ImageDigest, Timestamp>,
}

impl Candidates {
    /// Adds a file. `young` is the last image with a file that was stored at `before` or later.
    fn add(&mut self, found: &StoredFile, before: Timestamp, young: &mut Option<ImageDigest>) {
        let image = found.file.digest();
        if found.file.is_mark() {
            self.marks.insert(image, found.stored_at);
        } else if found.stored_at >= before {
            // An image with one file that was stored recently is kept with all its files.
            *young = Some(image);
        }
        if *young == Some(image) {
            self.unused.remove(&image);
            return;
        }
        let files = self.unused.entry(image).or_default();
        if !found.file.is_mark() {
            files.push(found.file);
        }
    }
}

/// Removes those images from `unused` whose digest is in one of these rows. A longer number that ends with a digest
/// counts too, because other hexadecimal digits come before the name in a URL such as `/resize?of=%2Fmedia%2F9f86…`.
fn spare<T: Serialize>(unused: &mut Unused, rows: &[T]) -> Result<()> {
    for row in rows {
        let text = serde_json::to_string(row).map_err(|e| Error::internal("looking for the names of images", e))?;
        for digits in text.split(|c: char| !c.is_ascii_hexdigit()) {
            let last = digits.get(digits.len().saturating_sub(64)..).unwrap_or_default();
            if let Some(image) = MediaFile::digest_of(last) {
                unused.remove(&image);
            }
        }
    }
    Ok(())
}

/// Removes those images from `unused` that these products name, or their SKUs. Soft-deleted ones count, because they
/// can be restored.
async fn spare_products(db: &mut dyn Connection, unused: &mut Unused, ids: &[ProductId]) -> Result<()> {
    // A product has its live SKUs.
    spare(unused, &db.products().get_many(ids, IncludeDeleted::Yes).await?)?;
    spare(unused, &db.skus().deleted_of(ids).await?)
}

/// Returns the queue of the job that removes unused images, with its schedule if the shop removes any.
pub(crate) fn queue(config: &ShopConfig) -> JobQueue {
    let queue = JobQueue::of_shop(JobKind::MEDIA_CLEANUP, Handler::Plain(Arc::new(Cleanup)), Runner::Worker);
    if config.media_retention.is_some() { queue.cron(SCHEDULE, EVERY_NIGHT) } else { queue }
}

/// Removes unused images. It counts the `files` that it has looked at, and the images that it has `marked` and
/// `removed`.
#[derive(Debug)]
struct Cleanup;

#[async_trait]
impl JobHandler for Cleanup {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        MediaService::new(&run.cx, Principal::system()).remove_unused_counted(&run.progress).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::media::ImageFormat;

    #[test]
    fn names_of_images_are_found_in_any_text() {
        let of = |byte| format!("{}/640.jpg", format!("{byte:02x}").repeat(32));
        let rows = [format!("<img src=\"/media/{}\">", of(1)), format!("https://cdn.example.com/a/{}?x", of(2))];
        let mut unused: Unused = [[1; 32], [2; 32], [3; 32]].map(|image| (image, Vec::new())).into();
        spare(&mut unused, &rows).unwrap();
        assert_eq!(unused.keys().collect::<Vec<_>>(), [&[3_u8; 32]]);
        // Neither the beginning of a longer number nor a cut name is one.
        spare(&mut unused, &[of(3).replace('/', "a/"), of(3)[2..].to_owned()]).unwrap();
        assert_eq!(unused.len(), 1);
        // In a URL with the URL of the image as its parameter, the slash before the name is `%2F`.
        spare(&mut unused, &[format!("/resize?of=%2Fmedia%2F{}&w=100", of(3).replace('/', "%2F"))]).unwrap();
        assert!(unused.is_empty());
    }

    #[test]
    fn an_image_with_a_young_file_is_no_candidate() {
        let time = |seconds| Timestamp::from_timestamp(seconds, 0).unwrap();
        let file = |image, width| MediaFile::new([image; 32], width, ImageFormat::Jpeg);
        let (mut found, mut young) = (Candidates::default(), None);
        for (file, at) in [
            (MediaFile::mark([1; 32]), 9),
            (file(1, 1_280), 1),
            (file(1, 320), 2),
            (MediaFile::mark([2; 32]), 1),
            (file(2, 1_280), 1),
            (file(2, 320), 5),
            (file(2, 640), 1),
            (MediaFile::mark([3; 32]), 1),
        ] {
            found.add(&StoredFile::new(file, time(at)), time(5), &mut young);
        }
        let expected: Unused = [([1; 32], vec![file(1, 1_280), file(1, 320)]), ([3; 32], Vec::new())].into();
        assert_eq!(found.unused, expected);
        assert_eq!(found.marks.len(), 3);
    }

    #[test]
    fn only_a_shop_that_removes_images_has_the_schedule() {
        let config = ShopConfig::default();
        assert!(queue(&config).schedules.is_empty());
        let schedules = queue(&config.media_retention(Duration::from_secs(86_400))).schedules;
        assert!(matches!(&schedules[..], [one] if one.cron.is_ok()), "{schedules:?}");
    }
}
