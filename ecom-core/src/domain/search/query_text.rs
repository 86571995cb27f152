//! What a shopper types, as the ways in which a document can match it. Every search engine gets the same ways.

use super::text::{Chunk, chunks};

/// Words that a query needs only if it has no others.
const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "i", "in", "is", "it", "my", "of", "on", "or",
    "the", "to", "with", "your",
];
/// The most neighbours that are also read as one code, as `ab 1234 x` is.
const CODE_CHUNKS: usize = 3;

/// The text of a query, as words that a document must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryText {
    /// The words, in the order in which they were typed. A document matches the text if it matches each of them that is
    /// required, in any of its ways.
    pub slots: Vec<Slot>,
}

/// A word of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// The ways in which a document can match the word; at least one.
    pub ways: Vec<Way>,
    /// Whether a document can match the text without this word, such as "for" in "sneakers for kids". A match still
    /// increases the score.
    pub is_optional: bool,
}

/// A way in which a document can match a word of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A field has the word.
    Word(Word),
    /// The document has all of these words, which the shopper wrote together: `usb` and `3.1` for `usb3.1`.
    All(Vec<Word>),
    /// A field has the word that this one and a neighbour are together: `keyboard` for "key board". It is a way of both.
    Joined(Word),
    /// A code of the document has this form ([`super::text::code_forms`]). It is a way of this number of words.
    Code {
        /// The form.
        form: String,
        /// How many words of the query it stands for.
        words: usize,
    },
}

/// A word with what may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word, folded and without accents.
    pub text: String,
    /// How many letters may be missing, added, replaced or swapped with a neighbour.
    pub edits: u8,
    /// Whether the word may be the beginning of a longer one.
    pub is_prefix: bool,
}

impl Word {
    fn of(text: String, is_prefix: bool) -> Self {
        let edits = edits_allowed(&text);
        Self { text, edits, is_prefix }
    }

    fn exactly(text: String, is_prefix: bool) -> Self {
        Self { text, edits: 0, is_prefix }
    }
}

/// Returns how many edits a word may have: one from 4 letters on, two from 8 on, and none if it has a digit or a symbol,
/// which are never typed by mistake for another.
fn edits_allowed(word: &str) -> u8 {
    if !word.chars().all(char::is_alphabetic) {
        return 0;
    }
    match word.chars().count() {
        0..4 => 0,
        4..8 => 1,
        _ => 2,
    }
}

impl QueryText {
    /// Reads the text of a query. The last word may be the beginning of a longer one.
    pub fn of(text: &str) -> Self {
        let chunks = chunks(text);
        let mut slots: Vec<Slot> =
            chunks.iter().enumerate().map(|(i, chunk)| Slot::of(chunk, i + 1 == chunks.len())).collect();
        if slots.iter().all(|slot| slot.is_optional) {
            for slot in &mut slots {
                slot.is_optional = false;
            }
        }
        for (at, pair) in chunks.windows(2).enumerate() {
            let joined = Word::exactly(pair.iter().map(Chunk::joined).collect(), at + 2 == chunks.len());
            for slot in &mut slots[at..at + 2] {
                slot.ways.push(Way::Joined(joined.clone()));
            }
        }
        for length in 2..=CODE_CHUNKS.max(chunks.len()) {
            // Long texts are read as one code only as a whole.
            if length > CODE_CHUNKS && length != chunks.len() {
                continue;
            }
            for (at, run) in chunks.windows(length).enumerate() {
                let form: String = run.iter().map(Chunk::joined).collect();
                if form.chars().any(char::is_numeric) || length == chunks.len() {
                    for slot in &mut slots[at..at + length] {
                        slot.ways.push(Way::Code { form: form.clone(), words: length });
                    }
                }
            }
        }
        Self { slots }
    }

    /// Returns how many of the required words a document has at least that is listed after the matches: a half of them,
    /// rounded up. `None` if there are too few words.
    pub fn fewer_words(&self) -> Option<usize> {
        let required = self.slots.iter().filter(|slot| !slot.is_optional).count();
        (required > 1).then_some(required.div_ceil(2))
    }
}

impl Slot {
    fn of(chunk: &Chunk, is_last: bool) -> Self {
        let joined = chunk.joined();
        let is_optional = STOP_WORDS.contains(&joined.as_str());
        let mut ways = vec![Way::Word(Word::of(joined.clone(), is_last))];
        if let [first @ .., last] = &*chunk.parts
            && !first.is_empty()
        {
            let mut words: Vec<Word> = first.iter().map(|part| Word::of(part.clone(), false)).collect();
            words.push(Word::of(last.clone(), is_last));
            ways.push(Way::All(words));
        }
        ways.push(Way::Code { form: joined, words: 1 });
        Self { ways, is_optional }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Describes the ways of each word: `*` marks a prefix, `~` each edit, `=` a code, `+` a joined word.
    fn ways(text: &str) -> Vec<String> {
        let word = |w: &Word| format!("{}{}{}", w.text, "~".repeat(w.edits.into()), if w.is_prefix { "*" } else { "" });
        let way = |way: &Way| match way {
            Way::Word(w) => word(w),
            Way::All(all) => all.iter().map(word).collect::<Vec<_>>().join("&"),
            Way::Joined(w) => format!("+{}", word(w)),
            Way::Code { form, .. } => format!("={form}"),
        };
        let slot = |slot: &Slot| {
            let ways: Vec<String> = slot.ways.iter().map(way).collect();
            format!("{}{}", ways.join(" "), if slot.is_optional { "?" } else { "" })
        };
        QueryText::of(text).slots.iter().map(slot).collect()
    }

    #[test]
    fn a_word_matches_as_it_is_typed_with_errors_and_as_a_code() {
        assert_eq!(ways("lamp"), ["lamp~* =lamp"]);
        assert_eq!(ways("headphones"), ["headphones~~* =headphones"]);
        assert_eq!(ways("LAN-1552"), ["lan1552* lan&1552* =lan1552"]);
        assert_eq!(ways(""), [""; 0]);
        assert_eq!(ways("* :"), [""; 0]);
    }

    #[test]
    fn words_match_joined_and_split() {
        assert_eq!(ways("key board"), ["key =key +keyboard* =keyboard", "board~* =board +keyboard* =keyboard"]);
        assert_eq!(ways("wi-fi"), ["wifi~* wi&fi* =wifi"]);
        assert_eq!(ways("usb 3.1"), ["usb =usb +usb3.1* =usb3.1", "3.1* =3.1 +usb3.1* =usb3.1"]);
    }

    #[test]
    fn words_without_meaning_are_optional_unless_there_are_no_others() {
        assert_eq!(
            QueryText::of("sneakers for kids").slots.iter().map(|s| s.is_optional).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(QueryText::of("the of").slots.iter().map(|s| s.is_optional).collect::<Vec<_>>(), [false, false]);
    }

    #[test]
    fn edits_grow_with_letters() {
        assert_eq!(["abc", "abcd", "abcdefg", "abcdefgh", "20242024", "a2024"].map(edits_allowed), [0, 1, 1, 2, 0, 0]);
    }
}
