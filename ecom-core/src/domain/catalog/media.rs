//! Files of images that were uploaded, and their names.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::product::ImageInput;
use crate::clock::Timestamp;

/// The format of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl ImageFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Jpeg, Self::Png, Self::Webp];

    /// Returns the media type, such as `image/jpeg`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    /// Returns the end of file names: `jpg`, `png` or `webp`.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }
}

/// The name of a stored file, such as `9f86…0a08/640.jpg`: the SHA-256 of the image in 64 hexadecimal digits, and the
/// width for which the file was made. The content of a file never changes. Files are ordered by their names, byte by
/// byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaFile {
    digest: [u8; 32],
    width: u32,
    format: ImageFormat,
}

impl MediaFile {
    /// Returns the name of a file. `digest` is the SHA-256 of the image.
    pub const fn new(digest: [u8; 32], width: u32, format: ImageFormat) -> Self {
        Self { digest, width, format }
    }

    /// Reads a name. Returns `None` if it is not exactly one that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, file) = text.split_once('/')?;
        let digest = Self::digest_of(digits)?;
        let (width, extension) = file.split_once('.')?;
        let width = width.parse().ok()?;
        let format = ImageFormat::ALL.into_iter().find(|format| format.extension() == extension)?;
        let name = Self { digest, width, format };
        // Each file has one name: no sign, no zero at the beginning, no capital letter.
        (name.to_string() == text).then_some(name)
    }

    /// Reads the digits of a digest.
    pub(crate) fn digest_of(digits: &str) -> Option<[u8; 32]> {
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut digest = [0; 32];
        for (i, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(digest)
    }

    /// Returns the name of the file that marks an image which nothing names any more. It has the width 0, which no file
    /// of an image has, so it comes before the other files of the image.
    pub(crate) const fn mark(digest: [u8; 32]) -> Self {
        Self::new(digest, 0, ImageFormat::Jpeg)
    }

    /// Returns whether this is the name of a mark.
    pub(crate) fn is_mark(&self) -> bool {
        *self == Self::mark(self.digest)
    }

    /// Returns the SHA-256 of the image, which all files of an image share.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Returns the format.
    pub const fn format(&self) -> ImageFormat {
        self.format
    }
}

impl Ord for MediaFile {
    fn cmp(&self, other: &Self) -> Ordering {
        let end = |file: &Self| format!("{}.{}", file.width, file.format.extension());
        self.digest.cmp(&other.digest).then_with(|| end(self).cmp(&end(other)))
    }
}

impl PartialOrd for MediaFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MediaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.digest {
            write!(f, "{byte:02x}")?;
        }
        f.write_char('/')?;
        write!(f, "{}.{}", self.width, self.format.extension())
    }
}

/// A file that a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredFile {
    /// The name.
    pub file: MediaFile,
    /// When the file was stored last, by the clock of the store, at least to the second.
    pub stored_at: Timestamp,
}

impl StoredFile {
    /// Returns a file that was stored at a time.
    pub const fn new(file: MediaFile, stored_at: Timestamp) -> Self {
        Self { file, stored_at }
    }
}

/// An image in several sizes, without the metadata of the upload. Its `Debug` does not show the content.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessedImage {
    /// The format of all files.
    pub format: ImageFormat,
    /// The width of the largest file, in pixels.
    pub width: u32,
    /// The height of the largest file, in pixels.
    pub height: u32,
    /// The files, smallest first, at least one: the width for which a file was made, and its content. A file is
    /// narrower than its width if the upload is.
    pub files: Vec<(u32, Bytes)>,
}

impl ProcessedImage {
    /// Returns an image. `width` and `height` are those of the last file.
    pub const fn new(format: ImageFormat, width: u32, height: u32, files: Vec<(u32, Bytes)>) -> Self {
        Self { format, width, height, files }
    }
}

impl fmt::Debug for ProcessedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<u32> = self.files.iter().map(|(width, _)| *width).collect();
        f.debug_struct("ProcessedImage")
            .field("format", &self.format)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("widths", &widths)
            .finish()
    }
}

/// An image whose files are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredImage {
    /// The URL of the largest file. The other sizes have its URL with another width, such as `…/320.jpg`.
    pub url: String,
    /// The width of the largest file, in pixels.
    pub width: u32,
    /// The height of the largest file, in pixels.
    pub height: u32,
}

impl StoredImage {
    pub(crate) const fn new(url: String, width: u32, height: u32) -> Self {
        Self { url, width, height }
    }

    /// Returns an image of a product that shows the largest file.
    pub fn input(&self) -> ImageInput {
        ImageInput::new(self.url.clone()).size(self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        let file = MediaFile::new([0xa0; 32], 640, ImageFormat::Jpeg);
        let name = format!("{}/640.jpg", "a0".repeat(32));
        assert_eq!((file.to_string(), MediaFile::parse(&name)), (name.clone(), Some(file)));
        for bad in [
            name.to_uppercase(),
            name.replace("640", "0640"),
            name.replace("640", "+640"),
            name.replace("640", "../640"),
            name.replace("jpg", "svg"),
            name.replace("jpg", "jpg.png"),
            name.replacen("a0", "é", 1),
            name.replacen("a0", "+0", 1),
            name[2..].to_owned(),
            format!("/{name}"),
            String::new(),
        ] {
            assert_eq!(MediaFile::parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn files_are_ordered_by_their_names() {
        let mut files = Vec::new();
        for digest in [[2; 32], [0xa0; 32], [0x0a; 32]] {
            for width in [320, 64, 1_280] {
                files.extend(ImageFormat::ALL.map(|format| MediaFile::new(digest, width, format)));
            }
        }
        files.sort_unstable();
        assert!(files.iter().map(ToString::to_string).is_sorted(), "{files:?}");
    }
}
