//! How texts become words: in the same way for documents and queries, and for every search engine.
//!
//! A text is cut into chunks at white space and at punctuation that does not connect. A chunk has one part or several:
//! `Wi-Fi` has the parts `wi` and `fi`, `USB3.1` has `usb` and `3.1`, and `500ml` has `500` and `ml`. A document is
//! found by its parts and by its chunks (`wifi`, `usb3.1`, `500ml`), and also by two neighbouring parts that the shopper
//! writes together (`headphones` finds "head phones"). A query looks for the same forms ([`QueryText`]), so that it does
//! not matter on which side words are split, joined or hyphenated.

use std::collections::BTreeSet;

use icu_normalizer::DecomposingNormalizerBorrowed;

use crate::text::fold;

/// A longer part is cut off, in documents and in queries.
const LONGEST_PART: usize = 64;
/// Symbols are part of a word of at most this many letters, as in `c++` and `f#`.
const LETTERS_BEFORE_SYMBOLS: usize = 2;
/// The shortest part of a code that is searched by itself, such as `1552` of `LAN-1552`.
const SHORTEST_CODE_PART: usize = 3;

/// A piece of a text between white space or punctuation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The runs of letters and the numbers of the chunk, folded and without accents; at least one.
    pub parts: Vec<String>,
}

impl Chunk {
    /// Returns the parts as one word, such as `wifi` for `Wi-Fi`.
    pub fn joined(&self) -> String {
        self.parts.concat()
    }
}

/// Returns the chunks of a text.
pub fn chunks(text: &str) -> Vec<Chunk> {
    let chars: Vec<char> = without_accents(&fold(text)).chars().collect();
    let mut cutter = Cutter::default();
    let mut i = 0;
    while i < chars.len() {
        i += cutter.take(&chars, i);
    }
    cutter.end_chunk();
    cutter.chunks
}

/// Returns the text without accents and with the ASCII forms of some letters, such as `o` for `ø`.
fn without_accents(folded: &str) -> String {
    let mut out = String::with_capacity(folded.len());
    for c in DecomposingNormalizerBorrowed::new_nfkd().normalize(folded).chars() {
        match c {
            '\u{300}'..='\u{36f}' => {}
            'ø' => out.push('o'),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'đ' | 'ð' => out.push('d'),
            'ł' => out.push('l'),
            'þ' => out.push_str("th"),
            'ı' => out.push('i'),
            _ => out.push(c),
        }
    }
    out
}

/// The kind of the characters of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Letters,
    Digits,
}

#[derive(Default)]
struct Cutter {
    chunks: Vec<Chunk>,
    chunk: Chunk,
    part: String,
    length: usize,
    run: Option<Run>,
}

impl Cutter {
    /// Takes the character at `i`, or several that belong together, and returns how many.
    fn take(&mut self, chars: &[char], i: usize) -> usize {
        let c = chars[i];
        let next = chars.get(i + 1).copied();
        let is_digit = |c: Option<char>| c.is_some_and(char::is_numeric);
        if c.is_numeric() {
            self.push(c, Run::Digits);
        } else if c.is_alphanumeric() {
            self.push(c, Run::Letters);
        } else if self.run == Some(Run::Digits) && is_inch(&chars[i..]) > 0 {
            // 55" is 55 inch.
            let length = is_inch(&chars[i..]);
            self.end_part();
            "inch".chars().for_each(|c| self.push(c, Run::Letters));
            self.end_chunk();
            return length;
        } else if matches!(c, '\'' | '\u{2019}' | '\u{2032}') {
            // The apostrophe of "chef's" is no boundary.
        } else if matches!(c, '.' | ',') && self.run == Some(Run::Digits) && is_digit(next) {
            let digits = chars[i + 1..].iter().take_while(|c| c.is_numeric()).count();
            // 1,000 is a thousand, and 1,5 is one and a half.
            if c == '.' || digits != 3 {
                self.push('.', Run::Digits);
            }
        } else if matches!(c, '+' | '#') && self.takes_symbols() {
            self.part.push(c);
        } else if is_connector(c) && self.run.is_some() && next.is_some_and(char::is_alphanumeric) {
            self.end_part();
        } else {
            self.end_chunk();
        }
        1
    }

    fn push(&mut self, c: char, run: Run) {
        let has_symbols = self.part.ends_with(['+', '#']);
        if self.run.is_some_and(|before| before != run) || has_symbols {
            self.end_part();
        }
        self.run = Some(run);
        self.length += 1;
        if self.length <= LONGEST_PART {
            self.part.push(c);
        }
    }

    fn takes_symbols(&self) -> bool {
        let letters = self.part.trim_end_matches(['+', '#']);
        self.chunk.parts.is_empty()
            && (1..=LETTERS_BEFORE_SYMBOLS).contains(&letters.chars().count())
            && letters.chars().all(char::is_alphabetic)
    }

