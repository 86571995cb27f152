//! How texts become words: in the same way for documents and queries, and for every search engine.
//!
//! A text is cut into chunks at white space and at punctuation that does not connect. A chunk has one part or several:
//! `Wi-Fi` has the parts `wi` and `fi`, `USB3.1` has `usb` and `3.1`, and `500ml` has `500` and `ml`. A document is
//! found by its parts and by its chunks (`wifi`, `usb3.1`, `500ml`), and also by two neighboring parts that the shopper
//! writes together (`headphones` finds "head phones"). A query looks for the same forms
//! ([`QueryText`](super::query_text::QueryText)), so that it does not matter on which side words are split, joined or
//! hyphenated.

use std::collections::BTreeSet;

use icu_normalizer::DecomposingNormalizerBorrowed;

use super::language::Language;
use crate::text::fold;

/// A longer part is cut off, and longer chunks are not words, in documents and in queries.
pub(super) const LONGEST_WORD: usize = 64;
/// Symbols are part of a word of at most this many letters, as in `c++` and `f#`.
const LETTERS_BEFORE_SYMBOLS: usize = 2;
/// The most symbols at the end of a word.
const MOST_SYMBOLS: usize = 2;
/// The shortest part of a code that is searched by itself, such as `1552` of `LAN-1552`.
const SHORTEST_CODE_PART: usize = 3;
/// The most parts of a code from its beginning that are searched without the rest, such as `LAN-1552` of
/// `LAN-1552-BLK`.
const MOST_CODE_PARTS: usize = 8;

/// A piece of a text between white space or punctuation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The runs of letters and the numbers of the chunk; at least one.
    pub parts: Vec<Part>,
}

/// A run of letters, or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The letters or digits, folded and without accents. Letters may end with symbols, and a number may have a point.
    pub text: String,
    /// Whether nothing separates the part from the one before, as in `500ml`.
    pub is_glued: bool,
}

impl Part {
    /// Returns whether the part is a number.
    pub fn is_number(&self) -> bool {
        self.text.starts_with(char::is_numeric)
    }
}

impl Chunk {
    /// Returns the parts as one word, such as `wifi` for `Wi-Fi`. `None` if that would join two numbers to another one,
    /// as in `3-6`, or if the word is longer than any word of a document.
    pub fn joined(&self) -> Option<String> {
        let joins_numbers = self.parts.windows(2).any(|pair| pair[0].is_number() && pair[1].is_number());
        let joined = texts(&self.parts).collect::<String>();
        (!joins_numbers && joined.chars().count() <= LONGEST_WORD).then_some(joined)
    }

    /// Returns neighboring chunks as one.
    pub(super) fn of(chunks: &[Self]) -> Self {
        Self { parts: chunks.iter().flat_map(|chunk| chunk.parts.iter().cloned()).collect() }
    }

    /// Returns the parts between separators, such as `usb` with `3`, and `type`, for `USB3-Type`.
    pub fn groups(&self) -> impl Iterator<Item = &[Part]> {
        self.parts.chunk_by(|_, second| second.is_glued)
    }
}

/// Returns the number of words and numbers.
pub(super) fn count(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.parts.len()).sum()
}

/// Returns the texts of parts, in order.
pub(super) fn texts(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().map(|part| part.text.as_str())
}

/// Returns the chunks of a text.
pub fn chunks(text: &str) -> Vec<Chunk> {
    let chars: Vec<char> = plain(text).chars().collect();
    let mut cutter = Cutter::default();
    let mut i = 0;
    while i < chars.len() {
        i += cutter.take(&chars, i);
    }
    cutter.end_chunk();
    cutter.chunks
}

