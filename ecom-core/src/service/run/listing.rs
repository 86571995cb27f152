//! Which lists of products a write can change (R15).
//!
//! The catalog has *parts*: one [`Aspect`] of the products at one [`Place`], such as the prices of the active products
//! in a category and below it. A page of a list is made from the parts that its filter and its order use, and a write
//! changes the parts in which the product differs before and after it. So a page stays cached through all writes that
//! neither move a product nor add or remove one. The products on a page are cached by themselves, so a page does not
//! depend on anything else that they show.
//!
//! Both halves are here: [`of_page`] and [`of_filter_values`] return the parts of a list, [`moved`] those of a write.

use std::collections::HashSet;

use super::read_through::text_hash;
use crate::domain::catalog::product::{Product, ProductFilter, ProductSort, ProductStatus};
use crate::domain::common::IncludeDeleted;
use crate::port::cache::CacheKey;
use crate::text::Slug;

/// A property of products that lists select or sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Aspect {
    /// Which products there are.
    Presence,
    /// The lowest final price.
    Price,
    /// The title.
    Title,
    /// The brand.
    Brand,
    /// The tags.
    Tags,
    /// The categories that the product is in itself.
    Categories,
    /// The best availability of the SKUs.
    Availability,
    /// The mean rating.
    Rating,
}

/// The status of products, and the slug of a category that they are in or below; `None` is the whole catalog.
type Place<'a> = (ProductStatus, Option<&'a str>);

impl Aspect {
    /// Every aspect in which a product that stays where it is can differ.
    const OF_A_PRODUCT: [Self; 7] =
        [Self::Price, Self::Title, Self::Brand, Self::Tags, Self::Categories, Self::Availability, Self::Rating];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Price => "price",
            Self::Title => "title",
            Self::Brand => "brand",
            Self::Tags => "tags",
            Self::Categories => "categories",
            Self::Availability => "availability",
            Self::Rating => "rating",
        }
    }

    /// Returns whether the aspect is one part for the whole catalog. Sales and reviews change these two, and they read
    /// neither the status nor the categories of a product.
    const fn is_everywhere(self) -> bool {
        matches!(self, Self::Availability | Self::Rating)
    }

    fn at(self, place: Place<'_>) -> CacheKey {
        let (status, category) = place;
        let text = match category {
            _ if self.is_everywhere() => self.as_str().to_owned(),
            None => format!("{} {}", self.as_str(), status.as_str()),
            Some(slug) => format!("{} {} {slug}", self.as_str(), status.as_str()),
        };
        CacheKey::Listing(text_hash(&text))
    }

    /// Returns whether two states of a product differ in this aspect.
    fn differs(self, before: &Product, after: &Product) -> bool {
        let price = |p: &Product| p.price_range().map(|(lowest, _)| lowest);
        match self {
            Self::Presence => before.id != after.id,
            Self::Price => price(before) != price(after),
            Self::Title => before.title != after.title,
            Self::Brand => before.brand != after.brand,
            Self::Tags => before.tags != after.tags,
            Self::Categories => !before.categories.iter().map(|c| c.id).eq(after.categories.iter().map(|c| c.id)),
            Self::Availability => before.availability() != after.availability(),
            Self::Rating => before.rating.mean != after.rating.mean,
        }
    }
}

/// Returns whether lists with this filter are cached. A list with soft-deleted rows, and one of what was edited lately,
/// is for operators and consumers, who see the database as it is.
pub(crate) fn is_cached(filter: &ProductFilter) -> bool {
    filter.include_deleted == IncludeDeleted::No && filter.updated_since.is_none()
}

/// Returns the parts that a page of a list is made from, with its total. `within` is the slug of the category of the
/// filter.
pub(crate) fn of_page(filter: &ProductFilter, sort: ProductSort, within: Option<&Slug>) -> Vec<CacheKey> {
    let by = match sort {
        // Neither the time of creation nor the id ever changes.
        ProductSort::CreatedDesc | ProductSort::CreatedAsc => None,
        ProductSort::PriceAsc | ProductSort::PriceDesc => Some(Aspect::Price),
        ProductSort::TitleAsc | ProductSort::TitleDesc => Some(Aspect::Title),
        ProductSort::RatingDesc => Some(Aspect::Rating),
    };
    parts(filter, by, within)
}

/// Returns the parts that the values are made from by which a list can be narrowed: they count the products by category
/// and by brand, and show the range of their prices.
pub(crate) fn of_filter_values(filter: &ProductFilter, within: Option<&Slug>) -> Vec<CacheKey> {
    parts(filter, [Aspect::Categories, Aspect::Brand, Aspect::Price], within)
}

