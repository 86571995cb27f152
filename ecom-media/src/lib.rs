//! Stores of image files behind [`ecom_core::port::MediaStore`], and the processor of uploads.
//!
//! | Feature | Files are in | URL |
//! |---|---|---|
//! | | a directory | `file:///<directory>` |
//! | `s3` | a bucket of S3, or of a server that speaks its protocol | `s3://<key id>:<secret>@<bucket>/<prefix>?region=…&endpoint=…` |
//!
//! [`ObjectMediaStore`] is the store for all of them, over the crate `object_store`. It runs the suite
//! `ecom_core::media_store_suite!` (feature `testkit`). A store of your own runs it with one line in a test crate.
//!
//! [`Images`] makes the files of an image from the bytes of an upload.

mod processor;
#[cfg(feature = "s3")]
mod s3;
mod store;

pub use self::processor::{ImageOptions, Images};
pub use self::store::ObjectMediaStore;