/// Returns the text folded, without accents, and with the ASCII forms of some letters, such as `o` for `ø`.
fn plain(text: &str) -> String {
    // Folding would make letters of the signs, and join a fraction with the number before it.
    let mut separated = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '™' | '℠' => separated.push(' '),
            '\u{bc}'..='\u{be}' | '\u{2150}'..='\u{215e}' => separated.extend([' ', c]),
            _ => separated.push(c),
        }
    }
    let folded = fold(&separated);
    let mut out = String::with_capacity(folded.len());
    for c in DecomposingNormalizerBorrowed::new_nfkd().normalize(&folded).chars() {
        match c {
            // The breve makes another letter, with which endings in Russian are written.
            '\u{306}' if out.ends_with('и') => {
                out.pop();
                out.push('й');
            }
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
    /// Whether nothing separates the current part from the one before.
    is_glued: bool,
    /// Whether a quotation has begun and not ended.
    is_quoted: bool,
    /// Whether commas separate the numbers since the last white space, as in `36,37,38`.
    is_list: bool,
}

impl Cutter {
    /// Takes the character at `i`, or several that belong together, and returns how many.
    fn take(&mut self, chars: &[char], i: usize) -> usize {
        let c = chars[i];
        let next = chars.get(i + 1).copied();
        let in_number = self.run == Some(Run::Digits);
        if c.is_whitespace() {
            self.end_chunk();
            self.is_list = false;
        } else if c.is_numeric() {
            self.push(c, Run::Digits);
        } else if c.is_alphanumeric() {
            self.push(c, Run::Letters);
        } else if let Some(length) = inch_sign(&chars[i..]).filter(|_| in_number && !self.is_quoted) {
            // 55" is 55 inch.
            self.end_part();
            self.is_glued = true;
            "inch".chars().for_each(|c| self.push(c, Run::Letters));
            self.end_chunk();
            return length;
        } else if matches!(c, '"' | '\u{201c}' | '\u{201d}' | '\u{201e}') {
            self.is_quoted = !self.is_quoted && c != '\u{201d}';
            self.end_chunk();
        } else if matches!(c, '\'' | '\u{2019}' | '\u{2032}') {
            // The apostrophe of "chef's" is no boundary, and that of 6'2" is one.
            if in_number {
                self.end_part();
            }
        } else if c == '.' && in_number && next.is_some_and(char::is_numeric) {
            self.push('.', Run::Digits);
        } else if c == ',' && in_number && next.is_some_and(char::is_numeric) {
            self.comma(&chars[i + 1..]);
        } else if matches!(c, '+' | '#') && self.takes_symbol(&chars[i..]) {
            self.part.push(c);
        } else if is_connector(c) && self.run.is_some() && next.is_some_and(char::is_alphanumeric) {
            self.end_part();
        } else {
            self.end_chunk();
        }
        1
    }

    fn push(&mut self, c: char, run: Run) {
        if self.run.is_some_and(|before| before != run) {
            self.end_part();
            self.is_glued = true;
        }
        self.run = Some(run);
        self.length += 1;
        if self.length <= LONGEST_WORD {
            self.part.push(c);
        }
    }

    /// Takes the comma between two digits: 1,000 is a thousand, 1,5 is one and a half, and 36,37,38 are three numbers.
    fn comma(&mut self, rest: &[char]) {
        let digits = rest.iter().take_while(|c| c.is_numeric()).count();
        let goes_on = rest.get(digits) == Some(&',') && rest.get(digits + 1).is_some_and(|c| c.is_numeric());
        self.is_list |= (goes_on && digits != 3) || self.part.contains('.');
        if self.is_list {
            self.end_chunk();
        } else if digits != 3 {
            self.push('.', Run::Digits);
        }
    }

    /// Returns whether the symbol at the beginning belongs to the word before it.
    fn takes_symbol(&self, rest: &[char]) -> bool {
        if self.run != Some(Run::Letters) || !self.chunk.parts.is_empty() {
            return false;
        }
        let letters = self.part.trim_end_matches(['+', '#']).chars().count();
        // A long run is not counted to its end for each of its symbols.
        let symbols = rest.iter().take(MOST_SYMBOLS + 1).take_while(|c| matches!(c, '+' | '#')).count();
        letters <= LETTERS_BEFORE_SYMBOLS
            && self.part.len() - self.part.trim_end_matches(['+', '#']).len() + symbols <= MOST_SYMBOLS
            && rest.get(symbols).is_none_or(|c| !c.is_alphanumeric())
    }

    fn end_part(&mut self) {
        if !self.part.is_empty() {
            self.chunk.parts.push(Part { text: std::mem::take(&mut self.part), is_glued: self.is_glued });
        }
        (self.length, self.run, self.is_glued) = (0, None, false);
    }

    fn end_chunk(&mut self) {
        self.end_part();
        if let [.., number, unit] = &mut *self.chunk.parts
            && number.is_number()
            && unit.is_glued
            && unit.text == "in"
        {
            "inch".clone_into(&mut unit.text);
        }
        if !self.chunk.parts.is_empty() {
            self.chunks.push(std::mem::take(&mut self.chunk));
        }
    }
}

/// Returns the number of characters of the sign for inches at the beginning, if there is one.
fn inch_sign(chars: &[char]) -> Option<usize> {
    match chars {
        ['"' | '\u{201d}' | '\u{2033}', ..] => Some(1),
        ['\'', '\'', ..] | ['\u{2032}', '\u{2032}', ..] | ['\u{2019}', '\u{2019}', ..] => Some(2),
        _ => None,
    }
}

/// Returns true for punctuation that connects the parts of a chunk if it stands between them.
const fn is_connector(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\u{2044}' | '_' | '/' | '.' | '&' | '+' | '#' | ':')
}

/// The words by which a field of a document is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldWords {
    /// The parts, and the chunks of several parts, in the order of the text.
    pub words: Vec<String>,
    /// The stems of `words`, in the same order.
    pub stems: Vec<String>,
    /// The stems of neighboring parts as one word, unless a chunk has this word.
    pub pairs: Vec<String>,
}