    fn end_part(&mut self) {
        if !self.part.is_empty() {
            self.chunk.parts.push(std::mem::take(&mut self.part));
        }
        (self.length, self.run) = (0, None);
    }

    fn end_chunk(&mut self) {
        self.end_part();
        if !self.chunk.parts.is_empty() {
            self.chunks.push(std::mem::take(&mut self.chunk));
        }
    }
}

/// Returns the number of characters of a sign for inches at the beginning.
fn is_inch(chars: &[char]) -> usize {
    match chars {
        ['"' | '\u{201d}', ..] => 1,
        ['\'', '\'', ..] | ['\u{2032}', '\u{2032}', ..] | ['\u{2019}', '\u{2019}', ..] => 2,
        _ => 0,
    }
}

/// Returns true for punctuation that connects the parts of a chunk if it stands between them.
const fn is_connector(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}' | '_' | '/' | '.' | '&' | '+' | ':')
}

/// The words by which a field of a document is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldWords {
    /// The parts, and the chunks of several parts, in the order of the text.
    pub words: Vec<String>,
    /// Each two neighbouring parts as one word, unless it is a chunk.
    pub pairs: Vec<String>,
}

impl FieldWords {
    /// Returns the words of a field.
    pub fn of(text: &str) -> Self {
        let chunks = chunks(text);
        let mut words = Vec::new();
        for chunk in &chunks {
            words.extend(chunk.parts.iter().cloned());
            if chunk.parts.len() > 1 {
                words.push(chunk.joined());
            }
        }
        let parts: Vec<&String> = chunks.iter().flat_map(|chunk| &chunk.parts).collect();
        let joined = parts.iter().zip(parts.iter().skip(1)).map(|(first, second)| format!("{first}{second}"));
        let known: BTreeSet<&String> = words.iter().collect();
        let pairs = joined.filter(|pair| !known.contains(pair)).collect();
        Self { words, pairs }
    }
}

/// Returns the forms by which a code is found: as it is written, without punctuation, and each number in it.
pub fn code_forms(code: &str) -> Vec<String> {
    let mut forms = vec![fold(code)];
    let chunks = chunks(code);
    let parts = chunks.iter().flat_map(|chunk| &chunk.parts);
    let mut add = |form: String| {
        if !form.is_empty() && !forms.contains(&form) {
            forms.push(form);
        }
    };
    add(parts.clone().map(String::as_str).collect());
    for part in parts.filter(|p| p.chars().any(char::is_numeric) && p.chars().count() >= SHORTEST_CODE_PART) {
        add(part.clone());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        chunks(text).iter().map(|chunk| chunk.parts.join(" ")).collect()
    }

    #[test]
    fn words_are_cut_alike_however_they_are_written() {
        for (text, expected) in [
            ("Crème-Brûlée, the chef’s №5", &["creme brulee", "the", "chefs", "no 5"][..]),
            ("Cre\u{300}me x\u{328}y ''", &["creme", "xy"]),
            ("Wi-Fi T-Shirt e-reader", &["wi fi", "t shirt", "e reader"]),
            ("USB3.1 USB 3.1 usb-c", &["usb 3.1", "usb", "3.1", "usb c"]),
            (
                "500ml 500 ml 4K 55\" 55″ 1,000 1,5 3.",
                &["500 ml", "500", "ml", "4 k", "55 inch", "55 inch", "1000", "1.5", "3"],
            ),
            ("LAN-1552 AB-1234/X", &["lan 1552", "ab 1234 x"]),
            ("C++ c# F# A+B rock+roll 18+", &["c++", "c#", "f#", "a+ b", "rock roll", "18"]),
            ("title:(a OR b)* AND \"c\"", &["title", "a", "or", "b", "and", "c"]),
            (" \"*:&&\" ", &[]),
            ("smørrebrød Łódź", &["smorrebrod", "lodz"]),
        ] {
            assert_eq!(cut(text), expected, "{text}");
        }
        assert_eq!(cut(&"x".repeat(500))[0].len(), LONGEST_PART);
    }

    #[test]
    fn a_field_is_found_by_its_parts_its_chunks_and_its_neighbours() {
        let found = FieldWords::of("Wi-Fi head phones");
        assert_eq!(found.words, ["wi", "fi", "wifi", "head", "phones"]);
        assert_eq!(found.pairs, ["fihead", "headphones"]);
        assert_eq!(FieldWords::of(""), FieldWords::default());
    }

    #[test]
    fn a_code_is_found_without_its_punctuation_and_by_its_numbers() {
        assert_eq!(code_forms("LAN-1552"), ["lan-1552", "lan1552", "1552"]);
        assert_eq!(code_forms("4006381333931"), ["4006381333931"]);
        assert_eq!(code_forms("AB-1234/X"), ["ab-1234/x", "ab1234x", "1234"]);
        assert_eq!(code_forms("Kit 7 Blue"), ["kit 7 blue", "kit7blue"]);
    }
}
