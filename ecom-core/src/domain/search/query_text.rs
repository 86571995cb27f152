//! The text of a query, parsed into words with the ways in which a document can match each. Every search engine gets
//! the same ways.

use super::language::Language;
use super::synonyms::Synonyms;
use super::text::{Chunk, FieldWords, chunks, code_form, texts};

/// The most neighbors that are also read as one code, as `ab 1234 x` is.
const CODE_CHUNKS: usize = 3;
/// The shortest last part of a word such as `head-pho` that may be the beginning of a longer one.
const SHORTEST_PREFIX: usize = 3;

/// The text of a query, as words that a document must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryText {
    /// The words, in the order in which they were typed. A document matches the text if it matches each of them that is
    /// required, in any of its ways.
    pub slots: Vec<Slot>,
    /// The language of the words.
    pub language: Language,
}

/// A word of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The ways in which a document can match the word; at least one.
    pub ways: Vec<Way>,
    /// Whether a document can match the text without this word, such as "for" in "sneakers for kids". A match still
    /// increases the score.
    pub is_optional: bool,
}

/// A way in which a document can match a word of a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// A field has the word.
    Word(Word),
    /// The document has all of these words, which the shopper connected: `red` and `blue` for `red/blue`.
    All(Vec<Word>),
    /// A field has the word that this one and a neighbor are together: `keyboard` for "key board". Both slots have this
    /// way.
    Joined(Word),
    /// A code of the document has this form ([`code_forms`](super::text::code_forms)). If the form is that of several
    /// words, each of their slots has this way.
    Code(String),
    /// One field of the document has all of these words, which are a synonym: `mobile` and `phone` for "cell phone". If
    /// the synonym stands for several words of the query, each of their slots has this way.
    Synonym(Vec<Word>),
}

impl Way {
    /// Returns the words that a document must have; none for a code.
    pub fn words(&self) -> &[Word] {
        match self {
            Self::Word(word) | Self::Joined(word) => std::slice::from_ref(word),
            Self::All(words) | Self::Synonym(words) => words,
            Self::Code(_) => &[],
        }
    }

    fn words_mut(&mut self) -> &mut [Word] {
        match self {
            Self::Word(word) | Self::Joined(word) => std::slice::from_mut(word),
            Self::All(words) | Self::Synonym(words) => words,
            Self::Code(_) => &mut [],
        }
    }
}

/// A word with what may differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word {
    /// The word, folded and without accents.
    pub text: String,
    /// The stem of the word.
    pub stem: String,
    /// How many letters may be missing, added, replaced or swapped with a neighbor.
    pub edits: u8,
    /// Whether the word may be the beginning of a longer one.
    pub is_prefix: bool,
}

impl Word {
    fn of(text: String, is_prefix: bool, language: Language) -> Self {
        Self { edits: edits_allowed(&text), ..Self::exactly(text, is_prefix, language) }
    }

    /// Returns a word that is not mistyped.
    pub(super) fn exactly(text: String, is_prefix: bool, language: Language) -> Self {
        Self { stem: language.stem(&text), text, edits: 0, is_prefix }
    }
}

/// Returns how many edits a word may have: one from 4 letters on, two from 8 on, and none if it has a digit or a
/// symbol, which are never typed by mistake for another.
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

/// The most words of synonyms in one query, so that its cost has a bound.
const MOST_SYNONYMS: usize = 200;

impl QueryText {
    /// Reads the text of a query in the language of the synonyms. The last word may be the beginning of a longer one.
    pub fn of(text: &str, synonyms: &Synonyms) -> Self {
        Self::of_chunks(&chunks(text), synonyms)
    }

