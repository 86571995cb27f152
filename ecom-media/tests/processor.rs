//! Uploads become files, or are refused.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use ecom_core::Error;
use ecom_core::catalog::ImageFormat;
use ecom_core::port::ImageProcessor as _;
use ecom_media::{ImageOptions, Images};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

fn images(options: ImageOptions) -> Images {
    Images::new(options).unwrap()
}

fn png(width: u32, height: u32, pixel: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let color = if pixel.len() == 4 { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    let pixels = pixel.repeat((width * height) as usize);
    PngEncoder::new(&mut bytes).write_image(&pixels, width, height, color).unwrap();
    bytes
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = [200_u8, 10, 10].repeat((width * height) as usize);
    JpegEncoder::new(&mut bytes).write_image(&pixels, width, height, ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// Puts EXIF data with an orientation behind the first marker.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff_u8, 0xe1], &length, exif.as_slice(), &jpeg[2..]].concat()
}

#[track_caller]
fn refused(images: &Images, content: &[u8]) -> String {
    match images.process(content) {
        Err(Error::Validation(errors)) => {
            assert_eq!(errors.0.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["image"]);
            errors.0[0].message.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_has_a_file_of_each_width_and_is_not_enlarged() {
    let images = images(ImageOptions::default().widths(vec![10, 40, 100]));
    let mut webp = Vec::new();
    let pixels = [1_u8, 2, 3].repeat(60 * 30);
    WebPEncoder::new_lossless(&mut webp).write_image(&pixels, 60, 30, ExtendedColorType::Rgb8).unwrap();
    for upload in [png(60, 30, &[1, 2, 3]), png(60, 30, &[1, 2, 3, 255]), jpeg(60, 30), webp] {
        let made = images.process(&upload).unwrap();
        assert_eq!((made.format, made.width, made.height), (ImageFormat::Jpeg, 60, 30));
        let sizes: Vec<_> = made.files.iter().map(|(of, file)| (*of, image::load_from_memory(file).unwrap())).collect();
        let sizes: Vec<_> = sizes.iter().map(|(of, image)| (*of, image.width(), image.height())).collect();
        assert_eq!(sizes, [(10, 10, 5), (40, 40, 20), (100, 60, 30)]);
        assert_eq!(images.process(&upload).unwrap(), made, "the same bytes make the same files");
    }
}

#[test]
fn a_high_image_is_scaled_down_to_the_maximum_height() {
    let images = images(ImageOptions::default().widths(vec![10, 40]).max_height(80));
    for (width, height, sizes) in [
        (60, 30, [(10, 5), (40, 20)]),
        (40, 80, [(10, 20), (40, 80)]),
        (40, 320, [(10, 80), (10, 80)]),
        (1, 900, [(1, 80), (1, 80)]),
        (900, 1, [(10, 1), (40, 1)]),
    ] {
        let made = images.process(&png(width, height, &[1, 2, 3])).unwrap();
        let found: Vec<_> = made.files.iter().map(|(_, file)| image::load_from_memory(file).unwrap()).collect();
        let found: Vec<_> = found.iter().map(|image| (image.width(), image.height())).collect();
        assert_eq!(found, sizes, "{width} x {height}");
        assert_eq!((made.width, made.height), sizes[1], "{width} x {height}");
    }
}

#[test]
fn an_image_with_a_large_file_is_scaled_down_until_the_file_fits() {
    // Noise, which no encoder makes smaller.
    let mut state = 1_u64;
    let noise = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let pixels: Vec<u8> = (0..200 * 100 * 4).map(noise).collect();
    let mut upload = Vec::new();
    PngEncoder::new(&mut upload).write_image(&pixels, 200, 100, ExtendedColorType::Rgba8).unwrap();
    let limit = 16 << 10;
    assert!(upload.len() > 2 * limit, "{}", upload.len());
    let options = ImageOptions::default().widths(vec![20, 400]);
    let whole = images(options.clone()).process(&upload).unwrap();
    assert_eq!((whole.width, whole.height), (200, 100));
    let made = images(options.max_file_bytes(limit)).process(&upload).unwrap();
    assert!(made.files.iter().all(|(_, file)| file.len() <= limit), "{made:?}");
    let largest = image::load_from_memory(&made.files[1].1).unwrap();
    assert_eq!((largest.width(), largest.height()), (made.width, made.height));
    assert!((20..200).contains(&made.width) && made.width.abs_diff(2 * made.height) <= 2, "{made:?}");
}

#[test]
fn an_image_with_transparent_pixels_keeps_them() {
    let made = images(ImageOptions::default()).process(&png(8, 8, &[9, 9, 9, 100])).unwrap();
    assert_eq!(made.format, ImageFormat::Png);
    let file = image::load_from_memory(&made.files[0].1).unwrap().into_rgba8();
    assert_eq!(file.get_pixel(3, 3).0, [9, 9, 9, 100]);
}

#[test]
fn an_image_is_turned_and_loses_its_metadata() {
    let images = images(ImageOptions::default());
    let upload = turned(&jpeg(40, 20), 6);
    let made = images.process(&upload).unwrap();
    assert_eq!((made.width, made.height), (20, 40));
    assert!(upload.windows(4).any(|bytes| bytes == b"Exif"));
    assert!(!made.files.iter().any(|(_, file)| file.windows(4).any(|bytes| bytes == b"Exif")));
    assert_eq!(images.process(&turned(&jpeg(40, 20), 1)).unwrap().width, 40);
}

#[test]
fn what_is_no_image_is_refused() {
    let images = images(ImageOptions::default());
    for content in [&b""[..], b"hello", b"GIF89a\x01\0\x01\0\0\0\0;", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"] {
        assert!(refused(&images, content).contains("JPEG, PNG or WebP"));
    }
    let whole = png(40, 40, &[1, 2, 3]);
    for cut in [20, 40, whole.len() / 2] {
        assert!(refused(&images, &whole[..cut]).contains("damaged"), "{cut}");
    }
}

#[test]
fn an_image_with_too_many_pixels_is_refused() {
    let small = images(ImageOptions::default().max_pixels(100));
    assert!(small.process(&png(10, 10, &[1, 2, 3])).is_ok());
    for upload in [png(101, 1, &[1, 2, 3]), png(11, 10, &[1, 2, 3, 0]), jpeg(11, 10)] {
        assert!(refused(&small, &upload).contains("at most 100 pixels"));
    }
    assert!(refused(&images(ImageOptions::default()), &png(20_001, 1, &[1, 2, 3])).contains("at most 20000"));
    // Its header promises 400 million pixels, which are not there.
    let mut bomb = png(1, 1, &[1, 2, 3]);
    bomb[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let sum = crc(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&sum);
    assert!(refused(&images(ImageOptions::default()), &bomb).contains("pixels"));
}

#[test]
fn options_out_of_their_bounds_are_refused() {
    for options in [
        ImageOptions::default().widths(Vec::new()),
        ImageOptions::default().widths(vec![640, 320]),
        ImageOptions::default().widths(vec![0, 320]),
        ImageOptions::default().widths(vec![320, 10_001]),
        ImageOptions::default().max_height(0),
        ImageOptions::default().max_height(10_001),
        ImageOptions::default().max_file_bytes(1_000),
        ImageOptions::default().max_pixels(0),
        ImageOptions::default().quality(101),
    ] {
        assert!(matches!(Images::new(options), Err(Error::Validation(_))));
    }
}

/// The checksum of a chunk of PNG (CRC-32).
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 })
    })
}
