//! Texts are searched by word, with stems, typing errors, prefixes and codes.

use std::collections::BTreeSet;

use super::SearchFixture;
use super::support::{
    applies, at, finds, has_text, hits, hits_are, load, named, numbers, search, search_for, set, split_hits, strings,
    text, titled, upsert,
};
use crate::domain::search::language::Language;
use crate::domain::search::query::{SearchQuery, SearchRequest};
use crate::domain::search::synonyms::Synonyms;
use crate::port::search::{SearchDocument, SearchProvider};
use crate::testkit::check::same;

tests! {
    __search_text: [
        every_text_field_is_searched,
        all_words_must_match_in_any_field,
        fields_weigh_in_the_order_of_the_document,
        exact_matches_rank_above_typos_and_prefixes,
        words_are_stemmed,
        words_are_stemmed_in_the_language_of_the_document,
        typos_one_edit_from_four_letters_two_from_eight,
        prefix_matches_the_last_word_only,
        accents_and_case_do_not_matter,
        codes_match_with_and_without_punctuation,
        words_match_split_joined_and_hyphenated,
        numbers_match_with_and_without_their_units,
        symbols_are_part_of_short_words,
        long_texts_are_searched_to_their_end,
        partial_matches_follow_if_full_matches_do_not_fill_a_page,
        words_without_meaning_count_little,
        user_text_is_never_a_query_language,
    ]
}

/// The title, brand, tags, category names, codes and description are searched. An empty text matches all documents.
pub async fn every_text_field_is_searched(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "Title, brand, tags, category names, codes and description are searched, and an empty text \
                    matches everything.";
    load(
        provider,
        vec![
            titled(1, "Walnut desk"),
            SearchDocument { brand: Some("Nordholm".into()), ..titled(2, "Chair") },
            SearchDocument { tags: strings(["ergonomic", "office"]), ..titled(3, "Chair") },
            SearchDocument { categories: named(["Armchairs", "Furniture"]), ..titled(4, "Chair") },
            SearchDocument { codes: strings(["QX777"]), ..titled(5, "Chair") },
            SearchDocument { description: Some("Covered in corduroy.".into()), ..titled(6, "Chair") },
        ],
    )
    .await;
    for (typed, n) in [("walnut", 1), ("nordholm", 2), ("office", 3), ("furniture", 4), ("qx777", 5), ("corduroy", 6)] {
        finds(provider, typed, [n], contract).await;
    }
    finds(provider, "", [1, 2, 3, 4, 5, 6], contract).await;
    finds(provider, " \t ", [1, 2, 3, 4, 5, 6], contract).await;
    finds(provider, "unheard", [], contract).await;
}

/// Every word must match, in any field.
pub async fn all_words_must_match_in_any_field(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "A hit matches every word of the text, each in any field.";
    load(
        provider,
        vec![
            SearchDocument { brand: Some("Acme".into()), ..titled(1, "Kettle green") },
            SearchDocument { brand: Some("Borea".into()), ..titled(2, "Kettle green") },
            SearchDocument {
                brand: Some("Acme".into()),
                description: Some("For a kettle.".into()),
                ..titled(3, "Lid")
            },
        ],
    )
    .await;
    finds(provider, "acme kettle", [1, 3], contract).await;
    finds(provider, "kettle acme green", [1], contract).await;
    finds(provider, "kettle acme purple", [], contract).await;
}

/// The weights decrease from the title to the brand, tags, category names, codes and description.
pub async fn fields_weigh_in_the_order_of_the_document(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "A match in the title ranks above one in the brand, then tags, category names, codes and \
                    description.";
    // The ids have the reverse order, and the texts of weak matches are short and those of strong ones long.
    let long = "of a rather long text that goes on and on about other things";
    load(
        provider,
        vec![
            SearchDocument { description: Some("Zephyr zephyr zephyr".into()), ..titled(1, "Thing") },
            SearchDocument { codes: strings(["ZEPHYR"]), ..titled(2, "Thing") },
            SearchDocument { categories: named(["Zephyr"]), ..titled(3, "Thing") },
            SearchDocument { tags: strings(["zephyr"]), ..titled(4, "Thing") },
            SearchDocument { brand: Some(format!("Zephyr {long}")), ..titled(5, "Thing") },
            titled(6, &format!("Zephyr {long}")),
        ],
    )
    .await;
    hits_are(provider, &text("zephyr"), [6, 5, 4, 3, 2, 1], contract).await;
}

