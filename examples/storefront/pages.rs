//! The pages of the catalog.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Html;
use ecom::catalog::{AvailabilityStatus, Category, Product, ProductFilter, ProductListQuery, ProductSort};
use ecom::common::Cached;
use ecom::money::Money;
use ecom::paging::{Keyset, Page, Paging};
use ecom::search::{Facet, FacetValue, SearchFilter, SearchQuery, SearchSort};
use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use crate::view::{Card, Choice, Group, Link, Picture, Stars, Variant, discount, heading, stars, tint};
use crate::web::{Failure, Fields};
use crate::{Site, Storefront};

/// How many products a page of a list has.
const PER_PAGE: u32 = 24;
/// The last page of a search, because a search skips at most 10,000 hits.
const LAST_PAGE: u64 = 400;
/// How many values of a filter are shown.
const CHOICES: usize = 12;

/// A section of the shop on the home page, with a picture of one of its products.
#[derive(Serialize)]
struct Tile {
    link: Link,
    count: i64,
    card: Option<Card>,
}

#[derive(Serialize)]
struct Home {
    tiles: Vec<Tile>,
    best: Vec<Card>,
    newest: Vec<Card>,
}

/// A list of products: a category, or the results of a search.
#[derive(Serialize)]
struct List {
    title: String,
    description: Option<String>,
    /// The text that was searched for; empty in a category.
    text: String,
    trail: Vec<Link>,
    /// How many products there are, in words; empty if nobody has counted them.
    total: String,
    cards: Vec<Card>,
    groups: Vec<Group>,
    sorts: Vec<Choice>,
    min_price: String,
    max_price: String,
    /// The other fields of the list, which the form with the prices sends again.
    kept: Vec<(String, String)>,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Serialize)]
struct ProductPage {
    title: String,
    slug: String,
    brand: Option<String>,
    description: Option<String>,
    trail: Vec<Link>,
    pictures: Vec<Picture>,
    tint: u32,
    stars: Option<Stars>,
    discount: Option<String>,
    /// The names of the options, such as `Color and size`.
    options: String,
    variants: Vec<Variant>,
    is_available: bool,
    facts: Vec<(String, String)>,
    related: Vec<Card>,
    notice: Option<&'static str>,
}

impl Storefront {
    /// Returns a page of a list of products.
    async fn products(
        &self,
        filter: ProductFilter,
        sort: ProductSort,
        paging: Paging,
    ) -> Result<Page<Arc<Cached<Product>>>, Failure> {
        let query = ProductListQuery { filter, sort, paging };
        Ok(self.browser().products().list(&query).await?.value.page.clone())
    }

    /// Returns the price in a field; `None` if it is not a price in the currency of the shop.
    fn price(&self, fields: &Fields, name: &str) -> Option<Money> {
        format!("{} {}", fields.get(name), self.shop.config().currency).parse().ok()
    }

    /// Returns the lowest and the highest price of a filter. If they are in the wrong order, the highest one does not
    /// count.
    fn prices(&self, fields: &Fields) -> (Option<Money>, Option<Money>) {
        let (lowest, highest) = (self.price(fields, "min_price"), self.price(fields, "max_price"));
        let is_in_order = |highest: &Money| lowest.is_none_or(|lowest| lowest.minor() <= highest.minor());
        (lowest, highest.filter(is_in_order))
    }
}

fn cards(products: &[Arc<Cached<Product>>]) -> Vec<Card> {
    products.iter().map(|product| Card::of(product)).collect()
}

