//! Random inputs of products, with and without faults.

use std::collections::{BTreeSet, HashSet};

use rand::RngExt as _;
use rust_decimal::Decimal;

use super::super::Runner;
use super::super::comparison::Refusal;
use super::super::generator::{ATTRIBUTES, BAD_SLUGS, BRANDS, SLUGS, TAGS, attributes, bad_text, decimal};
use super::super::shared::{external, trimmed};
use crate::domain::catalog::product::{Image, ImageInput, Product, ProductInput, ProductStatus, RatingSummary};
use crate::domain::catalog::sku::{Sku, SkuInput};
use crate::domain::common::{Attributes, Audit};
use crate::error::ErrorCode;
use crate::id::{CategoryId, ProductId};
use crate::money::{ExactDecimal, Percentage};
use crate::text::{Slug, fold_key};

/// Writes the values of an input into `p`, except its slug, categories and SKUs.
pub(super) fn written_product(p: &mut Product, input: &ProductInput) {
    input.title.trim().clone_into(&mut p.title);
    p.description = trimmed(input.description.as_ref());
    p.brand = trimmed(input.brand.as_ref());
    p.status = input.status;
    let mut seen = HashSet::new();
    p.tags = input.tags.iter().filter(|t| seen.insert(fold_key(t))).map(|t| t.trim().to_owned()).collect();
    let none_primary = input.images.iter().all(|i| !i.primary);
    p.images = input
        .images
        .iter()
        .enumerate()
        .map(|(i, image)| Image {
            url: image.url.clone(),
            alt: trimmed(image.alt.as_ref()),
            primary: image.primary || (none_primary && i == 0),
            width: image.width,
            height: image.height,
        })
        .collect();
    p.attributes.clone_from(&input.attributes);
    p.discount = input.discount_percentage.map_or_else(Percentage::default, |d| Percentage::exact(d.0).unwrap());
    p.warranty_information = trimmed(input.warranty_information.as_ref());
    p.shipping_information = trimmed(input.shipping_information.as_ref());
    if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
        p.external = Some(x);
    }
}

/// Returns a product without any values.
pub(super) fn blank(id: ProductId, audit: Audit) -> Product {
    Product {
        id,
        title: String::new(),
        slug: Slug::trusted(String::new()),
        description: None,
        brand: None,
        status: ProductStatus::Active,
        categories: Vec::new(),
        tags: Vec::new(),
        images: Vec::new(),
        attributes: Attributes::default(),
        discount: Percentage::default(),
        warranty_information: None,
        shipping_information: None,
        rating: RatingSummary::default(),
        external: None,
        skus: Vec::new(),
        revision: 1,
        audit,
    }
}