/// Which neighboring parts of a field are also words together. Two numbers never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// All, such as `headphones` of "head phones": for short texts.
    All,
    /// Only a number with a word, such as `500ml` of "500 ml": for long texts.
    Units,
}

impl FieldWords {
    /// Returns the words of a field of a document in this language.
    pub fn of(text: &str, pairs: Pairs, language: Language) -> Self {
        let chunks = chunks(text);
        let mut words = Vec::new();
        for chunk in &chunks {
            for part in &chunk.parts {
                words.push(part.text.clone());
                let letters = part.text.trim_end_matches(['+', '#']);
                if letters != part.text {
                    words.push(letters.to_owned());
                }
            }
            if chunk.parts.len() > 1 {
                words.extend(chunk.joined());
            }
            let groups = chunk.groups().filter(|group| group.len() > 1 && group.len() < chunk.parts.len());
            words.extend(groups.map(|g| texts(g).collect()).filter(|g: &String| g.chars().count() <= LONGEST_WORD));
        }
        let parts: Vec<&Part> = chunks.iter().flat_map(|chunk| &chunk.parts).collect();
        let joined = parts.iter().zip(parts.iter().skip(1)).filter(|(first, second)| {
            let numbers = [first, second].iter().filter(|part| part.is_number()).count();
            numbers == 1 || (numbers == 0 && pairs == Pairs::All)
        });
        let joined = joined.map(|(first, second)| format!("{}{}", first.text, second.text));
        let known: BTreeSet<&String> = words.iter().collect();
        let pairs = joined.filter(|pair| !known.contains(pair)).map(|pair| language.stem(&pair)).collect();
        let stems = words.iter().map(|word| language.stem(word)).collect();
        Self { words, stems, pairs }
    }
}

/// Returns the forms by which a code is found, without punctuation: as a whole, from its beginning to the end of a part
/// if that contains a number, and each part with a digit, of at least three characters. `LAN-1552-BLK` has the forms
/// `lan1552blk`, `lan1552` and `1552`.
pub fn code_forms(code: &str) -> Vec<String> {
    let parts: Vec<Part> = chunks(code).into_iter().flat_map(|chunk| chunk.parts).collect();
    let mut forms: Vec<String> = Vec::new();
    let mut add = |form: String| {
        if !form.is_empty() && !forms.contains(&form) {
            forms.push(form);
        }
    };
    add(code_form(texts(&parts)));
    let is_long = |form: &str| form.chars().any(char::is_numeric) && form.chars().count() >= SHORTEST_CODE_PART;
    for end in (1..parts.len().min(MOST_CODE_PARTS)).rev() {
        let form = code_form(texts(&parts[..end]));
        if is_long(&form) {
            add(form);
        }
    }
    for part in &parts {
        let form = code_form([part.text.as_str()]);
        if is_long(&form) {
            add(form);
        }
    }
    forms
}

