//! The processor that makes the files of an image from the bytes of an upload.

use std::io::Cursor;

use bytes::Bytes;
use derive_setters::Setters;
use ecom_core::catalog::{ImageFormat, ProcessedImage};
use ecom_core::port::ImageProcessor;
use ecom_core::{Error, FieldCode, Result};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as RowFilter, PngEncoder};
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder as _, ImageEncoder as _, ImageError, ImageReader, Limits};

/// The field of errors.
const FIELD: &str = "image";
/// The longest side of an upload, in pixels. The format JPEG allows 65,535.
const LONGEST_SIDE: u32 = 20_000;
/// The bytes of a decoded pixel, at most: four channels of 16 bits.
const BYTES_PER_PIXEL: u64 = 8;
/// The longest side of a file that is made. The format JPEG allows 65,535.
const LONGEST_MADE: u32 = 10_000;
/// The smallest limit of the bytes of a file, into which an image of a few pixels certainly fits.
const LEAST_BYTES: usize = 16 << 10;

/// Settings of [`Images`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ImageOptions {
    /// The widths of the files of an image, in pixels, each at least 1, in ascending order. An upload that is narrower
    /// than a width is not enlarged. Default 320, 640 and 1,280.
    pub widths: Vec<u32>,
    /// The maximum height of a file, in pixels: an image that is higher at a width is scaled down to this height, and
    /// is then narrower than the width. 1–10,000, default 5,000.
    pub max_height: u32,
    /// The maximum size of a file, in bytes: an image with a larger file is scaled down further. At least 16 KiB,
    /// default 5 MiB.
    pub max_file_bytes: usize,
    /// The maximum number of pixels of an upload, which bounds the memory that its decoding takes: up to 8 bytes a
    /// pixel. Default 50,000,000.
    pub max_pixels: u64,
    /// The quality of files in JPEG, 1–100. Default 85.
    pub quality: u8,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            widths: vec![320, 640, 1_280],
            max_height: 5_000,
            max_file_bytes: 5 << 20,
            max_pixels: 50_000_000,
            quality: 85,
        }
    }
}

/// A processor of uploads in JPEG, PNG and WebP.
///
/// It encodes an image as JPEG, or as PNG if it has transparent pixels. It rotates the image by its EXIF data, and
/// removes all metadata, such as the place where a photo was taken. It keeps the first frame of an animation. Colors
/// are read as sRGB. Width, height and bytes of each file are limited, and no file has more pixels than one for a
/// greater width.
#[derive(Debug, Clone)]
pub struct Images {
    options: ImageOptions,
}

impl Images {
    /// Returns a processor.
    ///
    /// # Errors
    /// `Validation` on `widths`, `max_height`, `max_file_bytes`, `max_pixels` or `quality` if the setting is out of its
    /// bounds.
    pub fn new(options: ImageOptions) -> Result<Self> {
        let refuse = |field: &str, message: &str| Err(Error::invalid(field, FieldCode::OutOfBounds, message));
        let widths = &options.widths;
        if widths.is_empty()
            || !widths.is_sorted_by(|a, b| a < b)
            || !widths.iter().all(|w| (1..=LONGEST_MADE).contains(w))
        {
            return refuse("widths", "must be widths of 1 to 10,000 pixels in ascending order, at least one");
        }
        if !(1..=LONGEST_MADE).contains(&options.max_height) {
            return refuse("max_height", "must be 1 to 10,000");
        }
        if options.max_file_bytes < LEAST_BYTES {
            return refuse("max_file_bytes", "must be at least 16,384");
        }
        if !(1..=1_000_000_000).contains(&options.max_pixels) {
            return refuse("max_pixels", "must be 1 to 1,000,000,000");
        }
        if !(1..=100).contains(&options.quality) {
            return refuse("quality", "must be 1 to 100");
        }
        Ok(Self { options })
    }

    /// Decodes an upload, and rotates it.
    fn decode(&self, content: &[u8]) -> Result<DynamicImage> {
        let Ok(format @ (image::ImageFormat::Jpeg | image::ImageFormat::Png | image::ImageFormat::WebP)) =
            image::guess_format(content)
        else {
            return Err(Error::invalid(FIELD, FieldCode::Malformed, "must be an image in JPEG, PNG or WebP"));
        };
        let mut limits = Limits::default();
        limits.max_image_width = Some(LONGEST_SIDE);
        limits.max_image_height = Some(LONGEST_SIDE);
        limits.max_alloc = Some(self.options.max_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(64 << 20));
        let mut reader = ImageReader::with_format(Cursor::new(content), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| self.refused(&e))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > self.options.max_pixels {
            return Err(self.too_large());
        }
        // An orientation that cannot be read is that of an image without one.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| self.refused(&e))?;
        image.apply_orientation(orientation);
        Ok(image)
    }