/// An exact match ranks above a similar one, in whichever fields they are.
pub async fn exact_matches_rank_above_typos_and_prefixes(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Camela"),
            SearchDocument { description: Some("A bag for any camera you may have.".into()), ..titled(2, "Bag") },
            titled(3, "Cameraman"),
            titled(4, "Camera"),
            titled(5, "Camera and lens with strap and more"),
        ],
    )
    .await;
    let found = hits(provider, &text("camera")).await;
    let about = format!("the hits of the text \"camera\": {found:?}");
    let (titles, rest) = found.split_at(found.len().min(2));
    same(
        titles,
        [4, 5],
        "Exact matches in a title rank first, those in a shorter title above those in a longer one.",
        &about,
    );
    let (description, similar) = rest.split_at(rest.len().min(1));
    let contract = "An exact match in a description ranks above a match by typo or prefix in a title.";
    same(description, [2], contract, &about);
    let similar: BTreeSet<u128> = similar.iter().copied().collect();
    same(
        similar,
        set([1, 3]),
        "A search also finds words with a typo, and words that begin with the last word of the text.",
        &about,
    );
}

/// The document says in which language its words are stemmed, and the request says it of the query.
pub async fn words_are_stemmed_in_the_language_of_the_document(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text in other languages").await {
        return;
    }
    let of = |n, title: &str, language| SearchDocument { language, ..titled(n, title) };
    let documents = vec![
        of(1, "Spielzeug für Kinder", Language::German),
        of(2, "Selles pour chevaux", Language::French),
        of(3, "Kinder und chevaux", Language::English),
    ];
    load(provider, documents).await;
    let contract = "Words match by their stems in the language of the document and of the request.";
    for (language, typed, expected) in [
        (Language::German, "kindes", vec![1]),
        (Language::French, "cheval", vec![2]),
        (Language::English, "cheval", vec![2]),
        (Language::English, "kinders", vec![3]),
    ] {
        let query = SearchQuery { text: typed.to_owned(), ..SearchQuery::default() };
        // This request allows no typing errors, which would match as well.
        let request = SearchRequest::new(query, &Synonyms::none(language)).expect("a query within the bounds");
        let found = numbers(&search_for(provider, &request.for_any_word()).await);
        same(found, expected, contract, format_args!("the text {typed:?} in the language {language}"));
    }
}

/// Inflected forms of an English word match each other.
pub async fn words_are_stemmed(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "English inflections of a word match each other.";
    load(provider, vec![titled(1, "Running shoes"), titled(2, "Chef's knives, boxes")]).await;
    for typed in ["run shoe", "runs shoes", "running SHOE"] {
        finds(provider, typed, [1], contract).await;
    }
    for typed in ["box chef", "chefs boxes", "boxed chef's", "chef\u{2019}s box"] {
        finds(provider, typed, [2], contract).await;
    }
}

/// No edit is allowed below 4 letters, one from 4, and two from 8. Two swapped neighbours are one edit.
pub async fn typos_one_edit_from_four_letters_two_from_eight(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "A word of less than 4 letters matches without edits, one of 4 or more with one edit, and one \
                    of 8 or more with two. Swapped neighbours are one edit.";
    load(provider, vec![titled(1, "cup"), titled(2, "lamp"), titled(3, "blanket"), titled(4, "keyboard")]).await;
    for (typed, n) in [
        ("cup", 1),
        ("lemp", 2),
        ("lapm", 2),
        ("laamp", 2),
        ("blankat", 3),
        ("lanket", 3),
        ("keyboord", 4),
        ("kayboord", 4),
        ("keyboardxx", 4),
    ] {
        finds(provider, typed, [n], contract).await;
    }
    for typed in ["cop", "cpu", "lemb", "blenkat", "kayboort"] {
        finds(provider, typed, [], contract).await;
    }
    finds(provider, "lemp cup", [], contract).await;
}

/// Only the last word can be incomplete.
pub async fn prefix_matches_the_last_word_only(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "Only the last word of the text may be incomplete.";
    load(provider, vec![titled(1, "Wireless headphones"), titled(2, "Wired headset")]).await;
    finds(provider, "wireless headp", [1], contract).await;
    finds(provider, "head", [1, 2], contract).await;
    finds(provider, "h", [1, 2], contract).await;
    finds(provider, "headp wireless", [], contract).await;
    finds(provider, "eadphon", [], contract).await;
}

/// Accents, composed or not, and case are ignored in documents and in queries.
pub async fn accents_and_case_do_not_matter(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "Accents, composed or not, and case are ignored in documents and in queries.";
    load(
        provider,
        vec![
            titled(1, "Crème brûlée"),
            titled(2, "CREME BRULEE dish"),
            titled(3, "Cre\u{300}me bru\u{302}le\u{301}e cup"),
        ],
    )
    .await;
    for typed in ["creme brulee", "Crème Brûlée", "CRÈME BRÛLÉE", "cre\u{300}me brule\u{301}e"] {
        finds(provider, typed, [1, 2, 3], contract).await;
    }
}

