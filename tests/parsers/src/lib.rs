//! Properties of the parsers that read what strangers send. Each function takes any bytes and panics if the parser does
//! not have its property for them.
//!
//! `tests/random.rs` calls the functions with random inputs, and `tests/corpus.rs` with the files of `fuzz/corpus`,
//! which has one folder for each function. `fuzz/` calls them with the inputs that libFuzzer makes. Everything goes
//! through the public API: over a router in process, over the services of a shop, or over a type of an input.

#![expect(clippy::missing_panics_doc, reason = "a property that does not hold panics")]

mod cursor;
mod filters;
mod forwarded;
mod if_match;
mod merge_patch;
mod price;
mod shop;
mod table;
mod token;

pub use self::cursor::{LISTS, cursor};
pub use self::filters::filters;
pub use self::forwarded::forwarded;
pub use self::if_match::if_match;
pub use self::merge_patch::{merge_patch, merged};
pub use self::price::price;
pub use self::table::table;
pub use self::token::token;

/// A function that checks a property for an input.
pub type Property = fn(&[u8]);

/// Every property, by the name of its folder in `fuzz/corpus` and of its target in `fuzz/fuzz_targets`.
pub const PROPERTIES: [(&str, Property); 8] = [
    ("cursor", cursor),
    ("filters", filters),
    ("forwarded", forwarded),
    ("if_match", if_match),
    ("merge_patch", merge_patch),
    ("price", price),
    ("table", table),
    ("token", token),
];