/// Returns the links to the categories that lead to a category, and to itself.
fn trail(tree: &[Category], path: &str) -> Vec<Link> {
    let leads_here = |category: &&Category| {
        path.strip_prefix(category.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut found: Vec<&Category> = tree.iter().filter(leads_here).collect();
    found.sort_by_key(|category| category.depth());
    found.into_iter().map(Link::to_category).collect()
}

fn count_of(category: &Category) -> Option<u64> {
    u64::try_from(category.subtree_product_count).ok()
}

/// Returns the links to the orders of a list.
fn sorts(fields: &Fields, orders: &[(&str, &str)], current: &str) -> Vec<Choice> {
    let choice = |(word, label): &(&str, &str)| Choice {
        label: (*label).to_owned(),
        count: None,
        href: fields.with("sort", word),
        is_on: *word == current,
    };
    orders.iter().map(choice).collect()
}

const AVAILABILITIES: [(AvailabilityStatus, &str); 3] = [
    (AvailabilityStatus::InStock, "In stock"),
    (AvailabilityStatus::Limited, "Only a few left"),
    (AvailabilityStatus::OutOfStock, "Sold out"),
];

fn counted(count: u64, is_exact: bool) -> String {
    let (at_least, s) = (if is_exact { "" } else { "more than " }, if count == 1 { "" } else { "s" });
    format!("{at_least}{count} product{s}")
}

pub async fn home(State(site): Site, headers: HeaderMap) -> Result<Html<String>, Failure> {
    let tree = site.browser().categories().tree().await?.value;
    let roots: Vec<&Category> = tree.iter().filter(|c| c.parent_id.is_none() && c.subtree_product_count > 0).collect();
    let mut tiles = Vec::new();
    for root in roots {
        // Lists are cached, so that this costs no query for each section.
        let filter = ProductFilter { category: Some(root.id), ..ProductFilter::default() };
        let best = site.products(filter, ProductSort::RatingDesc, Paging::first(1)).await?;
        let card = best.items.first().map(|product| Card::of(product));
        tiles.push(Tile { link: Link::to_category(root), count: root.subtree_product_count, card });
    }
    let any = ProductFilter::default;
    let best = site.products(any(), ProductSort::RatingDesc, Paging::first(10)).await?;
    let newest = site.products(any(), ProductSort::CreatedDesc, Paging::first(5)).await?;
    let mut best = cards(&best.items);
    best.retain(|card| card.stars.is_some());
    let home = Home { tiles, best, newest: cards(&newest.items) };
    site.page("home.html", &headers, home).await
}

/// A category, which pages by cursor, so that its last page takes as long as the first one.
pub async fn category(
    State(site): Site,
    Path(slug): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let browser = site.browser();
    let category = browser.categories().get_by_slug(&slug).await?.value;
    let tree = browser.categories().tree().await?.value;
    let sort = ProductSort::parse(fields.get("sort")).unwrap_or(ProductSort::RatingDesc);
    let after = fields.filled("after").map(|text| Keyset::decode(&text, sort.as_str())).transpose()?;
    let is_first = after.is_none();
    let (min_price, max_price) = site.prices(&fields);
    let filter = ProductFilter {
        category: Some(category.id),
        brand: fields.filled("brand"),
        availability: AvailabilityStatus::parse(fields.get("availability")),
        min_price,
        max_price,
        ..ProductFilter::default()
    };
    let is_filtered = filter != ProductFilter { category: Some(category.id), ..ProductFilter::default() };
    // The brands among which the shopper chooses are those of the other filters.
    let values = browser.products().filters(&ProductFilter { brand: None, ..filter.clone() }).await?.value;
    let brand = |(name, count): &(String, u64)| fields.choice(name, Some(*count), ("brand", name.as_str()), false);
    let of_availability = |(status, label): (AvailabilityStatus, &str)| {
        fields.choice(label, None, ("availability", status.as_str()), false)
    };
    let children = tree.iter().filter(|c| c.parent_id == Some(category.id) && c.subtree_product_count > 0);
    let child = |c: &Category| Choice {
        label: c.name.clone(),
        count: count_of(c),
        href: format!("/c/{}", c.slug),
        is_on: false,
    };
    let groups = vec![
        Group { name: "Category", choices: children.map(child).collect() },
        Group { name: "Brand", choices: values.values.brands.iter().take(CHOICES).map(brand).collect() },
        Group { name: "Availability", choices: AVAILABILITIES.into_iter().map(of_availability).collect() },
    ];
    let orders = [
        ("rating_desc", "Best rated"),
        ("price_asc", "Lowest price"),
        ("price_desc", "Highest price"),
        ("created_desc", "Newest"),
    ];
    let Page { items, next } = site.products(filter, sort, Paging::Keyset { after, limit: PER_PAGE }).await?;
    let list = List {
        title: category.name.clone(),
        description: category.description.clone(),
        text: String::new(),
        trail: trail(&tree, &category.path),
        total: if is_filtered { String::new() } else { counted(count_of(&category).unwrap_or_default(), true) },
        cards: cards(&items),
        groups,
        sorts: sorts(&fields, &orders, sort.as_str()),
        min_price: fields.get("min_price").to_owned(),
        max_price: fields.get("max_price").to_owned(),
        kept: fields.others(&["min_price", "max_price"]),
        // A cursor leads forwards only.
        previous: (!is_first).then(|| format!("/c/{}", category.slug)),
        next: next.map(|next| fields.with("after", &next.encode())),
    };
    site.page("list.html", &headers, list).await
}

pub async fn search(State(site): Site, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let text = fields.get("q").to_owned();
    let sort = SearchSort::parse(fields.get("sort")).unwrap_or_default();
    let page = fields.get("page").parse().unwrap_or(1_u64).clamp(1, LAST_PAGE);
    let (min_price, max_price) = site.prices(&fields);
    let query = SearchQuery {
        text: text.clone(),
        filter: SearchFilter {
            categories: fields.all("category").iter().filter_map(|id| id.parse().ok()).collect(),
            brands: fields.all("brand"),
            availability: fields.all("availability").iter().filter_map(|a| AvailabilityStatus::parse(a)).collect(),
            min_rating: fields.get("rating").parse::<i64>().ok().map(|stars| stars.clamp(1, 5) * 100),
            min_price,
            max_price,
            ..SearchFilter::default()
        },
        sort,
        offset: (page - 1) * u64::from(PER_PAGE),
        limit: PER_PAGE,
        facets: vec![Facet::Categories, Facet::Brands, Facet::Rating, Facet::Availability],
        ..SearchQuery::default()
    };
    let found = site.browser().search().search(&query).await?;
    let titles = found.highlights().into_iter().map(|highlights| highlights.title);
    let cards = found.products.iter().zip(titles).map(|(product, title)| Card::found(product, title)).collect();
    let groups = found.facets.iter().map(|(facet, values)| group(&fields, *facet, values)).collect();
    let orders = [
        ("relevance", if text.is_empty() { "Newest" } else { "Best match" }),
        ("rating_desc", "Best rated"),
        ("price_asc", "Lowest price"),
        ("price_desc", "Highest price"),
    ];
    let total = found.total.count + found.partial;
    let list = List {
        title: if text.is_empty() { "All products".to_owned() } else { format!("Results for “{text}”") },
        description: None,
        text,
        trail: Vec::new(),
        total: counted(total, found.total.exact),
        cards,
        groups,
        sorts: sorts(&fields, &orders, sort.as_str()),
        min_price: fields.get("min_price").to_owned(),
        max_price: fields.get("max_price").to_owned(),
        kept: fields.others(&["min_price", "max_price"]),
        previous: (page > 1).then(|| fields.with("page", &(page - 1).to_string())),
        next: (page < LAST_PAGE && page * u64::from(PER_PAGE) < total)
            .then(|| fields.with("page", &(page + 1).to_string())),
    };
    site.page("list.html", &headers, list).await
}

/// Returns the links to the values of a facet.
fn group(fields: &Fields, facet: Facet, values: &[FacetValue]) -> Group {
    let (name, field, takes_many) = match facet {
        Facet::Categories => ("Category", "category", true),
        Facet::Brands => ("Brand", "brand", true),
        Facet::Rating => ("Rating", "rating", false),
        _ => ("Availability", "availability", true),
    };
    let choice = |value: &FacetValue| {
        let label = match facet {
            Facet::Rating => format!("Rated {} or better", value.label),
            Facet::Availability => {
                AVAILABILITIES.iter().find(|(status, _)| status.as_str() == value.value).map_or("", |a| a.1).to_owned()
            }
            _ => value.label.clone(),
        };
        fields.choice(&label, Some(value.count), (field, value.value.as_str()), takes_many)
    };
    Group { name, choices: values.iter().filter(|value| value.count > 0).take(CHOICES).map(choice).collect() }
}

/// The list below the search field, which a script fetches while the shopper types.
pub async fn suggest(State(site): Site, RawQuery(query): RawQuery) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let found = site.browser().search().suggest(fields.get("q"), 4).await?;
    let to_search = |text: &String| Link { label: text.clone(), href: format!("/search{}", fields.with("q", text)) };
    let queries: Vec<Link> = found.queries.iter().map(to_search).collect();
    let categories: Vec<Link> = found.categories.iter().map(Link::to_category).collect();
    let cards = cards(&found.products);
    site.render(
        "suggest.html",
        context! { queries => Serde(queries), categories => Serde(categories), cards => Serde(cards) },
    )
}

pub async fn product(
    State(site): Site,
    Path(slug): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let browser = site.browser();
    let product = browser.products().get_by_slug(&slug).await?.value;
    let tree = browser.categories().tree().await?.value;
    // The page does not need the search engine.
    let related = browser.search().related(product.id, 5).await.map(|found| found.products).unwrap_or_default();
    browser.analytics().note_view(product.id).await?;

    let mut variants: Vec<Variant> = product.skus.iter().map(|sku| Variant::of(sku, &product)).collect();
    let first = variants.iter().position(|variant| variant.availability.is_available);
    if let Some(chosen) = variants.get_mut(first.unwrap_or_default()) {
        chosen.is_chosen = true;
    }
    let names: Vec<&str> =
        product.default_sku().into_iter().flat_map(|sku| sku.option_values.keys()).map(String::as_str).collect();
    let mut facts: Vec<(String, String)> = product
        .attributes
        .0
        .iter()
        .filter_map(|(name, value)| Some((heading(name), value.as_str()?.to_owned())))
        .collect();
    for (name, text) in [("Shipping", &product.shipping_information), ("Warranty", &product.warranty_information)] {
        facts.extend(text.clone().map(|text| (name.to_owned(), text)));
    }
    let page = ProductPage {
        title: product.title.clone(),
        slug: product.slug.to_string(),
        brand: product.brand.clone(),
        description: product.description.clone(),
        trail: product.categories.first().map(|category| trail(&tree, &category.path)).unwrap_or_default(),
        pictures: product.images.iter().map(|image| Picture::of(image, &product)).collect(),
        tint: tint(&product),
        stars: stars(&product),
        discount: discount(product.discount),
        options: heading(&names.join(" and ")),
        is_available: first.is_some(),
        variants,
        facts,
        related: cards(&related),
        notice: match fields.get("notice") {
            "price" => Some("The price has changed. This page now shows the current one."),
            "unavailable" => Some("This variant cannot be added to the cart any more. Choose another one."),
            _ => None,
        },
    };
    site.page("product.html", &headers, page).await
}
