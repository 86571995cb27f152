//! Random values and choices that several aggregates share.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::Runner;
use super::comparison::Refusal;
use crate::domain::access::principal::Principal;
use crate::domain::common::{Attributes, ExpectedVersion};
use crate::error::ErrorCode;
use crate::money::{ExactDecimal, Measure};

/// Words of which some are equal to a person, some to the library, and some to a collation that ignores case and
/// accents.
const WORDS: [&str; 34] = [
    "Tea",
    "TEA",
    "tea",
    "Téa",
    "Te\u{301}a",
    "TÉA",
    "Ｔｅａ",
    "𝕿𝖊𝖆",
    "Straße",
    "STRASSE",
    "strasse",
    "ﬁne",
    "FINE",
    "İstanbul",
    "istanbul",
    "ISTANBUL",
    "Σίσυφος",
    "ΣΊΣΥΦΟΣ",
    "茶",
    "🍵",
    "🍶",
    "a b",
    "A  b",
    "a\u{a0}B",
    "ab",
    "100% _\\",
    "O'Brien \"x\" `y`",
    "tea-2",
    "search",
    "Ærø",
    "ærø",
    "№ 5",
    "ñandú",
    "nandu",
];
pub(super) const SLUGS: [&str; 8] = ["tea", "tea-2", "tea-3", "strasse", "x", "a-b", "fine-10", "0"];
pub(super) const BAD_SLUGS: [&str; 6] = ["Tea", "té", "", "search", "0193b5a6-0000-7000-8000-000000000000", "--"];
const CODES: [&str; 12] = ["A", "a", "Ä", "ä", "A\u{308}", "Ａ", "tea", "TEA-2", "🧺", "ß", "SS", "a b"];
pub(super) const TAGS: [&str; 8] = ["new", "NEW", "Sale", "sålé", "sale", "🎁", "ﬁn", "fin"];
pub(super) const BRANDS: [&str; 8] = ["Acme", "ACME", "acmé", "Ärger", "ärger", "茶庵", "Z", "  "];
const EXTERNAL: [&str; 5] = ["1", "2", "a", "A", "ä"];
pub(super) const ATTRIBUTES: [&str; 8] = [
    "{}",
    "{\"a\": 1}",
    "{\"a\": null, \"z\": {\"y\": [1, 2.5, \"é🎧\"], \"b\": false}, \"aa\": -0.1}",
    "{\"big\": 9007199254740993, \"neg\": -9223372036854775808, \"u\": 18446744073709551615}",
    "{\"small\": 1e-7, \"large\": 1e300, \"x\": 1.0, \"y\": 100}",
    "{\"\": \"\", \"quote\\\"\": \"back\\\\slash\\n\", \"a.b\": {\"$c\": []}}",
    "{\"z\": {\"y\": null, \"n\": {\"m\": 1}}}",
    "{\"K\": \"case\", \"k\": \"CASE\"}",
];

/// Returns a text that is refused. `max` is how many characters are allowed.
pub(super) fn bad_text(rng: &mut StdRng, max: usize) -> String {
    match rng.random_range(0..5) {
        0 => String::new(),
        1 => " \u{a0} ".to_owned(),
        2 => "🍵".repeat(max + 1),
        3 => "a\0b".to_owned(),
        _ => "a\u{7}b".to_owned(),
    }
}

pub(super) fn decimal(minor: i64) -> ExactDecimal {
    ExactDecimal(Decimal::new(minor, 2))
}

pub(super) fn measure(d: ExactDecimal) -> Measure {
    Measure::exact(d.0).unwrap()
}

pub(super) fn attributes(text: &str) -> Attributes {
    serde_json::from_str(text).unwrap()
}

impl Runner<'_> {
    /// Returns true in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Returns a number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    pub(super) fn one_of<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[self.below(items.len())].clone()) }
    }

    pub(super) fn any<T: Clone, const N: usize>(&mut self, items: &[T; N]) -> T {
        let n = self.below(N);
        items[n].clone()
    }

    pub(super) fn principal(&mut self) -> Principal {
        Principal::trusted(self.any(&["user:1", "system", "Grüße 🛒"]))
    }

    pub(super) fn word(&mut self) -> String {
        let word = self.any(&WORDS);
        match self.below(20) {
            0..8 => word.to_owned(),
            8..18 => format!("{word} {}", self.below(12)),
            18 => format!(" {word} "),
            _ => format!("{word} {}", "long 長い".repeat(self.below(10))),
        }
    }

    pub(super) fn code(&mut self) -> String {
        let code = self.any(&CODES);
        if self.chance(20) { code.to_owned() } else { format!("{code}{}", self.below(200)) }
    }

    /// Returns the version that the caller sends, mostly the current one, and the refusal of it.
    pub(super) fn version(&mut self, actual: i64) -> (ExpectedVersion, Option<Refusal>) {
        let stale = Some(Refusal::Code(ErrorCode::VersionConflict));
        match self.below(100) {
            0..4 => (ExpectedVersion::Exact(actual - 1), stale),
            4..7 => (ExpectedVersion::Exact(actual + 1), stale),
            7..10 => (ExpectedVersion::Unspecified, Some(Refusal::Code(ErrorCode::VersionRequired))),
            _ => (ExpectedVersion::Exact(actual), None),
        }
    }

    /// Returns an id that no row has.
    pub(super) fn missing<I: From<Uuid>>() -> I {
        Uuid::from_u128(0x0193_b5a6_0000_7000_8000_0000_0000_0001).into()
    }

    /// Returns the id of a row: mostly a live one, sometimes a deleted one, and seldom one that no row has.
    pub(super) fn some_id<I: Copy + From<Uuid>>(&mut self, live: &[I], all: &[I]) -> I {
        let from = if self.chance(94) { live } else { all };
        let found = self.one_of(from);
        if self.chance(2) { Self::missing() } else { found.unwrap_or_else(Self::missing) }
    }

    /// Returns the source and external id of a row in so many of a hundred cases.
    pub(super) fn external_pair(&mut self, percent: u32) -> (Option<String>, Option<String>) {
        if !self.chance(percent) {
            return (None, None);
        }
        (Some(self.any(&["erp", "ERP"]).to_owned()), Some(self.any(&EXTERNAL).to_owned()))
    }
}