/// A code or barcode matches in any case, with and without its punctuation, and without typing errors. Its beginning up
/// to a number matches, and so does a number in it.
pub async fn codes_match_with_and_without_punctuation(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "A code matches as a whole, in any case, with and without punctuation, by its beginning that ends with \
                    or after a number, and by a part with a digit and at least three characters; never by another part \
                    or with a typo.";
    load(
        provider,
        vec![
            SearchDocument { codes: strings(["AB-1234/X", "4006381333931"]), ..titled(1, "Lamp") },
            SearchDocument { codes: strings(["AB-1235/Y", "4006381333932"]), ..titled(2, "Lamp") },
            SearchDocument { codes: strings(["Kit 7 Blue"]), ..titled(3, "Lamp") },
        ],
    )
    .await;
    for (typed, n) in [
        ("AB-1234/X", 1),
        ("ab-1234/x", 1),
        ("ab1234x", 1),
        ("ab 1234 x", 1),
        ("1234", 1),
        ("AB-1234", 1),
        ("ab 1234", 1),
        ("4006381333931", 1),
        ("4006381333932", 2),
        ("lamp ab-1235/y", 2),
        ("ab-1235/y lamp", 2),
        ("lamp ab1235y", 2),
        ("kit 7 blue", 3),
        ("kit7blue", 3),
        ("kit 7", 3),
    ] {
        finds(provider, typed, [n], contract).await;
    }
    for typed in ["AB-123", "123", "AB-1234/Z", "400638133393", "4006381333930"] {
        finds(provider, typed, [], contract).await;
    }
}

/// It does not matter whether a word is written as one, as two or with a hyphen, in the document or in the query.
pub async fn words_match_split_joined_and_hyphenated(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "Words match however they are split, joined or hyphenated.";
    load(
        provider,
        vec![
            titled(1, "Wi-Fi router"),
            titled(2, "Keyboard"),
            titled(3, "T-Shirt"),
            titled(4, "Head phones"),
            titled(5, "E-reader"),
            titled(6, "Privacy screen"),
            titled(7, "Blue scarf, red"),
        ],
    )
    .await;
    for (typed, n) in [
        ("wifi", 1),
        ("wi-fi", 1),
        ("wi fi", 1),
        ("wifi router", 1),
        ("key board", 2),
        ("key-board", 2),
        ("tshirt", 3),
        ("t shirt", 3),
        ("t-shirts", 3),
        ("headphones", 4),
        ("headphone", 4),
        ("head-phones", 4),
        ("ereader", 5),
        ("e reader", 5),
        ("red/blue", 7),
    ] {
        finds(provider, typed, [n], contract).await;
    }
}

/// It does not matter whether there is a space between a number and its unit.
pub async fn numbers_match_with_and_without_their_units(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "A number matches with and without a space before its unit, and only the same number.";
    load(
        provider,
        vec![
            titled(1, "Bottle 500ml"),
            titled(2, "Bottle 750 ml"),
            titled(3, "Hub USB3.1"),
            titled(4, "Hub USB 2.0"),
            titled(5, "TV 55\" 4K"),
            titled(6, "Pipe 1/2 inch"),
            SearchDocument { description: Some("Holds 250 ml.".into()), ..titled(7, "Cup") },
            titled(8, "A4 paper"),
            titled(9, "Paper, 4 rolls of a kind"),
        ],
    )
    .await;
    for (typed, n) in [
        ("500ml", 1),
        ("500 ml", 1),
        ("750ml", 2),
        ("750 ml bottle", 2),
        ("usb 3.1", 3),
        ("usb3.1", 3),
        ("usb2.0", 4),
        ("4k tv 55", 5),
        ("55 inch tv", 5),
        ("55\" tv", 5),
        ("55in tv", 5),
        ("250ml", 7),
        ("a4 paper", 8),
    ] {
        finds(provider, typed, [n], contract).await;
    }
    finds(provider, "12 inch pipe", [], contract).await;
}

/// `c++` finds neither `c` nor `c#`.
pub async fn symbols_are_part_of_short_words(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "The symbols + and # after one or two letters are part of the word.";
    load(provider, vec![titled(1, "C++ in depth"), titled(2, "C# in depth"), titled(3, "Vitamin C drops")]).await;
    finds(provider, "c++", [1], contract).await;
    finds(provider, "C#", [2], contract).await;
    finds(provider, "c drops", [3], contract).await;
}