    fn refused(&self, error: &ImageError) -> Error {
        match error {
            ImageError::Limits(_) => self.too_large(),
            ImageError::Unsupported(_) => {
                Error::invalid(FIELD, FieldCode::Malformed, "is of a kind of JPEG, PNG or WebP that is not supported")
            }
            _ => Error::invalid(FIELD, FieldCode::Malformed, "is damaged or incomplete, and cannot be read"),
        }
    }

    fn too_large(&self) -> Error {
        let message = format!(
            "must have at most {} pixels, and a width and a height of at most {LONGEST_SIDE}",
            self.options.max_pixels
        );
        Error::invalid(FIELD, FieldCode::OutOfBounds, message)
    }

    /// Scales an image down until it fits into a width and its file into the limits, and returns both.
    fn fit(&self, mut image: DynamicImage, width: u32, format: ImageFormat) -> Result<(DynamicImage, Bytes)> {
        let (mut width, mut height) = fitting(image.width(), image.height(), width, self.options.max_height);
        loop {
            if (width, height) != (image.width(), image.height()) {
                image = image.resize_exact(width, height, FilterType::CatmullRom);
            }
            let file = self.encode(&image, format)?;
            // A file of one pixel is smaller than every limit.
            if file.len() <= self.options.max_file_bytes || (width, height) == (1, 1) {
                return Ok((image, file));
            }
            // Each try has about half of the pixels of the one before.
            (width, height) = ((width * 3 / 4).max(1), (height * 3 / 4).max(1));
        }
    }

    /// Encodes an image of 8 bits per channel.
    fn encode(&self, image: &DynamicImage, format: ImageFormat) -> Result<Bytes> {
        let (width, height) = (image.width(), image.height());
        let mut bytes = Vec::new();
        let encoded = if format == ImageFormat::Jpeg {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, self.options.quality);
            encoder.write_image(image.as_bytes(), width, height, ExtendedColorType::Rgb8)
        } else {
            let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, RowFilter::Adaptive);
            encoder.write_image(image.as_bytes(), width, height, ExtendedColorType::Rgba8)
        };
        encoded.map_err(|e| Error::internal("encoding an image", e))?;
        Ok(bytes.into())
    }
}

impl ImageProcessor for Images {
    fn process(&self, content: &[u8]) -> Result<ProcessedImage> {
        let image = self.decode(content)?;
        let (mut image, format) = if image.color().has_alpha() {
            let pixels = image.into_rgba8();
            let is_opaque = pixels.pixels().all(|pixel| pixel.0[3] == u8::MAX);
            let image = DynamicImage::ImageRgba8(pixels);
            if is_opaque {
                (DynamicImage::ImageRgb8(image.into_rgb8()), ImageFormat::Jpeg)
            } else {
                (image, ImageFormat::Png)
            }
        } else {
            (DynamicImage::ImageRgb8(image.into_rgb8()), ImageFormat::Jpeg)
        };
        let mut files = Vec::with_capacity(self.options.widths.len());
        let mut size = (image.width(), image.height());
        // From the largest file to the smallest, each from the one before.
        for width in self.options.widths.iter().rev() {
            let (scaled, file) = self.fit(image, *width, format)?;
            image = scaled;
            if files.is_empty() {
                size = (image.width(), image.height());
            }
            files.push((*width, file));
        }
        files.reverse();
        Ok(ProcessedImage::new(format, size.0, size.1, files))
    }
}

/// Returns the size of an image after it was scaled down into a width and a height. Each side is at least 1.
fn fitting(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    // Scales the side `of` by the factor by which the other side goes from `from` to `to`.
    let scaled = |of: u32, from: u32, to: u32| {
        let exact = (u64::from(of) * u64::from(to) + u64::from(from) / 2) / u64::from(from.max(1));
        u32::try_from(exact).unwrap_or(u32::MAX).max(1)
    };
    let (width, height) =
        if width > max_width { (max_width, scaled(height, width, max_width)) } else { (width, height) };
    if height > max_height { (scaled(width, height, max_height), max_height) } else { (width, height) }
}
