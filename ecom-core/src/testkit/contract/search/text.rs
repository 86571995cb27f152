//! Texts are searched by word, with stems, typos, prefixes and codes.

use std::collections::BTreeSet;

use super::support::{finds, has_text, hits, load, set, strings, text, titled};
use crate::port::search::{SearchDocument, SearchProvider};

tests! {
    __search_text: [
        every_text_field_is_searched,
        all_words_must_match_in_any_field,
        fields_weigh_in_the_order_of_the_document,
        exact_matches_rank_above_typos_and_prefixes,
        words_are_stemmed,
        typos_one_edit_from_four_letters_two_from_eight,
        prefix_matches_the_last_word_only,
        accents_and_case_do_not_matter,
        codes_match_whole_and_exactly,
        user_text_is_never_a_query_language,
    ]
}

/// Title, brand, tags, category names, codes and description are searched; an empty text matches everything.
pub async fn every_text_field_is_searched(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Walnut desk"),
            SearchDocument { brand: Some("Nordholm".into()), ..titled(2, "Chair") },
            SearchDocument { tags: strings(["ergonomic", "office"]), ..titled(3, "Chair") },
            SearchDocument { category_names: strings(["Armchairs", "Furniture"]), ..titled(4, "Chair") },
            SearchDocument { codes: strings(["QX777"]), ..titled(5, "Chair") },
            SearchDocument { description: Some("Covered in corduroy.".into()), ..titled(6, "Chair") },
        ],
    )
    .await;
    for (typed, n) in [("walnut", 1), ("nordholm", 2), ("office", 3), ("furniture", 4), ("qx777", 5), ("corduroy", 6)] {
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    assert_eq!(finds(provider, "").await, set([1, 2, 3, 4, 5, 6]));
    assert_eq!(finds(provider, " \t ").await, set([1, 2, 3, 4, 5, 6]));
    assert_eq!(finds(provider, "unheard").await, set([]));
}

/// Each word must match, each in whatever field.
pub async fn all_words_must_match_in_any_field(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
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
    assert_eq!(finds(provider, "acme kettle").await, set([1, 3]));
    assert_eq!(finds(provider, "kettle acme green").await, set([1]));
    assert_eq!(finds(provider, "kettle acme purple").await, set([]));
}

/// Title over brand over tags over category names over codes over description.
pub async fn fields_weigh_in_the_order_of_the_document(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    // Ids run against the expected order, and the weak matches are short and the strong ones long.
    let long = "of a rather long text that goes on and on about other things";
    load(
        provider,
        vec![
            SearchDocument { description: Some("Zephyr zephyr zephyr".into()), ..titled(1, "Thing") },
            SearchDocument { codes: strings(["ZEPHYR"]), ..titled(2, "Thing") },
            SearchDocument { category_names: strings(["Zephyr"]), ..titled(3, "Thing") },
            SearchDocument { tags: strings(["zephyr"]), ..titled(4, "Thing") },
            SearchDocument { brand: Some(format!("Zephyr {long}")), ..titled(5, "Thing") },
            titled(6, &format!("Zephyr {long}")),
        ],
    )
    .await;
    assert_eq!(hits(provider, &text("zephyr")).await, [6, 5, 4, 3, 2, 1]);
}

/// A word as typed beats a similar one, wherever they stand.
pub async fn exact_matches_rank_above_typos_and_prefixes(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
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
    assert_eq!(found[..2], [4, 5], "titles first, the shorter one before");
    assert_eq!(found[2], 2, "a description as typed over a title with a typo or a longer word");
    assert_eq!(found[3..].iter().copied().collect::<BTreeSet<_>>(), set([1, 3]));
}

/// English inflections match each other.
pub async fn words_are_stemmed(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Running shoes"), titled(2, "Chef's knives, boxes")]).await;
    for typed in ["run shoe", "runs shoes", "running SHOE"] {
        assert_eq!(finds(provider, typed).await, set([1]), "{typed}");
    }
    for typed in ["box chef", "chefs boxes", "boxed chef's", "chef\u{2019}s box"] {
        assert_eq!(finds(provider, typed).await, set([2]), "{typed}");
    }
}

/// None under 4 letters, one from 4, two from 8; a swap of neighbours is one.
pub async fn typos_one_edit_from_four_letters_two_from_eight(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
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
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    for typed in ["cop", "cpu", "lemb", "blenkat", "kayboort"] {
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
    assert_eq!(finds(provider, "lemp cup").await, set([]), "all words must match, with typos too");
}

/// Shoppers type on: the last word may be unfinished, no other.
pub async fn prefix_matches_the_last_word_only(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Wireless headphones"), titled(2, "Wired headset")]).await;
    assert_eq!(finds(provider, "wireless headp").await, set([1]));
    assert_eq!(finds(provider, "head").await, set([1, 2]));
    assert_eq!(finds(provider, "h").await, set([1, 2]));
    assert_eq!(finds(provider, "headp wireless").await, set([]));
    assert_eq!(finds(provider, "eadphon").await, set([]), "a prefix starts where the word starts");
}

/// Accents, composed or not, and case are folded on both sides.
pub async fn accents_and_case_do_not_matter(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
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
        assert_eq!(finds(provider, typed).await, set([1, 2, 3]), "{typed}");
    }
}

/// A code or barcode is one token: found whole, in any case, never by a part of it or with a typo.
pub async fn codes_match_whole_and_exactly(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(
        provider,
        vec![
            SearchDocument { codes: strings(["AB-1234/X", "4006381333931"]), ..titled(1, "Lamp") },
            SearchDocument { codes: strings(["AB-1234/Y", "4006381333932"]), ..titled(2, "Lamp") },
            SearchDocument { codes: strings(["Kit 7 Blue"]), ..titled(3, "Lamp") },
        ],
    )
    .await;
    for (typed, n) in [
        ("AB-1234/X", 1),
        ("ab-1234/x", 1),
        ("4006381333931", 1),
        ("4006381333932", 2),
        ("lamp ab-1234/y", 2),
        ("ab-1234/y lamp", 2),
        ("kit 7 blue", 3),
    ] {
        assert_eq!(finds(provider, typed).await, set([n]), "{typed}");
    }
    for typed in ["AB-1234", "1234", "AB-1234/Z", "400638133393", "4006381333930", "ab 1234 x"] {
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
}

/// Operators, quotes and wildcards are text.
pub async fn user_text_is_never_a_query_language(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    load(provider, vec![titled(1, "Lamp"), titled(2, "Kettle"), titled(3, "Title")]).await;
    for typed in
        ["\"lamp\"", "lamp*", "-lamp", "+lamp", "(lamp", "lamp)", "lamp^", "lamp & *", "[lamp}", "lamp\\", "lamp!"]
    {
        assert_eq!(finds(provider, typed).await, set([1]), "{typed}");
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
        assert_eq!(finds(provider, typed).await, set([]), "{typed}");
    }
}
