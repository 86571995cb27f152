//! Marks the words of a text that a search has found.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::language::Language;
use super::query_text::{QueryText, Way, Word};
use super::text::{Chunk, chunks, texts};

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Whether the piece matches the query.
    pub is_match: bool,
}

/// Marks words as every search engine matches them, so that highlights are the same on each.
#[derive(Debug, Clone)]
pub struct Highlighter {
    language: Language,
    stems: HashSet<String>,
    codes: HashSet<String>,
    /// Words that may be mistyped or incomplete, with the [`letters`] of each.
    words: Vec<(Word, u32)>,
}

/// Only the beginning of a longer text is marked.
const LONGEST_TEXT: usize = 10_000;

/// A word between white space: its place in the text without punctuation around it, and its chunks.
struct Token {
    place: Range<usize>,
    chunks: Vec<Chunk>,
}

impl Highlighter {
    /// Returns a highlighter for the words of a query.
    pub fn of(text: &QueryText) -> Self {
        let mut all = Self { language: text.language, stems: HashSet::new(), codes: HashSet::new(), words: Vec::new() };
        let slots = text.slots.iter().filter(|slot| !slot.is_optional);
        for way in slots.flat_map(|slot| &slot.ways) {
            if let Way::Code(form) = way {
                all.codes.insert(form.clone());
            }
            for word in way.words() {
                all.stems.insert(word.stem.clone());
                let is_known = all.words.iter().any(|(known, _)| known == word);
                if (word.is_prefix || word.edits > 0) && !is_known {
                    all.words.push((word.clone(), letters(&word.text)));
                }
            }
        }
        all
    }

    /// Splits a text into pieces and marks those that match the query. Returns `None` if nothing matches. Only the
    /// first 10,000 bytes are read. If the text has more than `longest` bytes, the pieces are the excerpt of about that
    /// length with the most matches. It begins and ends between two words.
    pub fn mark(&self, text: &str, longest: usize) -> Option<Vec<Piece>> {
        let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
        let tokens = tokens(text);
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut found = vec![false; tokens.len()];
        for (i, token) in tokens.iter().enumerate() {
            found[i] |= *known.entry(&text[token.place.clone()]).or_insert_with(|| self.matches(&token.chunks));
            // Two words that were typed as one.
            if let Some(next) = tokens.get(i + 1) {
                let joined = Chunk::of(&[&*token.chunks, &next.chunks].concat()).joined();
                if joined.is_some_and(|joined| self.stems.contains(&self.language.stem(&joined))) {
                    (found[i], found[i + 1]) = (true, true);
                }
            }
        }
        if !found.contains(&true) {
            return None;
        }
        let excerpt = excerpt(&tokens, &found, text.len(), longest);
        let mut pieces: Vec<Piece> = Vec::new();
        let mut at = excerpt.start;
        let marked = tokens.iter().zip(&found).filter(|(_, found)| **found).map(|(token, _)| token.place.clone());
        for place in marked.filter(|place| place.start >= excerpt.start && place.end <= excerpt.end) {
            // The space between two matches belongs to them.
            let between = &text[at..place.start];
            match pieces.last_mut() {
                Some(last) if last.is_match && between.trim().is_empty() => {
                    last.text.push_str(between);
                    last.text.push_str(&text[place.clone()]);
                }
                _ => {
                    if !between.is_empty() {
                        pieces.push(Piece { text: between.to_owned(), is_match: false });
                    }
                    pieces.push(Piece { text: text[place.clone()].to_owned(), is_match: true });
                }
            }
            at = place.end;
        }
        let rest = &text[at..excerpt.end];
        if !rest.is_empty() {
            pieces.push(Piece { text: rest.to_owned(), is_match: false });
        }
        Some(pieces)
    }

    /// Whether the words of a token match a word of the query.
    fn matches(&self, chunks: &[Chunk]) -> bool {
        chunks.iter().any(|chunk| {
            let parts = chunk.parts.iter().map(|part| part.text.clone());
            let joined: String = texts(&chunk.parts).collect();
            self.codes.contains(&joined)
                || parts.chain([joined]).any(|own| {
                    self.stems.contains(&self.language.stem(&own))
                        || self.words.iter().any(|(word, has)| is_variant(word, *has, &own))
                })
        })
    }
}