    /// As [`Self::of`], of the chunks of a text.
    pub(crate) fn of_chunks(chunks: &[Chunk], synonyms: &Synonyms) -> Self {
        let language = synonyms.language();
        let last = chunks.len().saturating_sub(1);
        let mut slots: Vec<Slot> =
            chunks.iter().enumerate().map(|(i, chunk)| Slot::of(chunk, i == last, language)).collect();
        if slots.iter().all(|slot| slot.is_optional) {
            for slot in &mut slots {
                slot.is_optional = false;
            }
        }
        for (at, pair) in chunks.windows(2).enumerate() {
            let Some(joined) = Chunk::of(pair).joined() else { continue };
            let joined = Word::exactly(joined, at + 1 == last, language);
            for slot in &mut slots[at..at + 2] {
                slot.ways.push(Way::Joined(joined.clone()));
            }
        }
        for length in 1..=CODE_CHUNKS.max(chunks.len()) {
            // Long texts are read as one code only as a whole.
            if length > CODE_CHUNKS && length != chunks.len() {
                continue;
            }
            for (at, run) in chunks.windows(length).enumerate() {
                let form = code_form(run.iter().flat_map(|chunk| texts(&chunk.parts)));
                if length == 1 || length == chunks.len() || form.chars().any(char::is_numeric) {
                    for slot in &mut slots[at..at + length] {
                        slot.ways.push(Way::Code(form.clone()));
                    }
                }
            }
        }
        let mut left = MOST_SYNONYMS;
        for found in synonyms.find(chunks) {
            for words in &found.ways {
                let needed = words.len() * found.at.len();
                if needed > left {
                    break;
                }
                left -= needed;
                for slot in &mut slots[found.at.clone()] {
                    slot.ways.push(Way::Synonym(words.clone()));
                }
            }
        }
        Self { slots, language }
    }

    /// Leaves out typing errors, incomplete words and words that are optional.
    pub(crate) fn exactly(&mut self) {
        self.slots.retain(|slot| !slot.is_optional);
        for word in self.slots.iter_mut().flat_map(|slot| &mut slot.ways).flat_map(Way::words_mut) {
            (word.edits, word.is_prefix) = (0, false);
        }
    }

    /// Returns whether a name has all words that are required, each in one of its ways, without typing errors.
    pub fn is_in(&self, name: &FieldWords) -> bool {
        let mut required = self.slots.iter().filter(|slot| !slot.is_optional);
        !self.slots.is_empty() && required.all(|slot| slot.is_in(name))
    }

    /// Returns how many required words a document must have to be listed after the matches: half of them, rounded up.
    /// Returns `None` if fewer than two words are required.
    pub fn fewer_words(&self) -> Option<usize> {
        let required = self.slots.iter().filter(|slot| !slot.is_optional).count();
        (required > 1).then_some(required.div_ceil(2))
    }
}

impl Slot {
    fn is_in(&self, name: &FieldWords) -> bool {
        let has = |word: &Word, split: bool| {
            name.stems.contains(&word.stem)
                || (split && name.pairs.contains(&word.stem))
                || (word.is_prefix && name.words.iter().any(|own| own.starts_with(&word.text)))
        };
        self.ways.iter().any(|way| match way {
            Way::Word(word) => has(word, true),
            Way::Joined(word) => has(word, false),
            Way::All(words) | Way::Synonym(words) => words.iter().all(|word| has(word, true)),
            Way::Code(_) => false,
        })
    }

    fn of(chunk: &Chunk, is_last: bool, language: Language) -> Self {
        let mut ways = Vec::new();
        if let Some(joined) = chunk.joined() {
            ways.push(Way::Word(Word::of(joined, is_last, language)));
        }
        // Documents have no word of three parts unless they are written together, but each two neighbors as a word.
        let mut words: Vec<Word> = chunk
            .groups()
            .flat_map(|group| group.windows(group.len().min(2)))
            .map(|parts| Word::of(texts(parts).collect(), false, language))
            .collect();
        if words.len() > 1 {
            if let Some(word) = words.last_mut() {
                word.is_prefix = is_last && word.text.chars().count() >= SHORTEST_PREFIX;
            }
            ways.push(Way::All(words));
        }
        let is_optional = matches!(&*chunk.parts, [part] if language.is_stop_word(&part.text));
        Self { ways, is_optional }
    }
}

#[cfg(test)]
mod tests {
    use super::super::synonyms::Synonym;
    use super::*;

