//! Products: their rows in the model, the operations on them, and their comparison.

mod input;
mod read;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::World;
use super::comparison::{Checked, Refusal, observe, read, read_ok, same};
use super::{Operation, Part, Runner};
use crate::domain::catalog::product::{Product, ProductFilter, ProductSort};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::{Actor, DeleteMode, IncludeDeleted};
use crate::id::{CategoryId, ProductId};
use crate::paging::Paging;
use crate::service::catalog::product::ProductListQuery;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_products()) };

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create product",
        weight: |w| if w.has_many_products() { 0 } else { 90 },
        run: |r| Box::pin(r.create_product()),
    },
    Operation { name: "patch product", weight: |_| 80, run: |r| Box::pin(r.patch_product()) },
    Operation { name: "replace product", weight: |_| 50, run: |r| Box::pin(r.replace_product()) },
    Operation {
        name: "delete product",
        weight: |w| if w.has_many_products() { 115 } else { 25 },
        run: |r| Box::pin(r.delete_product(DeleteMode::Soft)),
    },
    Operation {
        name: "force-delete product",
        weight: |w| if w.has_many_deleted_products() { 30 } else { 15 },
        run: |r| Box::pin(r.delete_product(DeleteMode::Force)),
    },
    Operation {
        name: "restore product",
        weight: |w| if w.has_many_deleted_products() { 10 } else { 25 },
        run: |r| Box::pin(r.restore_product()),
    },
    Operation { name: "read product", weight: |_| 50, run: |r| Box::pin(r.read_product()) },
    Operation { name: "read product by slug", weight: |_| 25, run: |r| Box::pin(r.read_product_by_slug()) },
    Operation { name: "read products", weight: |_| 25, run: |r| Box::pin(r.read_products()) },
    Operation { name: "list products", weight: |_| 20, run: |r| Box::pin(r.list_products()) },
    Operation { name: "list products again", weight: |_| 60, run: |r| Box::pin(r.list_products_again()) },
    Operation { name: "walk products", weight: |_| 30, run: |r| Box::pin(r.walk_products()) },
    Operation { name: "narrow products", weight: |_| 15, run: |r| Box::pin(r.narrow_products()) },
];

/// With more live products than this, the history deletes and does not create.
const MANY: usize = 40;

/// The products of the model.
#[derive(Debug, Default)]
pub(super) struct Products {
    /// Each product with its categories in their order, without its SKUs and category summaries.
    pub(super) rows: BTreeMap<ProductId, (Product, Vec<CategoryId>)>,
    /// The last answer that showed each product.
    seen: HashMap<Uuid, Product>,
    /// Some lists that were read before, which a cache may still have.
    lists: Vec<ProductListQuery>,
}

impl World {
    fn has_many_products(&self) -> bool {
        self.live_products().count() > MANY
    }

    fn has_many_deleted_products(&self) -> bool {
        self.products.rows.len() - self.live_products().count() > MANY / 2
    }

    pub(super) fn live_product(&self, id: ProductId) -> Option<&(Product, Vec<CategoryId>)> {
        self.products.rows.get(&id).filter(|(p, _)| p.audit.is_live())
    }

    pub(super) fn live_products(&self) -> impl Iterator<Item = &(Product, Vec<CategoryId>)> {
        self.products.rows.values().filter(|(p, _)| p.audit.is_live())
    }

    /// Returns the product as a read shows it.
    fn product(&self, id: ProductId) -> Product {
        let (p, of) = &self.products.rows[&id];
        let skus = self.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        Product { categories: of.iter().map(|c| self.summary(*c)).collect(), skus, ..p.clone() }
    }

    /// Returns the SKUs by which lists filter and sort the product: the live ones, or those that were deleted with it.
    fn listed_skus(&self, p: &Product) -> Vec<Sku> {
        self.skus_of(p.id).into_iter().filter(|s| s.audit.deleted_at == p.audit.deleted_at).collect()
    }

    fn product_slugs(&self) -> HashSet<String> {
        self.live_products().map(|(p, _)| p.slug.to_string()).collect()
    }

    /// Returns the unique values of `p` that another product has.
    fn product_conflicts(&self, p: &Product) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let others = || self.live_products().filter(|(o, _)| o.id != p.id);
        if others().any(|(o, _)| o.slug == p.slug) {
            refusals.push(Refusal::Duplicate("slug"));
        }
        if p.external.is_some() && others().any(|(o, _)| o.external == p.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        refusals
    }
}

impl Runner<'_> {
    pub(super) fn some_product(&mut self) -> ProductId {
        let live: Vec<ProductId> = self.world.live_products().map(|(p, _)| p.id).collect();
        let all: Vec<ProductId> = self.world.products.rows.keys().copied().collect();
        self.some_id(&live, &all)
    }

    /// Returns mostly a deleted product.
    fn deleted_product(&mut self) -> ProductId {
        let gone: Vec<ProductId> =
            self.world.products.rows.values().filter(|(p, _)| !p.audit.is_live()).map(|(p, _)| p.id).collect();
        if self.chance(5) { self.some_product() } else { self.one_of(&gone).unwrap_or_else(Self::missing) }
    }

    /// Compares a product that the shop returned. The revision is taken over from the answer.
    pub(super) fn product_answer(&mut self, got: &Product) -> Checked<()> {
        let mut want = self.world.product(got.id);
        want.revision = got.revision;
        same("the answer", got, &want)?;
        observe(&mut self.world.products.seen, got.id.0, want, |p| p.revision)
    }

    /// Marks the product of a SKU as edited, as a write of the SKU does, and compares it.
    pub(super) async fn product_edited(&mut self, id: ProductId, actor: &Actor) -> Checked<()> {
        let now = self.now();
        self.world.products.rows.get_mut(&id).unwrap().0.audit.edited(now, actor);
        let got = read_ok(self.shop.products().get_fresh(id, IncludeDeleted::Yes).await)?;
        self.product_answer(&got)
    }

    /// Compares all products, deleted ones too.
    async fn compare_products(&mut self) -> Checked<()> {
        let filter = ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() };
        let mut after = None;
        let mut ids = Vec::new();
        loop {
            let query = ProductListQuery {
                filter: filter.clone(),
                sort: ProductSort::CreatedAsc,
                paging: Paging::Keyset { after: after.clone(), limit: 100 },
            };
            let found = read("the products", self.shop.products().list(&query).await)?;
            for p in &found.value.page.items {
                if !self.world.products.rows.contains_key(&p.id) {
                    return Err(format!("there is a product too many: {p:?}"));
                }
                self.product_answer(p)?;
                self.digest_at_end(&***p);
                ids.push(p.id);
            }
            after.clone_from(&found.value.page.next);
            if after.is_none() {
                break;
            }
        }
        same("all products", &ids, &self.world.products.rows.keys().copied().collect())
    }
}
