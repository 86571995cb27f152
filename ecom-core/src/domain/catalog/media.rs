//! Files of images that were uploaded, and their names.

use std::fmt::{self, Write as _};

use bytes::Bytes;

use super::product::ImageInput;

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
/// width for which the file was made. The content of a file never changes.
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
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut digest = [0; 32];
        for (i, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        let (width, extension) = file.split_once('.')?;
        let width = width.parse().ok()?;
        let format = ImageFormat::ALL.into_iter().find(|format| format.extension() == extension)?;
        let name = Self { digest, width, format };
        // Each file has one name: no sign, no zero at the beginning, no capital letter.
        (name.to_string() == text).then_some(name)
    }

    /// Returns the format.
    pub const fn format(&self) -> ImageFormat {
        self.format
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
}