    /// Describes the ways of each word: `*` marks a prefix, `~` each edit, `=` a code, `+` a joined word.
    fn ways(text: &str) -> Vec<String> {
        let word = |w: &Word| format!("{}{}{}", w.text, "~".repeat(w.edits.into()), if w.is_prefix { "*" } else { "" });
        let way = |way: &Way| match way {
            Way::Word(w) => word(w),
            Way::All(all) => all.iter().map(word).collect::<Vec<_>>().join("&"),
            Way::Joined(w) => format!("+{}", word(w)),
            Way::Code(form) => format!("={form}"),
            Way::Synonym(all) => format!("@{}", all.iter().map(word).collect::<Vec<_>>().join("&")),
        };
        let slot = |slot: &Slot| {
            let ways: Vec<String> = slot.ways.iter().map(way).collect();
            format!("{}{}", ways.join(" "), if slot.is_optional { "?" } else { "" })
        };
        let synonyms = Synonyms::new(
            &[
                Synonym::two_way(["cell phone", "mobile-phone", "handy"]),
                Synonym::one_way("tablet", ["iPad"]),
                Synonym::two_way(["t-shirt", "tee"]),
            ],
            Language::English,
        );
        QueryText::of(text, &synonyms.unwrap()).slots.iter().map(slot).collect()
    }

    #[test]
    fn words_and_phrases_have_synonyms() {
        assert_eq!(
            ways("cellphones black"),
            [
                "cellphones~~ +cellphonesblack* =cellphones =cellphonesblack @mobilephone @handy",
                "black~* +cellphonesblack* =black =cellphonesblack"
            ]
        );
        assert_eq!(ways("handy"), ["handy~* =handy @cell&phone @cellphone @mobilephone"]);
        assert_eq!(
            ways("Tee-Shirt T Shirt")[1..],
            ["t +teeshirtt +tshirt* =t =teeshirttshirt @tee", "shirt~* +tshirt* =shirt =teeshirttshirt @tee"]
        );
        assert_eq!(ways("tablets"), ["tablets~* =tablets @ipad"]);
        assert_eq!(ways("ipad"), ["ipad~* =ipad"], "one-way");
    }

    #[test]
    fn a_word_matches_as_it_is_typed_with_errors_and_as_a_code() {
        assert_eq!(ways("lamp"), ["lamp~* =lamp"]);
        assert_eq!(ways("headphones"), ["headphones~~* =headphones"]);
        assert_eq!(ways("LAN-1552"), ["lan1552* lan&1552* =lan1552"]);
        assert_eq!(ways("AB#12"), ["ab12* ab&12 =ab12"]);
        assert_eq!(ways(""), [""; 0]);
        assert_eq!(ways("* :"), [""; 0]);
    }

    #[test]
    fn words_match_joined_and_split() {
        assert_eq!(ways("key board"), ["key +keyboard* =key =keyboard", "board~* +keyboard* =board =keyboard"]);
        assert_eq!(ways("wi-fi"), ["wifi~* wi&fi =wifi"]);
        assert_eq!(ways("usb 3.1"), ["usb +usb3.1* =usb =usb31", "3.1* +usb3.1* =31 =usb31"]);
        assert_eq!(ways("usb3.1"), ["usb3.1* =usb31"]);
        assert_eq!(ways("iphone13pro"), ["iphone13pro* iphone13&13pro* =iphone13pro"]);
    }

    #[test]
    fn numbers_are_not_joined() {
        assert_eq!(ways("1 2"), ["1 =1 =12", "2* =2 =12"]);
        assert_eq!(ways("16:9"), ["16&9 =169"]);
    }

    #[test]
    fn words_without_meaning_are_optional_unless_there_are_no_others() {
        assert_eq!(
            QueryText::of("sneakers for kids", &Synonyms::default())
                .slots
                .iter()
                .map(|s| s.is_optional)
                .collect::<Vec<_>>(),
            [false, true, false]
        );
        assert_eq!(
            QueryText::of("the of", &Synonyms::default()).slots.iter().map(|s| s.is_optional).collect::<Vec<_>>(),
            [false, false]
        );
    }

    #[test]
    fn edits_grow_with_letters() {
        assert_eq!(["abc", "abcd", "abcdefg", "abcdefgh", "20242024", "a2024"].map(edits_allowed), [0, 1, 1, 2, 0, 0]);
    }
}
