//! Pictures of the sample's products, at `/images/<kind>/<color>.svg`.
//!
//! `sample/images` has one drawing for each kind of product, whose main parts have the color `currentColor`. A picture
//! is a drawing in the color of its path, which is six hexadecimal digits. It is made for each request and stored
//! nowhere.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

macro_rules! drawings {
    ($($kind:literal)*) => {
        /// The drawings, by the kind of product.
        const DRAWINGS: &[(&str, &str)] = &[
            $(($kind, include_str!(concat!("../../sample/images/", $kind, ".svg"))),)*
        ];
    };
}

drawings! {
    "armchair" "backpack" "baking-mat" "ball" "basket" "bath-mat" "beanie" "bed" "bell" "belt" "bench" "bike-light"
    "bike-lock" "blanket" "blender" "blocks" "board-game" "book" "boot" "bottle" "bowl" "box" "brush" "bundle"
    "buoy" "cable" "cake-tin" "camp-stove" "candle" "cap" "car-toy" "cardigan" "cards" "casserole" "chair" "charger"
    "chess" "clog" "coat-stand" "coffee-bag" "coffee-maker" "cookbook" "cooker" "cooler-bag" "cushion" "cutlery"
    "cutting-board" "desk-lamp" "desk-mat" "desk" "dice" "diffuser" "dress" "dripper" "drive" "dropper-bottle"
    "duffel" "dumbbell" "earbuds" "fins" "flash-drive" "floor-lamp" "floor-tiles" "foam-roller" "french-press"
    "frying-pan" "glass" "gloves" "goggles" "hair-dryer" "hammock" "hat" "headphones" "headset" "helmet" "hose"
    "hourglass" "house" "incense" "jar" "kettle" "kettlebell" "keyboard" "kickboard" "kitchen-scale" "knife"
    "leggings" "light-bulb" "lipstick" "loaf-tin" "marble-run" "memory-card" "mixer" "mouse" "mug" "napkin"
    "office-chair" "paper-filters" "pendant-lamp" "perfume" "phone-case" "picture-book" "pillow" "pitcher" "plane"
    "plant-box" "planter" "plate" "plush-goose" "plush-octopus" "plush-owl" "plush-rabbit" "plush-whale"
    "polo-shirt" "pouch" "power-bank" "power-strip" "pull-up-bar" "pump-bottle" "pump" "puzzle" "rainbow-arches"
    "rake" "razor" "remote" "resistance-band" "ring" "robe" "robot" "rolled-mat" "rolling-pin" "saucepan" "scarf"
    "scissors" "screen-protector" "scrunchie" "secateurs" "seeds" "shelf" "shirt" "shoe-care" "shoe" "shorts"
    "skipping-rope" "skirt" "sleeping-bag" "slipper" "soap" "socks" "soundbar" "spade" "speaker" "spray" "stand"
    "stool" "storage" "strap" "string-lights" "sweater" "swim-cap" "swimsuit" "t-shirt" "table-lamp" "taper-candles"
    "tea-tin" "teapot" "teddy-bear" "tent" "toaster" "tool" "tote" "towel" "train" "trousers" "trowel" "tube"
    "turntable" "umbrella" "vest" "wallet" "watch-strap" "watch" "watering-can" "wine-glass" "wireless-speaker"
    "yoga-block"
}

/// Pictures keep their path when a later release draws them in another way.
const ONE_DAY: &str = "public, max-age=86400";
/// A picture that somebody opens as a page runs nothing and loads nothing.
const NOTHING_ELSE: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Returns the routes of the pictures.
pub fn router() -> Router {
    Router::new().route("/images/{kind}/{file}", get(picture))
}

async fn picture(Path((kind, file)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(svg) = file.strip_suffix(".svg").and_then(|color| draw(&kind, color)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut hasher = DefaultHasher::new();
    svg.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).map(str::trim).any(|sent| {
        // A proxy that compresses a picture makes its tag weak.
        sent == "*" || sent.strip_prefix("W/").unwrap_or(sent) == tag
    });
    let always = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, ONE_DAY)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, always).into_response();
    }
    let of_picture = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CONTENT_SECURITY_POLICY, NOTHING_ELSE),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (always, of_picture, svg).into_response()
}

/// Returns the drawing of a kind of product in a color of six hexadecimal digits, or `None` if there is no such drawing
/// or the color is malformed.
fn draw(kind: &str, color: &str) -> Option<String> {
    let is_color = color.len() == 6 && color.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    let (_, drawing) = DRAWINGS.iter().find(|(name, _)| is_color && *name == kind)?;
    // The first `color` is that of the whole drawing, which all `currentColor` refer to.
    let (head, rest) = drawing.split_once("color=\"#")?;
    let (_, tail) = rest.split_once('"')?;
    Some(format!("{head}color=\"#{color}\"{tail}"))
}
