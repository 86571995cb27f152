//! Random inputs have the properties, most of them close to valid ones.

use ecom_core::paging::{Keyset, SortKey};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use serde_json::{Value, json};
use test_parsers::{LISTS, cursor, filters, forwarded, if_match, merge_patch, price, table, token};
use uuid::Uuid;

fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, ..ProptestConfig::default() }
}

/// A text in which one character is replaced, or none.
fn changed(texts: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    (
        texts,
        any::<prop::sample::Index>(),
        prop_oneof![3 => Just(None), 1 => "[ -~]".prop_map(Some), 1 => any::<char>().prop_map(|c| Some(c.to_string()))],
    )
        .prop_map(|(text, at, with)| {
            let Some(with) = with else { return text };
            let at = at.index(text.chars().count().max(1));
            text.chars().enumerate().map(|(i, c)| if i == at { with.clone() } else { c.to_string() }).collect()
        })
        .boxed()
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

/// Any JSON, of little depth.
fn values() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
    .boxed()
}

fn objects() -> BoxedStrategy<Value> {
    prop::collection::btree_map("[abc]|watts|color", values(), 0..4).prop_map(|map| json!(map)).boxed()
}

fn parameters() -> BoxedStrategy<String> {
    let names = one_of(&[
        "page",
        "per_page",
        "skip",
        "limit",
        "cursor",
        "fields",
        "numbers",
        "include_deleted",
        "include",
        "sort",
        "q",
        "category",
        "min_price",
        "max_price",
        "brand",
        "tag",
        "tags",
        "availability",
        "status",
        "from",
        "to",
        "state",
        "customer_id",
        "product_id",
        "sku_id",
        "email",
        "name",
        "rating",
        "kind",
        "at_least",
        "attributes",
        "facets",
    ]);
    let texts = one_of(&[
        "",
        "0",
        "1",
        "-1",
        "2",
        "100",
        "101",
        "9223372036854775807",
        "1e3",
        "0.01",
        "9.99",
        "9.999",
        "true",
        "false",
        "any",
        "active",
        "deleted",
        "lamps",
        "lamp",
        "Lumen",
        "filters",
        "created_desc",
        "price_asc",
        "title_asc",
        "name_asc",
        "2026-01-31",
        "2026-01-31T12:00:00Z",
        "9999-12-31",
        "id",
        "title,price",
        "019ab000-0000-7000-8000-000000000000",
        "%00",
        "%ff",
        "%F0%9F%92%A1",
        "%E2%80%8B",
        "'",
        "\\",
        "*",
        "a%20OR%201=1",
        "watts:7",
        "{\"a\":1}",
    ]);
    let values = prop_oneof![3 => changed(texts), 1 => "\\PC{0,12}".boxed()];
    let pair = (names, values).prop_map(|(name, value)| format!("{name}={}", escaped(&value)));
    prop::collection::vec(prop_oneof![9 => pair.boxed(), 1 => "[a-z=&%+;]{0,8}".boxed()], 0..5)
        .prop_map(|pairs| pairs.join("&"))
        .boxed()
}

