//! SKUs: their rules in the model, the operations on them, and their comparison.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::RngExt as _;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::World;
use super::comparison::{Checked, Refusal, read, same};
use super::generator::{ATTRIBUTES, attributes, bad_text, decimal, measure};
use super::inventory::MAX_STOCK;
use super::shared::external;
use super::{Operation, Part, Runner};
use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::ProductInput;
use crate::domain::catalog::sku::{Dimensions, DimensionsInput, Sku, SkuInput, SkuPatch};
use crate::domain::common::{Attributes, Audit, DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::stock::inventory::StockReason;
use crate::error::{ErrorCode, Result};
use crate::id::{ProductId, SkuId};
use crate::money::{Currency, ExactDecimal, Money};
use crate::shop::Shop;
use crate::text::fold_key;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_skus()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "create SKU", weight: |_| 30, run: |r| Box::pin(r.create_sku()) },
    Operation { name: "patch SKU", weight: |_| 50, run: |r| Box::pin(r.patch_sku()) },
    Operation { name: "replace SKU", weight: |_| 20, run: |r| Box::pin(r.replace_sku()) },
    Operation { name: "delete SKU", weight: |_| 12, run: |r| Box::pin(r.delete_sku(DeleteMode::Soft)) },
    Operation { name: "force-delete SKU", weight: |_| 8, run: |r| Box::pin(r.delete_sku(DeleteMode::Force)) },
    Operation { name: "restore SKU", weight: |_| 15, run: |r| Box::pin(r.restore_sku()) },
    Operation { name: "read SKU", weight: |_| 9, run: |r| Box::pin(r.read_sku()) },
    Operation { name: "read SKU by code", weight: |_| 8, run: |r| Box::pin(r.read_sku_by_code()) },
    Operation { name: "find SKUs by barcode", weight: |_| 8, run: |r| Box::pin(r.find_skus_by_barcode()) },
];

/// Writes the values of an input into `s`.
pub(super) fn written(s: &mut Sku, input: &SkuInput) {
    if let Some(code) = &input.code {
        code.trim().clone_into(&mut s.code);
    }
    s.option_values.clone_from(&input.option_values);
    s.attributes.clone_from(&input.attributes);
    s.price = Money::exact(input.price.unwrap().0, Currency::USD).unwrap();
    s.weight = input.weight.map(measure);
    s.dimensions = input.dimensions.map(|d| Dimensions {
        width: measure(d.width),
        height: measure(d.height),
        depth: measure(d.depth),
    });
    s.track_stock = input.track_stock.unwrap_or(true);
    s.low_stock_threshold = input.low_stock_threshold.unwrap_or(5);
    s.barcode = input.barcode.as_ref().map(|b| b.trim().to_owned());
    if let Some(x) = external(input.source.as_ref(), input.external_id.as_ref()) {
        s.external = Some(x);
    }
}

/// Returns a SKU without any values.
pub(super) fn blank_sku(id: SkuId, product_id: ProductId, position: usize, audit: Audit) -> Sku {
    Sku {
        id,
        product_id,
        position: position as i32,
        code: String::new(),
        option_values: BTreeMap::new(),
        attributes: Attributes::default(),
        price: Money::from_minor(0, Currency::USD),
        weight: None,
        dimensions: None,
        on_hand: 0,
        reserved: 0,
        track_stock: true,
        low_stock_threshold: 5,
        barcode: None,
        external: None,
        audit,
    }
}

/// Returns the SKU that the flat fields of a product describe.
pub(super) fn flat_sku(input: &ProductInput) -> SkuInput {
    SkuInput {
        code: input.sku.clone(),
        price: input.price,
        weight: input.weight,
        dimensions: input.dimensions,
        stock: input.stock,
        track_stock: input.track_stock,
        low_stock_threshold: input.low_stock_threshold,
        barcode: input.barcode.clone(),
        ..SkuInput::default()
    }
}

