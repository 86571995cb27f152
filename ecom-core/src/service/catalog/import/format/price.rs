//! Regular prices with reductions, and texts of other shops.

use std::collections::HashSet;

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Map, Value};

use crate::money::Currency;
use crate::text::Slug;

/// The prices of a SKU: what it costs, and what it cost before the reduction.
pub(super) struct Prices {
    pub price: Option<String>,
    pub before: Option<String>,
}

/// Sets the prices of the SKUs of a product so that the shop shows the same amounts as the one that exported them.
///
/// Here, a discount belongs to the product. If one percentage leads from the earlier price of every SKU to its price, to
/// the last minor unit, the SKUs get the earlier prices and the product gets the discount. Otherwise the SKUs get the
/// prices, and those with a higher earlier price get it as the attribute `compare_at_price`.
pub(super) fn set_prices(
    product: &mut Map<String, Value>,
    skus: &mut [Map<String, Value>],
    prices: &[Prices],
    currency: Option<Currency>,
) {
    let number = |text: &Option<String>| text.as_deref().and_then(|t| t.parse::<Decimal>().ok());
    let pairs: Vec<Option<(Decimal, Decimal)>> = prices
        .iter()
        .map(|p| number(&p.before).zip(number(&p.price)).filter(|(before, price)| before > price))
        .collect();
    let discount = match pairs.iter().copied().collect::<Option<Vec<_>>>() {
        Some(all) => currency.and_then(|currency| discount(&all, currency)),
        None => None,
    };
    if let Some(discount) = discount {
        product.insert("discount_percentage".to_owned(), discount.normalize().to_string().into());
    }
    for ((sku, prices), pair) in skus.iter_mut().zip(prices).zip(&pairs) {
        let shown = if discount.is_some() { &prices.before } else { &prices.price };
        if let Some(price) = shown {
            sku.insert("price".to_owned(), price.as_str().into());
        }
        if let (Some(before), Some(_), None) = (&prices.before, pair, discount) {
            attribute(sku, "compare_at_price", before.as_str().into());
        }
    }
}

/// Returns the percentage, with two decimal places, that reduces every first amount to the second one.
fn discount(pairs: &[(Decimal, Decimal)], currency: Currency) -> Option<Decimal> {
    let (before, price) = pairs.first()?;
    let exact = (before - price).checked_mul(Decimal::ONE_HUNDRED)?.checked_div(*before)?;
    let percent = exact.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    let reaches = |(before, price): &(Decimal, Decimal)| {
        let part = (Decimal::ONE_HUNDRED - percent) / Decimal::ONE_HUNDRED;
        before.checked_mul(part).is_some_and(|amount| {
            amount.round_dp_with_strategy(currency.exponent(), RoundingStrategy::MidpointAwayFromZero) == *price
        })
    };
    pairs.iter().all(reaches).then_some(percent)
}

/// Returns a measure times a factor, with two decimal places, or the unchanged text if it is not a number. The checks
/// of the record then refuse it.
pub(super) fn measure(text: &str, factor: Decimal) -> String {
    text.parse::<Decimal>().ok().and_then(|n| n.checked_mul(factor)).map_or_else(
        || text.to_owned(),
        |n| n.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero).normalize().to_string(),
    )
}

/// Sets an attribute.
pub(super) fn attribute(object: &mut Map<String, Value>, name: &str, value: Value) {
    if let Value::Object(attributes) = object.entry("attributes").or_insert_with(|| Map::new().into()) {
        attributes.insert(name.to_owned(), value);
    }
}

/// Returns a name in the form of our own fields: `Age Group` becomes `age_group`.
pub(super) fn snake(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("_")
}

/// Returns codes for SKUs that have none: the name of the product with the values of the options. The same export
/// always gives the same codes, so that a second import recognizes the SKUs.
pub(super) fn set_codes(skus: &mut [Map<String, Value>], product: &str) {
    let mut taken: HashSet<String> =
        skus.iter().filter_map(|s| s.get("code")?.as_str().map(crate::text::fold_key)).collect();
    for sku in skus.iter_mut().filter(|s| !s.contains_key("code")) {
        let options = sku.get("option_values").and_then(Value::as_object);
        let mut parts = vec![product.to_owned()];
        parts.extend(
            options
                .into_iter()
                .flat_map(Map::values)
                .filter_map(Value::as_str)
                .map(|value| Slug::from_title(value, "option").to_string()),
        );
        let base: String = parts.join("-").chars().take(90).collect();
        let mut code = base.clone();
        let mut n = 2;
        while taken.contains(&crate::text::fold_key(&code)) {
            code = format!("{base}-{n}");
            n += 1;
        }
        taken.insert(crate::text::fold_key(&code));
        sku.insert("code".to_owned(), code.into());
    }
}

/// Returns the path of a category whose names have a separator between them.
pub(super) fn category_path(names: &str, separator: &str) -> Option<String> {
    let names = names.split(separator).map(|name| name.trim().replace('/', " ")).filter(|name| !name.is_empty());
    Some(names.collect::<Vec<_>>().join("/")).filter(|path| !path.is_empty())
}