/// Returns the letters and digits of a code or of a part of one.
pub(super) fn code_form<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().flat_map(str::chars).filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Describes chunks: parts are separated by spaces, or by `·` if they are glued.
    fn cut(text: &str) -> Vec<String> {
        let described = |chunk: &Chunk| {
            let parts = chunk.parts.iter().map(|p| format!("{}{}", if p.is_glued { "·" } else { " " }, p.text));
            parts.collect::<String>().trim_start().to_owned()
        };
        chunks(text).iter().map(described).collect()
    }

    #[test]
    fn words_are_cut_alike_however_they_are_written() {
        for (text, expected) in [
            ("Crème-Brûlée, the chef’s №5", &["creme brulee", "the", "chefs", "no·5"][..]),
            ("Cre\u{300}me x\u{328}y ''", &["creme", "xy"]),
            ("Wi-Fi T-Shirt e-reader", &["wi fi", "t shirt", "e reader"]),
            ("USB3.1 USB 3.1 usb-c", &["usb·3.1", "usb", "3.1", "usb c"]),
            ("500ml 500 ml 4K 3.", &["500·ml", "500", "ml", "4·k", "3"]),
            ("55\" 55″ 55'' 55in 10in1 6'2\"", &["55·inch", "55·inch", "55·inch", "55·inch", "10·in·1", "6 2·inch"]),
            ("\"iphone 13\" “13” 27\" \"X\"", &["iphone", "13", "13", "27·inch", "x"]),
            ("1,000 1,5 36,37,38 10,000,000", &["1000", "1.5", "36", "37", "38", "10000000"]),
            ("1½ Sony™ Dyson™ TV", &["1", "1 2", "sony", "dyson", "tv"]),
            ("LAN-1552 AB-1234/X", &["lan 1552", "ab 1234 x"]),
            ("C++ c# F# A+B AA+AAA rock+roll 18+ HD+", &["c++", "c#", "f#", "a b", "aa aaa", "rock roll", "18", "hd+"]),
            ("title:(a OR b)* AND \"c\"", &["title", "a", "or", "b", "and", "c"]),
            (" \"*:&&\" ", &[]),
            ("smørrebrød Łódź", &["smorrebrod", "lodz"]),
        ] {
            assert_eq!(cut(text), expected, "{text}");
        }
        assert_eq!(cut(&"x".repeat(500))[0].len(), LONGEST_WORD);
        assert_eq!(cut(&format!("c{}", "+".repeat(500))), ["c"], "too many symbols");
        assert_eq!(cut(&"#".repeat(1_000_000)), [""; 0], "in linear time");
    }

    #[test]
    fn a_field_is_found_by_its_parts_its_chunks_and_its_neighbors() {
        let found = FieldWords::of("Wi-Fi head phones", Pairs::All, Language::English);
        assert_eq!(found.words, ["wi", "fi", "wifi", "head", "phones"]);
        assert_eq!(found.stems, ["wi", "fi", "wifi", "head", "phone"]);
        assert_eq!(found.pairs, ["fihead", "headphon"]);
        let found = FieldWords::of("Head phones, 500 ml, c++, 3-6 usb3-type", Pairs::Units, Language::English);
        assert_eq!(
            found.words,
            ["head", "phones", "500", "ml", "c++", "c", "3", "6", "usb", "3", "type", "usb3type", "usb3"]
        );
        assert_eq!(found.pairs, ["phones500", "500ml", "c++3", "6usb", "3type"]);
        assert_eq!(FieldWords::of("", Pairs::All, Language::English), FieldWords::default());
        let long = FieldWords::of(&"a-".repeat(500), Pairs::All, Language::English);
        assert!(long.words.iter().chain(&long.pairs).all(|word| word.len() <= LONGEST_WORD));
    }

    #[test]
    fn inflections_have_one_stem() {
        let stem = |word| Language::English.stem(word);
        assert_eq!(stem("running"), "run");
        assert_eq!(stem("headphones"), stem("headphone"));
        assert_eq!(stem("batteries"), stem("battery"));
        assert_eq!(["", "x", "c++", "3.1", "ünder"].map(stem), ["", "x", "c++", "3.1", "ünder"]);
    }

    #[test]
    fn a_code_is_found_without_its_punctuation_by_its_beginning_and_by_its_numbers() {
        assert_eq!(code_forms("LAN-1552-BLK"), ["lan1552blk", "lan1552", "1552"]);
        assert_eq!(code_forms("4006381333931"), ["4006381333931"]);
        assert_eq!(code_forms("AB-1234/X"), ["ab1234x", "ab1234", "1234"]);
        assert_eq!(code_forms("Kit 7 Blue"), ["kit7blue", "kit7"]);
        assert_eq!(code_forms("AB#1234"), ["ab1234", "1234"]);
        assert_eq!(code_forms("A-12.345"), ["a12345", "12345"]);
        assert_eq!(code_forms("--"), [""; 0]);
    }
}