/// Returns true if an input changes the stock of a SKU that does not track it. `after` has the values of the input.
pub(super) fn moves_untracked(after: &Sku, input: &SkuInput, on_hand: i64) -> bool {
    !after.track_stock && input.stock.is_some_and(|s| s != on_hand)
}

impl World {
    pub(super) fn live_skus(&self) -> impl Iterator<Item = &Sku> {
        self.skus.values().filter(|s| s.audit.is_live())
    }

    /// Returns all SKUs of a product in their order, deleted ones too.
    pub(super) fn skus_of(&self, id: ProductId) -> Vec<Sku> {
        let mut skus: Vec<Sku> = self.skus.values().filter(|s| s.product_id == id).cloned().collect();
        skus.sort_by_key(|s| (s.position, s.id));
        skus
    }

    /// Returns the keys of all codes in use.
    pub(super) fn codes(&self) -> HashMap<String, SkuId> {
        self.live_skus().map(|s| (fold_key(&s.code), s.id)).collect()
    }

    /// Returns the unique values of `own`, the SKUs of one write, that another SKU has.
    pub(super) fn sku_conflicts(&self, own: &[Sku]) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (i, s) in own.iter().enumerate() {
            let others = || self.live_skus().filter(|o| own.iter().all(|w| w.id != o.id)).chain(&own[..i]);
            if others().any(|o| fold_key(&o.code) == fold_key(&s.code)) {
                refusals.push(Refusal::Duplicate("code"));
            }
            if s.external.is_some() && others().any(|o| o.external == s.external) {
                refusals.push(Refusal::Duplicate("external_id"));
            }
        }
        refusals
    }
}

