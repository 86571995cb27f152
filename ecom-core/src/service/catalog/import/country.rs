//! Countries by name: other systems write "United States" where a shop stores `US`.

use rust_iso3166::{ALL, CountryCode, from_alpha2, from_alpha3};

use crate::text::fold_key;

/// Common English names of countries whose name in ISO 3166 is another one.
const ALIASES: [(&str, &str); 22] = [
    ("Brunei", "BN"),
    ("Cape Verde", "CV"),
    ("Czech Republic", "CZ"),
    ("DR Congo", "CD"),
    ("East Timor", "TL"),
    ("Great Britain", "GB"),
    ("Ivory Coast", "CI"),
    ("Laos", "LA"),
    ("Macau", "MO"),
    ("Macedonia", "MK"),
    ("North Korea", "KP"),
    ("Russia", "RU"),
    ("South Korea", "KR"),
    ("Swaziland", "SZ"),
    ("Syria", "SY"),
    ("The Netherlands", "NL"),
    ("Turkey", "TR"),
    ("UK", "GB"),
    ("United Kingdom", "GB"),
    ("United States", "US"),
    ("Vatican City", "VA"),
    ("Vietnam", "VN"),
];

/// Returns the alpha-2 code of a country that is given as its code (alpha-2 or alpha-3) or as its English name. The part
/// of a name in parentheses may be left out, if the rest names one country. Case does not matter.
pub(super) fn country_code(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let code = text.to_ascii_uppercase();
    if let Some(country) = from_alpha2(&code).or_else(|| from_alpha3(&code)) {
        return Some(country.alpha2);
    }
    let key = fold_key(text);
    if let Some((_, code)) = ALIASES.iter().find(|(name, _)| fold_key(name) == key) {
        return Some(code);
    }
    if let Some(country) = ALL.iter().find(|c| fold_key(c.name) == key) {
        return Some(country.alpha2);
    }
    let mut short = ALL.iter().filter(|c| short_name(c).is_some_and(|name| fold_key(name) == key));
    let first = short.next()?;
    short.next().is_none().then_some(first.alpha2)
}

/// Returns the part of a name before its parentheses.
fn short_name(country: &CountryCode) -> Option<&'static str> {
    country.name.split_once(" (").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_found_by_its_codes_and_names() {
        for (text, code) in [
            ("United States", "US"),
            ("United States of America", "US"),
            ("usa", "US"),
            (" us ", "US"),
            ("united kingdom", "GB"),
            ("UK", "GB"),
            ("Germany", "DE"),
            ("Côte d'Ivoire", "CI"),
            ("Ivory Coast", "CI"),
            ("Iran", "IR"),
            ("Bolivia", "BO"),
            ("Tanzania", "TZ"),
            ("South Korea", "KR"),
            ("Congo", "CG"),
            ("Moldova", "MD"),
        ] {
            assert_eq!(country_code(text), Some(code), "{text}");
        }
        // Two countries are called Korea, and none is called Atlantis.
        for text in ["Korea", "Virgin Islands", "Atlantis", "", "X"] {
            assert_eq!(country_code(text), None, "{text}");
        }
    }

    #[test]
    fn every_alias_is_needed_and_names_a_country() {
        for (name, code) in ALIASES {
            assert!(from_alpha2(code).is_some(), "{name}");
            let key = fold_key(name);
            assert!(ALL.iter().all(|c| fold_key(c.name) != key), "{name} needs no alias");
        }
    }

    #[test]
    fn every_country_is_found_by_its_own_name() {
        for country in ALL {
            assert_eq!(country_code(country.name), Some(country.alpha2));
        }
    }
}