/// Escapes what cannot stand in a URL, and leaves `%` as it is.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#&".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn a_number_is_read_exactly_or_refused(
        text in prop_oneof![
            changed("-?[0-9]{1,30}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?"),
            changed("-?0{0,3}[0-9]{1,4}(\\.[0-9]{1,3}0{0,30})?"),
            "[-+.eE0-9_ ]{0,45}".boxed(),
            "\\PC{0,12}".boxed(),
        ],
    ) {
        price(text.as_bytes());
    }

    #[test]
    fn attributes_merge_as_the_rfc_says(before in objects(), patch in objects()) {
        merge_patch(format!("{before}\n{patch}").as_bytes());
    }

    #[test]
    fn an_entity_tag_names_one_version(
        text in prop_oneof![
            changed("(W/)?\"(3|[0-9]{1,3})(\\.[0-9]{1,3})?(-\\{id\\})?(;n)?(;f[0-9a-f]{2})?\""),
            changed(one_of(&["*", "{tag}", "W/{tag}", " {tag}\t", "{tag}, {tag}", "\"+3\"", "\"3-{id}\""])),
            // Lists are refused, whether or not they contain the current version.
            prop::collection::vec("(W/)?\"[0-9a-z.]{0,4}\"", 2..4).prop_map(|tags| tags.join(", ")).boxed(),
        ],
    ) {
        if_match(text.as_bytes());
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_position_is_read_back_from_its_cursor(
        order in prop::sample::select(&LISTS[..]).prop_map(|(_, order)| order),
        key in prop_oneof![
            Just(SortKey::Id),
            any::<i64>().prop_map(SortKey::Int),
            (0..3_000_000_000_000_000i64).prop_map(SortKey::Int),
            "\\PC{0,20}".prop_map(SortKey::Text),
            "\u{0}".prop_map(SortKey::Text),
        ],
        id in any::<u128>(),
    ) {
        let position = Keyset { sort: order.to_owned(), key, id: Uuid::from_u128(id) };
        let text = position.encode();
        if let Ok(read) = Keyset::decode(&text, order) {
            prop_assert_eq!(read, position);
        }
        cursor(text.as_bytes());
    }

    #[test]
    fn a_changed_cursor_is_refused_or_another_position(
        text in changed(prop::sample::select(&LISTS[..]).prop_map(|(_, order)| {
            Keyset { sort: order.to_owned(), key: SortKey::Int(5), id: Uuid::from_u128(7) }.encode()
        })),
        json in changed(one_of(&[r#"{"s":"title_asc","k":"desk lamp","i":"019ab000-0000-7000-8000-000000000000"}"#])),
    ) {
        cursor(text.as_bytes());
        cursor(json.as_bytes());
    }

    #[test]
    fn a_query_has_a_page_or_a_refusal(
        path in one_of(&["/products", "/products/search", "/skus", "/categories", "/reviews", "/customers", "/carts",
            "/orders", "/order-lines", "/bills", "/users", "/admin/jobs", "/analytics/search-terms"]),
        query in parameters(),
    ) {
        filters(format!("{path}?{query}").as_bytes());
    }

    #[test]
    fn a_client_does_not_choose_its_address(
        lines in prop::collection::vec(
            prop_oneof![
                changed("(for=)?[0-9]{1,3}(\\.[0-9]{1,3}){3}(:[0-9]{1,5})?(, ?(for=)?10\\.1\\.1\\.1)?"),
                "[fFoOrR=\"\\\\,; \\[\\]:.0-9a-f_%-]{0,60}".boxed(),
                "\\PC{0,20}".boxed(),
            ],
            0..4,
        ),
    ) {
        forwarded(lines.join("\n").as_bytes());
    }

    #[test]
    fn a_patch_changes_what_it_has(
        fields in prop::collection::btree_map(
            one_of(&["description", "warranty_information", "shipping_information", "barcode", "title", "brand", "tags",
                "attributes", "weight", "dimensions", "stock", "price", "status", "discount_percentage", "images",
                "skus", "slug"]),
            prop_oneof![3 => Just(Value::Null), 4 => objects(), 4 => "\\PC{0,12}".prop_map(Value::from), 4 => values(),
                1 => Just(json!(["a", "b"])), 1 => Just(json!("1.50")), 1 => Just(json!(12))],
            0..4,
        ),
    ) {
        merge_patch(json!(fields).to_string().as_bytes());
    }

    #[test]
    fn each_row_of_a_table_has_an_outcome_and_a_second_import_writes_nothing(
        header in changed(one_of(&[
            "title,sku,price,stock", "external_id,title,price,category,tags", "sku,title,price,brand,description",
            "\u{feff}title;sku;price;stock", "title,sku", "Title,Price,Code",
        ])),
        rows in prop::collection::vec(
            prop_oneof![
                6 => changed("[A-C]{1,2},[S-V]-[0-9],[0-9]{1,3}(\\.[0-9]{1,3})?,[0-9a-c]{0,3}(,[a-c|/]{0,5})?"),
                2 => changed("\"[A-C \n]{1,4}\",\"S-[0-9]\",\"[0-9]\"\"\",5"),
                1 => "[\",;\n\r\t A-Z0-9]{0,20}".boxed(),
                1 => "\\PC{0,20}".boxed(),
            ],
            0..6,
        ),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        table(std::iter::once(header).chain(rows).collect::<Vec<_>>().join(end).as_bytes());
    }

    #[test]
    fn a_changed_credential_opens_nothing(
        text in prop_oneof![
            one_of(&["{header}.{payload}.{signature}", "{key}", "{cart}"]),
            changed("[A-Za-z0-9_-]{1,20}\\.\\{payload\\}\\.(\\{signature\\})?"),
            "[ -~]{0,40}".boxed(),
        ],
        alg in one_of(&["none", "None", "NONE", "HS256", "HS384", "RS256", "ES256", "EdDSA", "eddsa", ""]),
        typ in one_of(&["at+jwt", "JWT", "AT+JWT", ""]),
        kid in one_of(&["{kid}", "", "../../dev/null", "' OR 1=1 --"]),
        payload in prop_oneof![Just("{payload}".to_owned()), values().prop_map(|v| v.to_string())],
    ) {
        token(text.as_bytes());
        token(format!("{}\n{payload}", json!({"alg": alg, "typ": typ, "kid": kid})).as_bytes());
    }
}