impl Runner<'_> {
    pub(super) fn some_sku(&mut self) -> SkuId {
        let live: Vec<SkuId> = self.world.live_skus().map(|s| s.id).collect();
        let all: Vec<SkuId> = self.world.skus.keys().copied().collect();
        self.some_id(&live, &all)
    }

    /// Returns mostly a deleted SKU.
    fn deleted_sku(&mut self) -> SkuId {
        let gone: Vec<SkuId> = self.world.skus.values().filter(|s| !s.audit.is_live()).map(|s| s.id).collect();
        if self.chance(5) { self.some_sku() } else { self.one_of(&gone).unwrap_or_else(Self::missing) }
    }

    pub(super) fn sku_input(&mut self) -> SkuInput {
        let dimensions = DimensionsInput { width: decimal(1_050), height: decimal(0), depth: decimal(123_456_789) };
        let options = [("size", "M"), ("Größe", "ß"), ("色", "赤")];
        let track_stock = self.any(&[None, None, None, None, None, None, Some(true), Some(false)]);
        let stock = if self.chance(70) { Some(self.rng.random_range(0..30)) } else { None };
        SkuInput {
            code: if self.chance(55) { Some(self.code()) } else { None },
            price: Some(self.price()),
            // A new SKU that does not track its stock has none.
            stock: if track_stock == Some(false) { self.any(&[None, None, Some(0)]) } else { stock },
            track_stock,
            low_stock_threshold: if self.chance(40) { Some(self.rng.random_range(0..15)) } else { None },
            barcode: if self.chance(25) { Some(self.any(&["400", "400 ", "é-1", "🍵"]).to_owned()) } else { None },
            weight: if self.chance(30) { Some(decimal(self.rng.random_range(0..10_000))) } else { None },
            dimensions: if self.chance(20) { Some(dimensions) } else { None },
            ..SkuInput {
                option_values: options[..self.below(4)]
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                attributes: attributes(self.any(&ATTRIBUTES)),
                ..SkuInput::default()
            }
        }
    }

    pub(super) fn price(&mut self) -> ExactDecimal {
        match self.below(12) {
            0 => decimal(0),
            1 => decimal(9_007_199_254_740_993),
            _ => decimal(self.rng.random_range(1..4_000)),
        }
    }

    fn sku_answer(&mut self, got: &Sku) -> Checked<()> {
        same("the answer", got, &self.world.skus[&got.id])
    }

    /// Sometimes puts a fault into an input and returns its refusal.
    fn spoil_sku(&mut self, input: &mut SkuInput) -> Vec<Refusal> {
        if !self.chance(6) {
            return Vec::new();
        }
        let field = match self.below(4) {
            0 => {
                input.code = Some(bad_text(&mut self.rng, 100));
                "code"
            }
            1 => {
                input.price = Some(self.any(&[decimal(-1), ExactDecimal(Decimal::new(1, 5))]));
                "price"
            }
            2 => {
                input.stock = Some(self.any(&[-1, MAX_STOCK + 1]));
                "stock"
            }
            _ => {
                input.barcode = Some(bad_text(&mut self.rng, 100));
                "barcode"
            }
        };
        vec![Refusal::field(field)]
    }

    async fn create_sku(&mut self) -> Checked<()> {
        let product = self.some_product();
        let mut input = self.sku_input();
        (input.source, input.external_id) = self.external_pair(5);
        let mut refusals = self.spoil_sku(&mut input);
        if refusals.is_empty() && self.chance(3) {
            (input.track_stock, input.stock) = (Some(false), Some(3));
            refusals.push(Refusal::field("stock"));
        }
        let who = self.principal();
        self.begins((product, &input));
        let mut want = None;
        let found = self.world.live_product(product).map(|(p, _)| p.clone());
        match found {
            _ if !refusals.is_empty() => {}
            None => refusals.push(Refusal::Code(ErrorCode::NotFound)),
            Some(p) => {
                let live: Vec<Sku> = self.world.skus_of(product).into_iter().filter(|s| s.audit.is_live()).collect();
                let position = live.iter().map(|s| s.position + 1).max().unwrap_or(0);
                let audit = Audit::created(self.now(), who.actor());
                let mut sku = blank_sku(SkuId(Uuid::nil()), product, position as usize, audit);
                written(&mut sku, &input);
                sku.on_hand = input.stock.unwrap_or(0);
                if input.code.is_none() {
                    let taken: HashSet<String> = self.world.codes().into_keys().collect();
                    sku.code = p.slug.first_free(&taken).to_string();
                }
                refusals = self.world.sku_conflicts(std::slice::from_ref(&sku));
                want = Some((sku, p));
            }
        }
        let answer = self.shop.acting_as(&who).skus().create(product, &input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (mut sku, p) = want.unwrap();
            self.world.is_new(got.id.0)?;
            sku.id = got.id;
            let reason = if p.external.is_some() { StockReason::Import } else { StockReason::Initial };
            self.moved(sku.id, sku.on_hand, reason, None, who.actor());
            self.world.skus.insert(sku.id, sku);
            self.sku_answer(&got)?;
            self.product_edited(product, who.actor()).await?;
        }
        Ok(())
    }

    async fn write_sku(
        &mut self,
        id: SkuId,
        input: SkuInput,
        bad: Vec<Refusal>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Sku>,
    ) -> Checked<()> {
        let who = self.principal();
        let now = self.now();
        let mut refusals = bad;
        let mut want = None;
        let read = match self.world.skus.get(&id).filter(|s| s.audit.is_live()).cloned() {
            None => {
                refusals.push(Refusal::Code(ErrorCode::NotFound));
                ExpectedVersion::Exact(1)
            }
            Some(before) => {
                let (read, stale) = self.version(before.audit.version);
                if refusals.is_empty() && stale.is_none() {
                    let mut after = before.clone();
                    written(&mut after, &input);
                    refusals = self.world.sku_conflicts(std::slice::from_ref(&after));
                    if moves_untracked(&after, &input, before.on_hand) {
                        refusals.push(Refusal::field("stock"));
                    }
                    if after != before {
                        after.audit.edited(now, who.actor());
                    }
                    after.on_hand = input.stock.unwrap_or(before.on_hand);
                    want = Some((before, after));
                }
                refusals.extend(stale);
                read
            }
        };
        self.begins((id, read, &input));
        let answer = call(&self.shop, read, &who).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (before, after) = want.unwrap();
            self.moved(id, after.on_hand - before.on_hand, StockReason::Adjustment, None, who.actor());
            let (changed, product) = (after != before, after.product_id);
            self.world.skus.insert(id, after);
            self.sku_answer(&got)?;
            if changed {
                self.product_edited(product, who.actor()).await?;
            }
        }
        Ok(())
    }

    async fn replace_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let mut input = self.sku_input();
        (input.source, input.external_id) = self.external_pair(5);
        let bad = self.spoil_sku(&mut input);
        let sent = input.clone();
        self.write_sku(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).skus().replace(id, read, &sent).await
        })
        .await
    }

    async fn patch_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let mut patch = SkuPatch::default();
        if self.chance(30) {
            patch.code = Patch::Set(self.code());
        }
        if self.chance(30) {
            let changes = [("size", Some("L")), ("Größe", None), ("new", Some("ß"))];
            let n = self.below(4);
            patch.option_values =
                Patch::Set(changes[..n].iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect());
        }
        if self.chance(25) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(40) {
            patch.price = Patch::Set(self.price());
        }
        if self.chance(40) {
            patch.stock = Patch::Set(self.rng.random_range(0..40));
        }
        if self.chance(20) {
            patch.track_stock = Patch::Set(self.chance(50));
        }
        if self.chance(25) {
            patch.low_stock_threshold = Patch::Set(self.rng.random_range(0..15));
        }
        if self.chance(20) {
            patch.barcode = self.any(&[Patch::Clear, Patch::Set("400".to_owned()), Patch::Set("é-1".to_owned())]);
        }
        if self.chance(20) {
            patch.weight = self.any(&[Patch::Clear, Patch::Set(decimal(250))]);
        }
        let mut bad = Vec::new();
        if self.chance(5) {
            if self.chance(50) {
                patch.price = Patch::Clear;
                bad.push(Refusal::field("price"));
            } else {
                patch.stock = Patch::Set(-1);
                bad.push(Refusal::field("stock"));
            }
        }
        let mut input = SkuInput::default();
        if let Some(s) = self.world.skus.get(&id) {
            input = SkuInput::from(s);
            input.id = None;
            patch.code.clone().apply(&mut input.code);
            if let Patch::Set(changes) = &patch.option_values {
                for (k, v) in changes {
                    match v {
                        Some(v) => drop(input.option_values.insert(k.clone(), v.clone())),
                        None => drop(input.option_values.remove(k)),
                    }
                }
            }
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => input.attributes = Attributes::default(),
                Patch::Set(a) => input.attributes.merge(a),
            }
            patch.price.clone().apply(&mut input.price);
            patch.stock.clone().apply(&mut input.stock);
            patch.track_stock.clone().apply(&mut input.track_stock);
            patch.low_stock_threshold.clone().apply(&mut input.low_stock_threshold);
            patch.barcode.clone().apply(&mut input.barcode);
            patch.weight.clone().apply(&mut input.weight);
        }
        self.write_sku(id, input, bad, async move |shop, read, who| {
            shop.acting_as(who).skus().patch(id, read, patch).await
        })
        .await
    }

    async fn delete_sku(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let id = if force && self.chance(60) { self.deleted_sku() } else { self.some_sku() };
        let who = self.principal();
        let now = self.now();
        let found = self.world.skus.get(&id).cloned();
        let product_live = |p| self.world.live_product(p).is_some();
        let (read, refusals) = match &found {
            Some(s) if force || (product_live(s.product_id) && s.audit.is_live()) => {
                let (read, stale) = self.version(s.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                // The SKUs that the product shows, or would show if it were restored.
                let shown = self.world.products.rows[&s.product_id].0.audit.deleted_at;
                let mut others = self.world.skus.values().filter(|o| o.product_id == s.product_id && o.id != id);
                if !others.any(|o| o.audit.deleted_at == shown) {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                }
                if force && self.world.is_sold_sku(id) {
                    refusals.push(Refusal::Code(ErrorCode::HasSales));
                }
                (read, refusals)
            }
            _ => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).skus().delete(id, read, mode).await;
        if self.judge(answer, &refusals)?.is_none() {
            return Ok(());
        }
        let was = found.unwrap();
        if force {
            self.world.skus.remove(&id);
            self.world.ledger.remove(&id);
        } else {
            self.world.skus.get_mut(&id).unwrap().audit.deleted(now, who.actor());
        }
        self.product_edited(was.product_id, who.actor()).await?;
        let got = self.shop.skus().get(id, IncludeDeleted::Yes).await.ok();
        same("reading it", &got.as_ref(), &self.world.skus.get(&id))
    }

    async fn restore_sku(&mut self) -> Checked<()> {
        let id = self.deleted_sku();
        let who = self.principal();
        let found = self.world.skus.get(&id).cloned();
        let (read, refusals) = match &found {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(s) => {
                let (read, stale) = self.version(s.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                let product = self.world.live_product(s.product_id).is_some();
                if s.audit.is_live() || !product {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.sku_conflicts(std::slice::from_ref(s));
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).skus().restore(id, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            let s = self.world.skus.get_mut(&id).unwrap();
            s.audit.restored(now, who.actor());
            let product = s.product_id;
            self.sku_answer(&got)?;
            self.product_edited(product, who.actor()).await?;
        }
        Ok(())
    }

    async fn read_sku(&mut self) -> Checked<()> {
        let id = self.some_sku();
        self.begins(id);
        let got = self.shop.skus().get(id, IncludeDeleted::Yes).await.ok();
        same("the SKU", &got.as_ref(), &self.world.skus.get(&id))
    }

    async fn read_sku_by_code(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let known = self.world.skus.get(&id).map(|s| s.code.clone());
        let code = match known {
            Some(code) => self.any(&[code.clone(), code.to_uppercase(), code.to_lowercase(), format!(" {code}")]),
            None => self.code(),
        };
        self.begins(&code);
        let found = self.world.live_skus().find(|s| fold_key(&s.code) == fold_key(&code)).map(|s| s.id);
        let answer = self.shop.skus().get_by_code(&code).await;
        let refusals = if found.is_some() { Vec::new() } else { vec![Refusal::Code(ErrorCode::NotFound)] };
        if let Some(got) = self.judge(answer, &refusals)? {
            same("the id", &Some(got.id), &found)?;
            self.sku_answer(&got)?;
        }
        Ok(())
    }

    async fn find_skus_by_barcode(&mut self) -> Checked<()> {
        let barcode = self.any(&["400", "é-1", "e-1", "É-1", "🍵"]);
        self.begins(barcode);
        let got = read("the read", self.shop.skus().find_by_barcode(barcode).await)?;
        let want: Vec<Sku> =
            self.world.live_skus().filter(|s| s.barcode.as_deref() == Some(barcode)).cloned().collect();
        same("the SKUs", &got, &want)
    }

    /// Compares all SKUs of every product, deleted ones too.
    async fn compare_skus(&mut self) -> Checked<()> {
        let products: Vec<ProductId> = self.world.products.rows.keys().copied().collect();
        for id in products {
            let got = read("its SKUs", self.shop.skus().of_product(id, IncludeDeleted::Yes).await)?;
            same("its SKUs", &got, &self.world.skus_of(id))?;
            self.digest_at_end(&got);
        }
        Ok(())
    }
}