impl Runner<'_> {
    /// Returns a whole product, flat or with `skus`, without external ids of its SKUs, and the refusals of its faults.
    pub(super) fn product_input(&mut self, flat: bool) -> (ProductInput, Vec<Refusal>) {
        let mut input = ProductInput { title: self.word(), ..ProductInput::default() };
        if self.chance(20) {
            input.slug = Some(self.any(&SLUGS).to_owned());
        }
        if self.chance(40) {
            input.description = Some(self.any(&["d", " two\nlines ", "  ", "ß🎧"]).to_owned());
        }
        if self.chance(60) {
            input.brand = Some(self.any(&BRANDS).to_owned());
        }
        input.status = self.any(&[
            ProductStatus::Active,
            ProductStatus::Active,
            ProductStatus::Active,
            ProductStatus::Draft,
            ProductStatus::Archived,
        ]);
        match self.below(5) {
            0 => {}
            1 => input.category = Some(self.category_reference()),
            _ => input.categories = Some(self.category_references()),
        }
        let n = self.below(4);
        input.tags = (0..n).map(|_| self.any(&TAGS).to_owned()).collect();
        let n = self.below(3);
        input.images = (0..n)
            .map(|i| ImageInput {
                url: format!("https://img.example/{i}.webp?x=é"),
                alt: if i == 0 { Some(" ß ".to_owned()) } else { None },
                primary: i == 1,
                width: (i == 1).then_some(640),
                height: (i == 1).then_some(480),
            })
            .collect();
        input.attributes = attributes(self.any(&ATTRIBUTES));
        if self.chance(40) {
            input.discount_percentage = Some(self.discount());
        }
        if self.chance(20) {
            input.warranty_information = Some("2 years ♻".to_owned());
            input.shipping_information = Some(" ".to_owned());
        }
        (input.source, input.external_id) = self.external_pair(8);
        if flat {
            let s = self.sku_input();
            input.price = s.price;
            (input.stock, input.track_stock) = (s.stock, s.track_stock);
            input.sku = s.code;
            input.weight = s.weight;
            input.dimensions = s.dimensions;
            input.barcode = s.barcode;
            input.low_stock_threshold = s.low_stock_threshold;
        } else {
            let n = 1 + self.below(3);
            let mut seen = HashSet::new();
            let mut skus: Vec<SkuInput> = (0..n).map(|_| self.sku_input()).collect();
            skus.retain(|s| s.code.as_ref().is_none_or(|c| seen.insert(fold_key(c))));
            input.skus = Some(skus);
        }
        let refusals = if self.chance(8) { vec![self.spoil(&mut input)] } else { Vec::new() };
        (input, refusals)
    }

    pub(super) fn discount(&mut self) -> ExactDecimal {
        let any = decimal(self.rng.random_range(0..10_001));
        self.any(&[decimal(0), decimal(10_000), decimal(1_250), any])
    }

    /// Puts one fault into an input and returns its refusal.
    fn spoil(&mut self, input: &mut ProductInput) -> Refusal {
        let sku_field = |field: &str, flat: bool| if flat { field.to_owned() } else { format!("skus[0].{field}") };
        let flat = input.skus.is_none();
        let field = match self.below(18) {
            0 => {
                input.title = bad_text(&mut self.rng, 255);
                "title".to_owned()
            }
            1 => {
                input.slug = Some(self.any(&BAD_SLUGS).to_owned());
                "slug".to_owned()
            }
            2 => {
                input.brand = Some("🍵".repeat(101));
                "brand".to_owned()
            }
            3 => {
                input.tags = vec!["ok".to_owned(), bad_text(&mut self.rng, 50)];
                "tags[1]".to_owned()
            }
            4 => {
                input.images = vec![ImageInput::new("ftp://img.example/a")];
                "images[0].url".to_owned()
            }
            5 => {
                input.discount_percentage = Some(self.any(&[decimal(10_001), decimal(-1)]));
                "discount_percentage".to_owned()
            }
            6 => {
                let price = self.any(&[decimal(-1), ExactDecimal(Decimal::new(9_999, 3))]);
                match &mut input.skus {
                    Some(skus) => skus[0].price = Some(price),
                    None => input.price = Some(price),
                }
                sku_field("price", flat)
            }
            7 => {
                match &mut input.skus {
                    Some(skus) => skus[0].stock = Some(-1),
                    None => input.stock = Some(-1),
                }
                sku_field("stock", flat)
            }
            8 => {
                input.categories = Some(Vec::new());
                input.category = Some("x".to_owned());
                "category".to_owned()
            }
            9 => {
                input.attributes = attributes("{\"a\": [\"\\u0000\"]}");
                "attributes".to_owned()
            }
            10 if flat => {
                input.sku = Some(bad_text(&mut self.rng, 100));
                "sku".to_owned()
            }
            10 => {
                let code = Some("same".to_owned());
                let twin = SkuInput { code: Some("ＳＡＭＥ".to_owned()), ..self.sku_input() };
                input.skus = Some(vec![SkuInput { code, ..self.sku_input() }, twin]);
                "skus[1].code".to_owned()
            }
            _ => {
                input.currency = Some("EUR".to_owned());
                return Refusal::Code(ErrorCode::CurrencyMismatch);
            }
        };
        Refusal::field(&field)
    }

    /// Returns the categories that an input names, each once.
    pub(super) fn resolve_all(&self, input: &ProductInput) -> Result<Vec<CategoryId>, Refusal> {
        let all: Vec<&String> = input.categories.iter().flatten().chain(&input.category).collect();
        let mut of: Vec<CategoryId> = Vec::new();
        let mut gone = BTreeSet::new();
        for (i, r) in all.into_iter().enumerate() {
            match self.world.resolve(r) {
                Some(id) if of.contains(&id) => {}
                Some(id) => of.push(id),
                None => drop(gone.insert(format!("categories[{i}]"))),
            }
        }
        if gone.is_empty() { Ok(of) } else { Err(Refusal::Fields(gone)) }
    }

    /// Lets some of the inputs name SKUs of `current` by id or by code, and seldom a SKU of another product.
    pub(super) fn name_some(&mut self, current: &[Sku], skus: &mut [SkuInput]) {
        let mut at = 0;
        for old in current {
            if at >= skus.len() {
                break;
            }
            match self.below(5) {
                0 => {}
                1 => {
                    let free = skus.iter().all(|s| s.code.as_deref().map(fold_key) != Some(fold_key(&old.code)));
                    if free {
                        skus[at].code = Some(self.any(&[old.code.clone(), old.code.to_uppercase()]));
                        // A code in upper case may have another key.
                        let key = fold_key(skus[at].code.as_ref().unwrap());
                        if skus
                            .iter()
                            .enumerate()
                            .any(|(i, s)| i != at && s.code.as_deref().map(fold_key) == Some(key.clone()))
                        {
                            skus[at].code = None;
                        }
                    }
                    at += 1;
                }
                2 => {
                    skus[at] = SkuInput { id: Some(old.id), ..SkuInput::from(old) };
                    if skus
                        .iter()
                        .enumerate()
                        .any(|(i, s)| i != at && s.code.as_deref().map(fold_key) == Some(fold_key(&old.code)))
                    {
                        skus[at].code = None;
                    }
                    at += 1;
                }
                _ => {
                    skus[at].id = Some(old.id);
                    at += 1;
                }
            }
        }
        if self.chance(3) {
            skus[0].id = Some(self.some_sku());
        }
    }
}