/// Returns the parts of the catalog with these aspects and those that the filter uses.
fn parts(filter: &ProductFilter, others: impl IntoIterator<Item = Aspect>, within: Option<&Slug>) -> Vec<CacheKey> {
    // A filter that is added here must name its aspect.
    let ProductFilter {
        category: _,
        min_price,
        max_price,
        brand,
        tag,
        availability,
        status,
        include_deleted: _,
        updated_since: _,
    } = filter;
    let mut aspects = vec![Aspect::Presence];
    aspects.extend(others);
    let used = [
        (min_price.is_some() || max_price.is_some(), Aspect::Price),
        (brand.is_some(), Aspect::Brand),
        (tag.is_some(), Aspect::Tags),
        (availability.is_some(), Aspect::Availability),
    ];
    aspects.extend(used.iter().filter(|(is_used, _)| *is_used).map(|(_, aspect)| *aspect));
    let statuses = status.as_ref().map_or(&ProductStatus::ALL[..], std::slice::from_ref);
    let mut seen = HashSet::new();
    let all = statuses.iter().flat_map(|status| {
        let place = (*status, within.map(Slug::as_str));
        aspects.iter().map(move |aspect| aspect.at(place))
    });
    all.filter(|part| seen.insert(*part)).collect()
}

/// Returns the places of a product: none if it is soft-deleted.
fn places(product: &Product) -> HashSet<Place<'_>> {
    if !product.audit.is_live() {
        return HashSet::new();
    }
    let slugs = product.categories.iter().flat_map(|c| c.path.split('/'));
    slugs.map(Some).chain([None]).map(|category| (product.status, category)).collect()
}

/// Returns the parts that a write of a product changes; `None` stands for a product that does not exist.
pub(super) fn moved(before: Option<&Product>, after: Option<&Product>) -> HashSet<CacheKey> {
    let [was, is] = [before, after].map(|product| product.map(places).unwrap_or_default());
    let mut parts: HashSet<CacheKey> = was.symmetric_difference(&is).map(|place| Aspect::Presence.at(*place)).collect();
    if let (Some(before), Some(after)) = (before, after) {
        let stays: Vec<Place<'_>> = was.intersection(&is).copied().collect();
        let aspects = Aspect::OF_A_PRODUCT.into_iter().filter(|aspect| aspect.differs(before, after));
        parts.extend(aspects.flat_map(|aspect| stays.iter().map(move |place| aspect.at(*place))));
    }
    parts
}

/// Returns the parts with an aspect that is one part for the whole catalog.
pub(super) fn everywhere(aspect: Aspect) -> CacheKey {
    debug_assert!(aspect.is_everywhere(), "{aspect:?} has a part for each place");
    aspect.at((ProductStatus::Active, None))
}