/// Returns the text of HTML: without tags, with a line break for each end of a block, and with its characters in place of
/// the common entities. A description is text here, so that no client shows the markup of strangers.
pub(super) fn text_of_html(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let (found, len) = if from.starts_with('<') { tag(from) } else { entity(from) };
        match found {
            Some(found) => text.push_str(&found),
            None => text.push_str(from.get(..len).unwrap_or_default()),
        }
        rest = from.get(len..).unwrap_or_default();
    }
    text.push_str(rest);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split([' ', '\t', '\u{a0}']).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" "))
        .collect();
    let mut out = String::with_capacity(text.len());
    for (i, line) in lines.iter().enumerate() {
        // At most one empty line.
        if line.is_empty() && (out.is_empty() || lines.get(i + 1).is_none_or(String::is_empty)) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out.trim().to_owned()
}

/// Returns the text in place of the tag at the beginning, and the length of the tag; `None` if it is no tag.
fn tag(html: &str) -> (Option<String>, usize) {
    if let Some(comment) = html.strip_prefix("<!--") {
        return (Some(String::new()), comment.find("-->").map_or(html.len(), |end| end + 7));
    }
    let name = html.get(1..).unwrap_or_default().trim_start_matches('/');
    let name: String = name.chars().take_while(char::is_ascii_alphanumeric).take(20).collect::<String>().to_lowercase();
    if name.is_empty() {
        return (None, 1);
    }
    let mut quote = None;
    let end = html.char_indices().find(|(_, c)| match (quote, c) {
        (Some(q), c) if q == *c => {
            quote = None;
            false
        }
        (None, '"' | '\'') => {
            quote = Some(*c);
            false
        }
        (None, '>') => true,
        _ => false,
    });
    let Some((end, _)) = end else { return (None, 1) };
    let hidden = ["script", "style"].contains(&name.as_str()) && !html.starts_with("</");
    if hidden {
        let close = format!("</{name}");
        let after =
            html.to_ascii_lowercase().get(end..).and_then(|rest| rest.find(&close)).map_or(html.len(), |at| end + at);
        return (Some(String::new()), after);
    }
    let breaks = match name.as_str() {
        "br" | "p" | "div" | "li" | "ul" | "ol" | "tr" | "table" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => "\n",
        "td" | "th" => " ",
        _ => "",
    };
    (Some(breaks.to_owned()), end + 1)
}

/// Returns the character of the entity at the beginning, and the length of the entity; `None` if it is none.
fn entity(html: &str) -> (Option<String>, usize) {
    let Some(end) = html.char_indices().take(12).find(|(_, c)| *c == ';').map(|(i, _)| i) else { return (None, 1) };
    let name = html.get(1..end).unwrap_or_default();
    let found = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        "ndash" => Some('–'),
        "mdash" => Some('—'),
        "hellip" => Some('…'),
        "rsquo" => Some('’'),
        "lsquo" => Some('‘'),
        "rdquo" => Some('”'),
        "ldquo" => Some('“'),
        "copy" => Some('©'),
        "reg" => Some('®'),
        "trade" => Some('™'),
        "euro" => Some('€'),
        "deg" => Some('°'),
        _ => name.strip_prefix('#').and_then(|n| {
            let hex = n.strip_prefix(['x', 'X']).map(|n| u32::from_str_radix(n, 16));
            hex.unwrap_or_else(|| n.parse()).ok().and_then(char::from_u32).filter(|c| *c != '\0')
        }),
    };
    match found {
        Some(c) => (Some(c.to_string()), end + 1),
        None => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn html_becomes_text() {
        for (html, text) in [
            ("plain text. ", "plain text."),
            ("<p>One</p>\n<p>Two &amp; <b>three</b></p>", "One\n\nTwo & three"),
            ("<ul><li>a</li><li>b &#8364; &#x41;</li></ul>", "a\n\nb € A"),
            ("5 < 6 & 7 > 2 &unknown; <", "5 < 6 & 7 > 2 &unknown; <"),
            ("<a title=\"x > y\">z</a><script>alert('<b>')</script>!", "z!"),
            ("a<!-- hidden -->b<br/>c", "ab\nc"),
        ] {
            assert_eq!(text_of_html(html), text);
        }
    }

    #[test]
    fn one_discount_stands_for_the_prices_of_all_skus_or_none_does() {
        let usd = Currency::from_code("USD").unwrap();
        let d = |s: &str| s.parse::<Decimal>().unwrap();
        assert_eq!(discount(&[(d("80"), d("50"))], usd), Some(d("37.5")));
        assert_eq!(discount(&[(d("24.99"), d("19.99"))], usd), Some(d("20.01")));
        assert_eq!(discount(&[(d("80"), d("60")), (d("100"), d("75"))], usd), Some(d("25")));
        assert_eq!(discount(&[(d("80"), d("60")), (d("100"), d("70"))], usd), None);
    }

    proptest! {
        #[test]
        fn no_html_is_too_strange(html in "[<>&;/a-c\"' #x!é-]{0,40}") {
            text_of_html(&html);
        }
    }
}