/// Whether a word of a text begins with the word of the query, or differs in no more letters than it may.
fn is_variant(word: &Word, has: u32, own: &str) -> bool {
    (word.is_prefix && own.starts_with(&word.text))
        || (word.edits > 0
            // An edit changes two letters at most: this excludes most words, and costs little.
            && (has ^ letters(own)).count_ones() <= 2 * u32::from(word.edits)
            && own.chars().count().abs_diff(word.text.chars().count()) <= usize::from(word.edits)
            && strsim::osa_distance(&word.text, own) <= usize::from(word.edits))
}

/// Returns a bit for each letter of a word; some letters share one.
fn letters(word: &str) -> u32 {
    word.chars().fold(0, |bits, c| bits | 1 << (u32::from(c) % 32))
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let start = word.as_ptr().addr() - text.as_ptr().addr();
        let inner = word.trim_start_matches(|c: char| !c.is_alphanumeric());
        let start = start + word.len() - inner.len();
        let inner = inner.trim_end_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '+' | '#'));
        let chunks = chunks(inner);
        if !chunks.is_empty() {
            tokens.push(Token { place: start..start + inner.len(), chunks });
        }
    }
    tokens
}

/// Returns the part of a text with the most matches.
fn excerpt(tokens: &[Token], found: &[bool], length: usize, longest: usize) -> Range<usize> {
    if length <= longest {
        return 0..length;
    }
    let matches: Vec<&Range<usize>> =
        tokens.iter().zip(found).filter(|(_, found)| **found).map(|(token, _)| &token.place).collect();
    let within = |i: usize| matches[i..].iter().take_while(|place| place.end - matches[i].start <= longest).count();
    // Of several with as many, the first.
    let Some(best) = (0..matches.len()).max_by_key(|i| (within(*i), Reverse(*i))) else { return 0..0 };
    let first = matches[best];
    let last = matches[best + within(best).saturating_sub(1)];
    // A few words before the first match, so that it can be read in its sentence.
    let is_near = |start: usize| first.start - start <= longest / 4 && last.end.saturating_sub(start) <= longest;
    let starts = tokens.iter().map(|token| token.place.start).filter(|start| *start <= first.start);
    let start = starts.filter(|start| is_near(*start)).min().unwrap_or(first.start);
    let ends = tokens.iter().map(|token| token.place.end).filter(|end| *end >= last.end);
    start..ends.take_while(|end| end - start <= longest).last().unwrap_or(last.end)
}

#[cfg(test)]
mod tests {
    use super::super::synonyms::{Synonym, Synonyms};
    use super::*;

    fn marked(typed: &str, text: &str, longest: usize) -> String {
        let synonyms = Synonyms::new(&[Synonym::two_way(["sofa", "couch"])], Language::English);
        let query = QueryText::of(typed, &synonyms.unwrap());
        let pieces = Highlighter::of(&query).mark(text, longest).unwrap_or_default();
        pieces.iter().map(|p| if p.is_match { format!("[{}]", p.text) } else { p.text.clone() }).collect()
    }

    #[test]
    fn words_are_marked_as_searches_find_them() {
        for (typed, text, expected) in [
            ("lamp", "Desk Lamps, two", "Desk [Lamps], two"),
            ("lam", "Lamp", "[Lamp]"),
            ("hedphones", "(Headphones)", "([Headphones])"),
            ("headphones", "My head phones!", "My [head phones]!"),
            ("head phones", "Headphones", "[Headphones]"),
            ("wifi", "A Wi-Fi router", "A [Wi-Fi] router"),
            ("lan1552", "Code LAN-1552.", "Code [LAN-1552]."),
            ("red lamp", "Red lamp and redder lamb", "[Red lamp] and redder [lamb]"),
            ("couch", "Blue sofa", "Blue [sofa]"),
            ("case for iphone", "For an iPhone case", "For an [iPhone case]"),
            ("c++", "Learn C++ now", "Learn [C++] now"),
            ("creme", "Crème brûlée", "[Crème] brûlée"),
            ("chair", "Desk", ""),
            ("", "Desk", ""),
            ("lamp", "", ""),
        ] {
            assert_eq!(marked(typed, text, 1_000), expected, "{typed} in {text}");
        }
    }

    #[test]
    fn the_excerpt_of_a_long_text_has_the_most_matches() {
        let text =
            format!("{}lamp {}the red lamp of this shop. {}", "x ".repeat(300), "y ".repeat(300), "z ".repeat(300));
        let excerpt = marked("red lamp", &text, 60);
        assert!(excerpt.contains("y the [red lamp] of this shop"), "{excerpt}");
        assert!(excerpt.len() <= 62, "{excerpt}");
        assert_eq!(marked("lamp", &format!("{} lamp", "x".repeat(500)), 60), "[lamp]");
    }
}
