//! The language of a shop's texts: how its words are stemmed, and which of them are stop words.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use frostem::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};

use super::text::chunks;
use crate::error::{Error, FieldCode};

/// Defines the languages: the name, the code (ISO 639-1), and the algorithm of the Snowball project that stems words.
macro_rules! languages {
    ($($(#[$meta:meta])* $name:ident = $code:literal by $algorithm:ident,)*) => {
        /// The language of titles, descriptions and searches of a shop. It decides how words are stemmed, and which
        /// words are optional in a search.
        ///
        /// Words are folded and lose their accents before they are stemmed, so that `café` and `cafe` find each other.
        /// A shop has one language ([`ShopConfig::search_language`](crate::config::ShopConfig::search_language)). If it
        /// changes, the index is rebuilt.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Language {
            $(#[doc = concat!("`", $code, "`")] $(#[$meta])* #[serde(rename = $code)] $name,)*
        }

        impl Language {
            /// All languages.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the code of the language by ISO 639-1, such as `en`.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            const fn algorithm(self) -> Algorithm {
                match self {
                    $(Self::$name => Algorithm::$algorithm,)*
                }
            }
        }
    };
}

languages! {
    Arabic = "ar" by Arabic,
    Catalan = "ca" by Catalan,
    Danish = "da" by Danish,
    Dutch = "nl" by Dutch,
    #[default] English = "en" by English,
    Finnish = "fi" by Finnish,
    French = "fr" by French,
    German = "de" by German,
    Greek = "el" by Greek,
    Hungarian = "hu" by Hungarian,
    Indonesian = "id" by Indonesian,
    Italian = "it" by Italian,
    Norwegian = "no" by Norwegian,
    Portuguese = "pt" by Portuguese,
    Romanian = "ro" by Romanian,
    Russian = "ru" by Russian,
    Spanish = "es" by Spanish,
    Swedish = "sv" by Swedish,
    Turkish = "tr" by Turkish,
}

/// The English words that are optional in a search. The list is short, because many longer lists contain words that
/// products are named after.
const ENGLISH: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "her", "him", "his", "i", "in", "is", "it", "my",
    "of", "on", "or", "our", "the", "to", "with", "your",
];

/// The optional words of each language, as they are cut from texts. Those of other languages than English come from
/// NLTK.
static STOP_WORDS: LazyLock<HashMap<Language, HashSet<String>>> = LazyLock::new(|| {
    let of = |language: &Language| {
        let words = match language {
            Language::English => ENGLISH,
            other => stop_words::lookup(other.code()).unwrap_or_default(),
        };
        let single = |word: &&str| match &*chunks(word) {
            [chunk] => chunk.joined(),
            _ => None,
        };
        (*language, words.iter().filter_map(single).collect())
    };
    Language::ALL.iter().map(of).collect()
});

impl Language {
    /// Returns the stem of a folded word, by the algorithm of the Snowball project for the language (Porter 2 for
    /// English).
    pub fn stem(self, word: &str) -> String {
        Stemmer::new(self.algorithm()).stem(word).into_owned()
    }

    /// Returns whether a folded word is one of those that are optional in a search unless it has no others, such as
    /// `for` in "sneakers for kids".
    pub fn is_stop_word(self, word: &str) -> bool {
        STOP_WORDS.get(&self).is_some_and(|words| words.contains(word))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Language {
    type Err = Error;

    /// Reads the code of a language, such as `en`.
    fn from_str(code: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|language| language.code() == code).ok_or_else(|| {
            let codes: Vec<&str> = Self::ALL.iter().map(|language| language.code()).collect();
            Error::invalid("language", FieldCode::OutOfBounds, format!("must be one of {}", codes.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::{FieldWords, Pairs};
    use super::*;

    #[test]
    fn each_language_stems_its_words_and_has_optional_ones() {
        for (language, one, many, optional) in [
            (Language::English, "lamp", "lamps", "for"),
            (Language::German, "lampe", "lampen", "fur"),
            (Language::French, "lampe", "lampes", "pour"),
            (Language::Spanish, "lampara", "lamparas", "para"),
            (Language::Dutch, "lamp", "lampen", "voor"),
            (Language::Swedish, "lampa", "lampor", "och"),
            (Language::Russian, "лампа", "лампы", "для"),
            (Language::Russian, "красный", "красная", "для"),
        ] {
            let stems = |word: &str| FieldWords::of(word, Pairs::All, language).stems;
            assert_eq!(stems(one), stems(many), "{language}");
            assert!(language.is_stop_word(optional), "{language}: {optional}");
            assert!(!language.is_stop_word(one), "{language}: {one}");
        }
        for language in Language::ALL {
            assert!(STOP_WORDS[language].len() > 20, "{language}");
            assert_eq!(language.code().parse::<Language>().unwrap(), *language);
        }
        assert_ne!(Language::English.stem("lampen"), Language::English.stem("lampe"));
    }

    #[test]
    fn an_unknown_language_is_refused() {
        let error = "tlh".parse::<Language>().unwrap_err();
        assert!(error.to_string().contains("en"), "{error}");
    }
}