#[cfg(all(test, feature = "testkit"))]
#[expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::domain::catalog::category::CategorySummary;
    use crate::domain::catalog::sku::AvailabilityStatus;
    use crate::testkit::fresh_seed;
    use crate::testkit::sample::{Env, usd};
    use crate::text::fold_key;

    const BRANDS: [&str; 3] = ["Acme", "ACME", "Zen"];
    const TAGS: [&str; 2] = ["green", "new"];

    /// A branch of three categories, and another root.
    fn categories(env: &Env) -> Vec<CategorySummary> {
        ["tea", "tea/green", "tea/green/sencha", "shoes"]
            .map(|path| {
                let name = path.rsplit('/').next().unwrap_or(path);
                CategorySummary { path: path.to_owned(), ..CategorySummary::from(&env.category(name, None)) }
            })
            .to_vec()
    }

    /// Changes one property of a product.
    fn change(p: &mut Product, all: &[CategorySummary], rng: &mut StdRng) {
        match rng.random_range(0..12) {
            0 => p.title = ["Sencha", "SENCHA", "Boots"].choose(rng).unwrap().to_string(),
            1 => p.brand = BRANDS.choose(rng).filter(|_| rng.random_bool(0.8)).map(ToString::to_string),
            2 => p.tags = TAGS.iter().filter(|_| rng.random_bool(0.5)).map(ToString::to_string).collect(),
            3 => p.status = *ProductStatus::ALL.choose(rng).unwrap(),
            4 => p.categories = all.iter().filter(|_| rng.random_bool(0.4)).cloned().collect(),
            5 => p.skus[0].price = usd(*[400, 999, 2_500].choose(rng).unwrap()),
            6 => p.skus[0].on_hand = *[0, 3, 40, 41].choose(rng).unwrap(),
            7 => p.rating.mean = crate::money::Rating::from_hundredths(*[0, 300, 450].choose(rng).unwrap()).unwrap(),
            8 => p.audit.deleted_at = Some(p.audit.created_at).filter(|_| rng.random_bool(0.5)),
            9 => p.skus[0].track_stock = rng.random_bool(0.5),
            10 => p.description = Some(rng.random::<u32>().to_string()),
            _ => p.skus[1].price = usd(*[300, 5_000].choose(rng).unwrap()),
        }
    }

    fn some_filter(all: &[CategorySummary], rng: &mut StdRng) -> (ProductFilter, Option<Slug>) {
        let within = all.choose(rng).filter(|_| rng.random_bool(0.6));
        let filter = ProductFilter {
            category: within.map(|c| c.id),
            min_price: Some(usd(500)).filter(|_| rng.random_bool(0.2)),
            max_price: Some(usd(1_000)).filter(|_| rng.random_bool(0.2)),
            brand: BRANDS.choose(rng).filter(|_| rng.random_bool(0.2)).map(ToString::to_string),
            tag: TAGS.choose(rng).filter(|_| rng.random_bool(0.2)).map(ToString::to_string),
            availability: AvailabilityStatus::ALL.choose(rng).copied().filter(|_| rng.random_bool(0.2)),
            status: ProductStatus::ALL.choose(rng).copied().filter(|_| rng.random_bool(0.7)),
            ..ProductFilter::default()
        };
        (filter, within.map(|c| c.slug.clone()))
    }

    fn lowest(p: &Product) -> i64 {
        p.price_range().unwrap().0.minor()
    }

    /// Returns whether a list has the product, as the contract of lists defines it.
    fn has(filter: &ProductFilter, within: Option<&Slug>, p: &Product) -> bool {
        p.audit.is_live()
            && filter.status.is_none_or(|status| status == p.status)
            && within
                .is_none_or(|slug| p.categories.iter().any(|c| c.path.split('/').any(|part| part == slug.as_str())))
            && filter.min_price.is_none_or(|least| least.minor() <= lowest(p))
            && filter.max_price.is_none_or(|most| lowest(p) <= most.minor())
            && filter.brand.as_deref().is_none_or(|b| p.brand.as_deref().map(fold_key) == Some(fold_key(b)))
            && filter.tag.as_deref().is_none_or(|t| p.tags.iter().any(|own| fold_key(own) == fold_key(t)))
            && filter.availability.is_none_or(|a| a == p.availability())
    }

    /// Returns the place of the product in a list; `None` if the list does not have it.
    fn place(filter: &ProductFilter, sort: ProductSort, within: Option<&Slug>, p: &Product) -> Option<String> {
        has(filter, within, p).then(|| match sort {
            ProductSort::CreatedAsc | ProductSort::CreatedDesc => p.id.to_string(),
            ProductSort::PriceAsc | ProductSort::PriceDesc => lowest(p).to_string(),
            ProductSort::TitleAsc | ProductSort::TitleDesc => fold_key(&p.title),
            ProductSort::RatingDesc => p.rating.mean.to_string(),
        })
    }

    /// Random writes change a part of each list whose page can differ after them, and of no list if the product shows
    /// nothing that lists use.
    #[test]
    fn r15_a_write_changes_a_part_of_each_list_that_it_concerns() {
        let seed = fresh_seed();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let env = Env::default();
        let all = categories(&env);
        let (mut concerned, mut spared) = (0, 0);
        for _ in 0..5_000 {
            let mut before = env.priced("Sencha", 999, 40);
            let second = env.sku(&before, "second", 5_000, 0);
            before.skus.push(second);
            before.audit.deleted_at = None;
            for _ in 0..6 {
                change(&mut before, &all, &mut rng);
            }
            let mut after = before.clone();
            for _ in 0..rng.random_range(0..3) {
                change(&mut after, &all, &mut rng);
            }
            let (before, after) = match rng.random_range(0..10) {
                0 => (None, Some(&after)),
                1 => (Some(&before), None),
                _ => (Some(&before), Some(&after)),
            };
            let parts = moved(before, after);
            for _ in 0..8 {
                let (filter, within) = some_filter(&all, &mut rng);
                let (sort, within) = (*ProductSort::ALL.choose(&mut rng).unwrap(), within.as_ref());
                let shown = |p: Option<&Product>| p.and_then(|p| place(&filter, sort, within, p));
                let page = of_page(&filter, sort, within);
                let hit = page.iter().any(|part| parts.contains(part));
                let is_moved = shown(before) != shown(after);
                assert!(hit || !is_moved, "seed {seed}: {filter:?} {sort:?} {within:?}: {before:?} becomes {after:?}");
                concerned += usize::from(is_moved);
                spared += usize::from(!hit);
                let counted = |p: Option<&Product>| {
                    let p = p.filter(|p| has(&filter, within, p))?;
                    Some((p.categories.iter().map(|c| c.id).collect::<Vec<_>>(), p.brand.clone(), lowest(p)))
                };
                if counted(before) != counted(after) {
                    let values = of_filter_values(&filter, within);
                    let hit = values.iter().any(|part| parts.contains(part));
                    assert!(hit, "seed {seed}: the values of {filter:?} {within:?}: {before:?} becomes {after:?}");
                }
            }
        }
        assert!(concerned > 1_000 && spared > 10_000, "the test itself is at fault: {concerned}, {spared}");
    }

    #[test]
    fn r15_a_write_that_moves_nothing_changes_no_part() {
        let env = Env::default();
        let before = env.priced("Sencha", 999, 40);
        let mut after = before.clone();
        after.skus[0].on_hand -= 1;
        after.description = Some("from Uji".to_owned());
        after.rating.count += 1;
        assert_eq!(moved(Some(&before), Some(&after)), HashSet::new());
        // A product that nobody sees moves nothing either.
        let mut gone = before.clone();
        gone.audit.deleted_at = Some(gone.audit.created_at);
        assert_eq!(moved(Some(&gone), None), HashSet::new());
        assert_ne!(moved(Some(&before), Some(&gone)), HashSet::new());
    }
}
