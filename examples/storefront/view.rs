//! The values that the templates show.

use std::collections::BTreeMap;

use ecom::catalog::{AvailabilityStatus, Category, Image, Product, Sku};
use ecom::money::{Money, Percentage};
use ecom::search::Piece;
use serde::Serialize;

/// A link.
#[derive(Debug, Serialize)]
pub struct Link {
    pub label: String,
    pub href: String,
}

impl Link {
    pub fn to_category(category: &Category) -> Self {
        Self { label: category.name.clone(), href: format!("/c/{}", category.slug) }
    }
}

/// A value of a filter or an order of a list.
#[derive(Debug, Serialize)]
pub struct Choice {
    pub label: String,
    pub count: Option<u64>,
    pub href: String,
    pub is_on: bool,
}

/// The values of one filter.
#[derive(Debug, Serialize)]
pub struct Group {
    pub name: &'static str,
    pub choices: Vec<Choice>,
}

/// A part of a title.
#[derive(Debug, Serialize)]
pub struct Part {
    pub text: String,
    pub is_match: bool,
}

/// A picture.
#[derive(Debug, Serialize)]
pub struct Picture {
    pub url: String,
    pub alt: String,
}

impl Picture {
    pub fn of(image: &Image, product: &Product) -> Self {
        Self { url: image.url.clone(), alt: image.alt.clone().unwrap_or_else(|| product.title.clone()) }
    }
}

/// The rating of a product.
#[derive(Debug, Serialize)]
pub struct Stars {
    /// The mean with one decimal place.
    pub mean: String,
    pub count: i64,
}

/// A product in a list.
#[derive(Debug, Serialize)]
pub struct Card {
    pub title: Vec<Part>,
    pub href: String,
    pub brand: Option<String>,
    pub picture: Option<Picture>,
    /// Which colour stands in for a picture.
    pub tint: u32,
    pub price: Option<String>,
    /// Whether other variants cost more.
    pub is_lowest: bool,
    /// The discount, such as `15`.
    pub discount: Option<String>,
    pub stars: Option<Stars>,
    pub availability: Availability,
}

impl Card {
    pub fn of(product: &Product) -> Self {
        Self::titled(product, vec![Part { text: product.title.clone(), is_match: false }])
    }

    /// Returns the card of a product that a search has found, with the matches in its title marked.
    pub fn found(product: &Product, title: Option<Vec<Piece>>) -> Self {
        let Some(pieces) = title else { return Self::of(product) };
        let part = |piece: Piece| Part { text: piece.text, is_match: piece.is_match };
        Self::titled(product, pieces.into_iter().map(part).collect())
    }

    fn titled(product: &Product, title: Vec<Part>) -> Self {
        let range = product.price_range();
        let image = product.images.iter().find(|image| image.primary).or_else(|| product.images.first());
        Self {
            title,
            href: format!("/p/{}", product.slug),
            brand: product.brand.clone(),
            picture: image.map(|image| Picture::of(image, product)),
            tint: tint(product),
            price: range.map(|(lowest, _)| price(lowest)),
            is_lowest: range.is_some_and(|(lowest, highest)| lowest != highest),
            discount: discount(product.discount),
            stars: stars(product),
            availability: Availability::of(product.availability(), None),
        }
    }
}

/// Whether something can be bought, in words.
#[derive(Debug, Serialize)]
pub struct Availability {
    /// The word for style sheets, such as `in_stock`.
    pub word: &'static str,
    pub text: String,
    pub is_available: bool,
}

impl Availability {
    /// `left` is how many pieces there are, if it is known and worth showing.
    pub fn of(status: AvailabilityStatus, left: Option<i64>) -> Self {
        let text = match (status, left) {
            (AvailabilityStatus::InStock, _) => "In stock".to_owned(),
            (AvailabilityStatus::Limited, Some(left)) => format!("Only {left} left"),
            (AvailabilityStatus::Limited, None) => "Only a few left".to_owned(),
            (AvailabilityStatus::OutOfStock, _) => "Sold out".to_owned(),
        };
        Self { word: status.as_str(), text, is_available: status != AvailabilityStatus::OutOfStock }
    }

    pub fn of_sku(sku: &Sku) -> Self {
        Self::of(sku.availability(), Some(sku.available()))
    }
}

/// A variant of a product.
#[derive(Debug, Serialize)]
pub struct Variant {
    pub id: String,
    pub label: String,
    pub price: String,
    /// The price as the form sends it back, such as `149.00 USD`: the shop compares it with the current one.
    pub seen: String,
    /// The price before the discount.
    pub before: Option<String>,
    pub availability: Availability,
    pub is_chosen: bool,
}

impl Variant {
    pub fn of(sku: &Sku, product: &Product) -> Self {
        let current = sku.final_price(product.discount);
        Self {
            id: sku.id.to_string(),
            label: options(&sku.option_values),
            price: price(current),
            seen: current.to_string(),
            before: (current != sku.price).then(|| price(sku.price)),
            availability: Availability::of_sku(sku),
            is_chosen: false,
        }
    }
}

/// Returns the values of options, such as `M / Red`.
pub fn options(values: &BTreeMap<String, String>) -> String {
    values.values().map(String::as_str).collect::<Vec<_>>().join(" / ")
}

/// Returns a name such as `battery_life` as people write it.
pub fn heading(name: &str) -> String {
    let text = name.replace('_', " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Returns a price as people write it, such as `$149.00`.
pub fn price(money: Money) -> String {
    let sign = match money.currency().code() {
        "USD" => "$",
        "EUR" => "€",
        "GBP" => "£",
        _ => return money.to_string(),
    };
    format!("{sign}{}", money.amount())
}

/// Returns a discount without needless zeros; `None` if there is none.
pub fn discount(percentage: Percentage) -> Option<String> {
    (percentage.hundredths() > 0).then(|| percentage.decimal().normalize().to_string())
}

/// Returns the rating of a product; `None` if nobody has rated it.
pub fn stars(product: &Product) -> Option<Stars> {
    let rating = &product.rating;
    let tenths = (rating.mean.hundredths() + 5) / 10;
    (rating.count > 0).then(|| Stars { mean: format!("{}.{}", tenths / 10, tenths % 10), count: rating.count })
}

/// Returns the number of the colour that stands in for a picture: one for each section of the shop.
pub fn tint(product: &Product) -> u32 {
    let path = product.categories.first().map_or("", |category| category.path.as_str());
    path.split('/').next().unwrap_or_default().bytes().map(u32::from).sum::<u32>() % 6
}