/// Every word of a description is searched, wherever it is.
pub async fn long_texts_are_searched_to_their_end(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let description = Some(format!("{}corduroy.", "A very long text. ".repeat(500)));
    load(provider, vec![SearchDocument { description, ..titled(1, "Chair") }]).await;
    finds(provider, "corduroy", [1], "A text is searched to its end.").await;
}

/// If fewer documents than a page match all words, those follow that match at least half of them, and they are counted
/// separately.
pub async fn partial_matches_follow_if_full_matches_do_not_fill_a_page(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Steel kettle"),
            titled(2, "Sneakers"),
            titled(3, "Kids sneakers red"),
            titled(4, "Red kettle"),
            titled(5, "Lamp"),
        ],
    )
    .await;
    let contract = "Documents that match at least a half of the words follow after those that match all of them, those \
                    with more words first. Words such as \"for\" are not needed.";
    for (typed, all, most) in [
        ("cheap kettle", &[][..], &[1, 4][..]),
        ("sneakers for kids", &[3], &[2]),
        ("red steel kettle", &[], &[1, 4]),
        ("red kids sneakers", &[3], &[]),
        ("lamp", &[5], &[]),
        ("purple curtain", &[], &[]),
    ] {
        let (matches, rest) = split_hits(provider, &text(typed)).await;
        same(matches, all, contract, format_args!("the matches of {typed:?}"));
        let rest: BTreeSet<u128> = rest.into_iter().collect();
        same(rest, most.iter().copied().collect(), contract, format_args!("what follows the matches of {typed:?}"));
    }
    let contract =
        "If the matches fill the first page, nothing follows them. Otherwise, the pages go on with what follows.";
    let paged = |offset, limit| SearchQuery { offset, limit, ..text("sneakers for kids") };
    for (offset, limit, matches, rest) in
        [(0, 1, &[3][..], &[][..]), (1, 1, &[], &[]), (0, 2, &[3], &[2]), (1, 2, &[], &[2]), (2, 2, &[], &[])]
    {
        let about = format!("the page of at most {limit} hits after {offset}");
        let found = split_hits(provider, &paged(offset, limit)).await;
        same(found, (matches.to_vec(), rest.to_vec()), contract, &about);
        let found = search(provider, &paged(offset, limit)).await;
        let counted = (found.total.count, found.partial);
        same(counted, (1, u64::from(limit > 1)), "Every page has the same counts.", &about);
    }
    load_more(provider).await;
    let contract = "Of what follows, documents with more words come first.";
    let (_, rest) = split_hits(provider, &text("big blue cotton towel")).await;
    same(rest.first().copied(), Some(6), contract, "a text of four words, of which one document has three");
    same(rest.into_iter().collect::<BTreeSet<_>>(), set([6, 7, 8]), contract, "a text of four words");
}

/// Adds documents with three, two and two words of a text.
async fn load_more(provider: &dyn SearchProvider) {
    let documents =
        vec![titled(7, "Blue curtain, big"), titled(8, "Cotton towel"), titled(6, "Big towel of blue wool")];
    let n = documents.len() as u64;
    applies(provider, documents.into_iter().map(upsert).collect(), at(2), n, "more documents").await;
}

/// A word such as "the" does not make up for a worse match of another word.
pub async fn words_without_meaning_count_little(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "An exact match ranks above one with a typo, whether or not words such as \"the\" match.";
    load(provider, vec![titled(1, "The lump"), titled(2, "Lamp")]).await;
    hits_are(provider, &text("the lamp"), [2, 1], contract).await;
}

/// Operators, quotes and wildcards are ordinary text.
pub async fn user_text_is_never_a_query_language(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "text").await {
        return;
    }
    let contract = "Operators, quotes and wildcards of query languages are ordinary text.";
    load(provider, vec![titled(1, "Lamp"), titled(2, "Kettle"), titled(3, "Title"), titled(4, "Radio 13")]).await;
    finds(provider, "\"radio 13\"", [4], contract).await;
    for typed in
        ["\"lamp\"", "lamp*", "-lamp", "+lamp", "(lamp", "lamp)", "lamp^", "lamp & *", "[lamp}", "lamp\\", "lamp!"]
    {
        finds(provider, typed, [1], contract).await;
    }
    for typed in [
        "lamp OR kettle",
        "NOT lamp",
        "lamp AND kettle",
        "title:lamp",
        "lamp^2",
        "* : ^",
        "*",
        "_exists_:title",
        "[a TO z]",
        "/l.mp/",
        "{\"match_all\":{}}",
        "lamp~9",
        "\\",
        "\"",
        "id:*",
        "la?p*x",
        "' or 1=1 --",
        "\0",
        "\u{1F4A1}",
    ] {
        finds(provider, typed, [], contract).await;
    }
}
