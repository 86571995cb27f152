//! Writes of products, with the SKUs that they create, keep and delete.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rand::RngExt as _;
use uuid::Uuid;

use super::super::Runner;
use super::super::comparison::{Checked, Refusal, read_ok, same};
use super::super::generator::{ATTRIBUTES, BAD_SLUGS, SLUGS, attributes, decimal};
use super::super::shared::is_made_from;
use super::super::sku::{blank_sku, flat_sku, moves_untracked, written};
use super::input::{blank, written_product};
use crate::clock::Timestamp;
use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::{Product, ProductInput, ProductPatch};
use crate::domain::catalog::sku::{Sku, SkuInput};
use crate::domain::common::{Actor, Attributes, Audit, DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::stock::inventory::StockReason;
use crate::error::{ErrorCode, Result};
use crate::id::{ProductId, SkuId};
use crate::shop::Shop;
use crate::text::{Slug, fold_key};

impl Runner<'_> {
    pub(super) async fn create_product(&mut self) -> Checked<()> {
        let flat = self.chance(45);
        let (mut input, mut refusals) = self.product_input(flat);
        if let Some(skus) = &mut input.skus
            && refusals.is_empty()
        {
            for s in skus {
                (s.source, s.external_id) = self.external_pair(4);
            }
        }
        if refusals.is_empty() && self.chance(3) {
            refusals.push(match &mut input.skus {
                Some(skus) => {
                    (skus[0].track_stock, skus[0].stock) = (Some(false), Some(3));
                    Refusal::field("skus[0].stock")
                }
                None => {
                    (input.track_stock, input.stock) = (Some(false), Some(3));
                    Refusal::field("stock")
                }
            });
        }
        let who = self.principal();
        self.begins(&input);
        let audit = Audit::created(self.now(), who.actor());
        let nil = ProductId(Uuid::nil());
        let mut want = blank(nil, audit.clone());
        let mut of = Vec::new();
        let mut skus = Vec::new();
        if refusals.is_empty() {
            written_product(&mut want, &input);
            want.slug = match &input.slug {
                Some(s) => Slug::trusted(s.clone()),
                None => Slug::from_title(&input.title, "product").first_free(&self.world.product_slugs()),
            };
            match self.resolve_all(&input) {
                Ok(found) => of = found,
                Err(refusal) => refusals.push(refusal),
            }
            let inputs = input.skus.clone().unwrap_or_else(|| vec![flat_sku(&input)]);
            let mut taken: HashSet<String> = self.world.codes().into_keys().collect();
            taken.extend(inputs.iter().filter_map(|s| s.code.as_deref()).map(fold_key));
            for (i, s) in inputs.iter().enumerate() {
                let mut sku = blank_sku(SkuId(Uuid::from_u128(i as u128)), nil, i, audit.clone());
                written(&mut sku, s);
                sku.on_hand = s.stock.unwrap_or(0);
                if s.code.is_none() {
                    sku.code = want.slug.first_free(&taken).to_string();
                }
                taken.insert(fold_key(&sku.code));
                skus.push(sku);
            }
            refusals.extend(self.world.product_conflicts(&want));
            refusals.extend(self.world.sku_conflicts(&skus));
        }
        let answer = self.shop.acting_as(&who).products().create(&input).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.is_new(got.id.0)?;
            want.id = got.id;
            let reason = if want.external.is_some() { StockReason::Import } else { StockReason::Initial };
            self.world.products.rows.insert(got.id, (want, of));
            same("its SKUs", &got.skus.len(), &skus.len())?;
            for (mut sku, got) in skus.into_iter().zip(&got.skus) {
                self.world.is_new(got.id.0)?;
                (sku.id, sku.product_id) = (got.id, got.product_id);
                self.moved(sku.id, sku.on_hand, reason, None, who.actor());
                self.world.skus.insert(sku.id, sku);
            }
            self.product_answer(&got)?;
        }
        Ok(())
    }

    /// Does a write over an existing product. `input` is the whole product that the write asks for, and `named` lists
    /// the SKUs if the write names them, by flat fields if `flat`.
    async fn write_product(
        &mut self,
        id: ProductId,
        input: ProductInput,
        named: Option<Vec<SkuInput>>,
        flat: bool,
        bad: Vec<Refusal>,
        call: impl AsyncFnOnce(&Shop, ExpectedVersion, &Principal) -> Result<Product>,
    ) -> Checked<()> {
        let who = self.principal();
        let now = self.now();
        let mut refusals = bad;
        let before = self.world.live_product(id).cloned();
        let Some((before, before_of)) = before else {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
            self.begins((id, &input, &named));
            let answer = call(&self.shop, ExpectedVersion::Exact(1), &who).await;
            return self.judge(answer, &refusals).map(drop);
        };
        let (read, stale) = self.version(before.audit.version);
        let mut after = before.clone();
        let mut of = before_of.clone();
        let mut plan = Plan::default();
        if refusals.is_empty() && stale.is_none() {
            written_product(&mut after, &input);
            let made = Slug::from_title(&input.title, "product");
            after.slug = match &input.slug {
                Some(s) => Slug::trusted(s.clone()),
                None if is_made_from(&before.slug, &made) => before.slug.clone(),
                None => made.first_free(&self.world.product_slugs()),
            };
            match self.resolve_all(&input) {
                Ok(found) => of = found,
                Err(refusal) => refusals.push(refusal),
            }
            refusals.extend(self.world.product_conflicts(&after));
            if let Some(named) = &named {
                plan = self.plan_skus(id, &after.slug, named, flat, now, who.actor());
                refusals.append(&mut plan.refusals);
            }
        }
        refusals.extend(stale);
        self.begins((id, read, &input, &named));
        let answer = call(&self.shop, read, &who).await;
        let Some(got) = self.judge(answer, &refusals)? else { return Ok(()) };
        if named.is_some() {
            same("its SKUs", &got.skus.len(), &plan.skus.len())?;
        }
        let opening = if after.external.is_some() { StockReason::Import } else { StockReason::Initial };
        let mut changed = after != before || of != before_of || !plan.gone.is_empty();
        for gone in &plan.gone {
            self.world.skus.get_mut(gone).unwrap().audit.deleted(now, who.actor());
        }
        for (i, mut sku) in plan.skus.into_iter().enumerate() {
            let old = self.world.skus.get(&sku.id).cloned();
            let stock = old.as_ref().map_or(0, |o| o.on_hand);
            let reason = if old.is_some() { StockReason::Adjustment } else { opening };
            match old {
                None => {
                    sku.id = got.skus[i].id;
                    self.world.is_new(sku.id.0)?;
                    changed = true;
                }
                Some(old) => {
                    changed |= sku != old;
                    // A change of stock alone does not raise the version.
                    if (Sku { on_hand: old.on_hand, ..sku.clone() }) != old {
                        sku.audit.edited(now, who.actor());
                    }
                }
            }
            self.moved(sku.id, sku.on_hand - stock, reason, None, who.actor());
            self.world.skus.insert(sku.id, sku);
        }
        if changed {
            after.audit.edited(now, who.actor());
        }
        self.world.products.rows.insert(id, (after, of));
        self.product_answer(&got)
    }

    /// Returns the SKUs that a product has after a write that names them. An input means the SKU with its id, or else
    /// with its code; without both it means the only SKU of the product.
    fn plan_skus(
        &self,
        id: ProductId,
        slug: &Slug,
        named: &[SkuInput],
        flat: bool,
        now: Timestamp,
        actor: &Actor,
    ) -> Plan {
        let mut plan = Plan::default();
        let before: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        let mut left: BTreeMap<SkuId, &Sku> = before.iter().map(|s| (s.id, s)).collect();
        let mut bad = BTreeSet::new();
        let mut current: Vec<Option<Sku>> = Vec::new();
        for (i, s) in named.iter().enumerate() {
            let by_code = |code: &String| before.iter().find(|b| fold_key(&b.code) == fold_key(code)).map(|b| b.id);
            let found = match (s.id, &s.code) {
                (Some(id), _) => {
                    if !left.contains_key(&id) {
                        bad.insert(format!("skus[{i}].id"));
                        current.push(None);
                        continue;
                    }
                    Some(id)
                }
                (None, Some(code)) => by_code(code),
                (None, None) if before.len() == 1 && named.len() == 1 => Some(before[0].id),
                (None, None) => None,
            };
            let found = found.and_then(|id| left.remove(&id)).cloned();
            let on_hand = found.as_ref().map_or(0, |f| f.on_hand);
            let mut after = blank_sku(SkuId(Uuid::nil()), id, i, Audit::created(now, actor));
            written(&mut after, s);
            if moves_untracked(&after, s, on_hand) {
                bad.insert(if flat { "stock".to_owned() } else { format!("skus[{i}].stock") });
            }
            current.push(found);
        }
        if !bad.is_empty() {
            plan.refusals.push(Refusal::Fields(bad));
            return plan;
        }
        plan.gone = left.into_keys().collect();
        // The codes of the inputs are claimed in order. The codes of SKUs that this write deletes are free for them,
        // but not for codes that are made from the slug.
        let codes = self.world.codes();
        let mut taken: HashSet<String> = codes.keys().cloned().collect();
        taken.extend(named.iter().filter_map(|s| s.code.as_deref()).map(fold_key));
        let said: HashSet<String> = named.iter().filter_map(|s| s.code.as_deref()).map(fold_key).collect();
        let mut owners: HashMap<String, Option<SkuId>> = codes
            .into_iter()
            .filter(|(code, owner)| said.contains(code) && !plan.gone.contains(owner))
            .map(|(code, owner)| (code, Some(owner)))
            .collect();
        for (position, (s, current)) in named.iter().zip(current).enumerate() {
            let holder = current.as_ref().map(|c| c.id);
            let stock = current.as_ref().map_or(0, |c| c.on_hand);
            let nobody = SkuId(Uuid::from_u128(position as u128));
            let is_new = current.is_none();
            let mut sku = current.unwrap_or_else(|| blank_sku(nobody, id, position, Audit::created(now, actor)));
            written(&mut sku, s);
            sku.position = position as i32;
            sku.on_hand = s.stock.unwrap_or(stock);
            if is_new && s.code.is_none() {
                sku.code = slug.first_free(&taken).to_string();
            } else if owners.get(&fold_key(&sku.code)).is_some_and(|owner| *owner != holder || holder.is_none()) {
                plan.refusals.push(Refusal::Duplicate("code"));
            }
            owners.insert(fold_key(&sku.code), holder);
            taken.insert(fold_key(&sku.code));
            plan.skus.push(sku);
        }
        plan
    }

    pub(super) async fn replace_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        let current: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        let flat = self.chance(if current.len() == 1 { 60 } else { 10 });
        let (mut input, mut bad) = self.product_input(flat);
        if flat {
            if bad.is_empty() && current.len() > 1 {
                bad.push(Refusal::Code(ErrorCode::FlatWriteRefused));
            }
        } else if bad.is_empty()
            && let Some(mut skus) = input.skus.take()
        {
            self.name_some(&current, &mut skus);
            input.skus = Some(skus);
        }
        let live = self.world.live_product(id).is_some();
        // A product that does not exist is not refused for its SKUs.
        if !live {
            bad.retain(|r| *r != Refusal::Code(ErrorCode::FlatWriteRefused));
        }
        let named = Some(input.skus.clone().unwrap_or_else(|| vec![flat_sku(&input)]));
        let sent = input.clone();
        self.write_product(id, input, named, flat, bad, async move |shop, read, who| {
            shop.acting_as(who).products().replace(id, read, &sent).await
        })
        .await
    }

    pub(super) async fn patch_product(&mut self) -> Checked<()> {
        let id = self.some_product();
        let (source, mut bad) = self.product_input(true);
        let mut patch = ProductPatch::default();
        let before = self.world.live_product(id).cloned();
        let live: Vec<Sku> = self.world.skus_of(id).into_iter().filter(|s| s.audit.is_live()).collect();
        // A fault of the whole input may be in a part that is not patched.
        bad.clear();
        if self.chance(35) {
            patch.title = Patch::Set(self.word());
        }
        if self.chance(15) {
            patch.slug = if self.chance(50) { Patch::Clear } else { Patch::Set(self.any(&SLUGS).to_owned()) };
        }
        if self.chance(25) {
            patch.description = source.description.clone().map_or(Patch::Clear, Patch::Set);
        }
        if self.chance(25) {
            patch.brand = self.any(&[Patch::Clear, Patch::Set("Acme".to_owned()), Patch::Set("acmé".to_owned())]);
        }
        if self.chance(25) {
            patch.status = Patch::Set(source.status);
        }
        if self.chance(25) {
            let all = self.category_references();
            match self.below(4) {
                0 => patch.categories = Patch::Clear,
                1 => patch.category = Patch::Set(self.category_reference()),
                _ => patch.categories = Patch::Set(all),
            }
        }
        if self.chance(20) {
            patch.tags =
                self.any(&[Patch::Clear, Patch::Set(vec!["NEW".to_owned(), " new".to_owned(), "🎁".to_owned()])]);
        }
        if self.chance(30) {
            let a = attributes(self.any(&ATTRIBUTES));
            patch.attributes = if self.chance(20) { Patch::Clear } else { Patch::Set(a) };
        }
        if self.chance(25) {
            patch.discount_percentage = if self.chance(30) { Patch::Clear } else { Patch::Set(self.discount()) };
        }
        let mut named = None;
        let flat = self.chance(if live.len() == 1 { 50 } else { 6 });
        if flat {
            if self.chance(60) {
                patch.price = Patch::Set(self.price());
            }
            if self.chance(50) || !patch.price.is_present() {
                patch.stock = Patch::Set(self.rng.random_range(0..30));
            }
            if self.chance(15) {
                patch.track_stock = Patch::Set(self.chance(50));
            }
            if self.chance(25) {
                patch.sku = Patch::Set(self.code());
            }
            if self.chance(25) {
                patch.barcode = self.any(&[Patch::Clear, Patch::Set("400".to_owned())]);
            }
            if live.len() > 1 {
                bad.push(Refusal::Code(ErrorCode::FlatWriteRefused));
            } else if let [only] = &live[..] {
                let mut s = SkuInput::from(only);
                s.id = Some(only.id);
                patch.price.clone().apply(&mut s.price);
                patch.stock.clone().apply(&mut s.stock);
                patch.track_stock.clone().apply(&mut s.track_stock);
                patch.sku.clone().apply(&mut s.code);
                patch.barcode.clone().apply(&mut s.barcode);
                named = Some(vec![s]);
            }
        } else if self.chance(10) {
            let mut skus = vec![self.sku_input()];
            self.name_some(&live, &mut skus);
            patch.skus = Patch::Set(skus.clone());
            named = Some(skus);
        }
        if bad.is_empty() && self.chance(5) {
            bad.push(match self.below(4) {
                0 => {
                    patch.title = Patch::Clear;
                    Refusal::field("title")
                }
                1 => {
                    patch.slug = Patch::Set(self.any(&BAD_SLUGS).to_owned());
                    Refusal::field("slug")
                }
                2 => {
                    patch.discount_percentage = Patch::Set(decimal(10_001));
                    Refusal::field("discount_percentage")
                }
                _ => {
                    patch.skus = Patch::Clear;
                    (patch.price, patch.stock, patch.sku, patch.barcode) =
                        (Patch::Keep, Patch::Keep, Patch::Keep, Patch::Keep);
                    patch.track_stock = Patch::Keep;
                    Refusal::field("skus")
                }
            });
        }
        // The whole product that the patch asks for. A slug that is not patched stays.
        let mut input = ProductInput::default();
        if let Some((p, of)) = &before {
            input = ProductInput {
                categories: Some(of.iter().map(ToString::to_string).collect()),
                ..ProductInput::without_skus(p)
            };
            if let Patch::Set(t) = &patch.title {
                input.title.clone_from(t);
            }
            patch.slug.clone().apply(&mut input.slug);
            patch.description.clone().apply(&mut input.description);
            patch.brand.clone().apply(&mut input.brand);
            if let Patch::Set(s) = patch.status {
                input.status = s;
            }
            patch.categories.clone().apply(&mut input.categories);
            if let Patch::Set(c) = &patch.category {
                input.categories = None;
                input.category = Some(c.clone());
            }
            match &patch.tags {
                Patch::Keep => {}
                Patch::Clear => input.tags.clear(),
                Patch::Set(t) => input.tags.clone_from(t),
            }
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => input.attributes = Attributes::default(),
                Patch::Set(a) => input.attributes.merge(a),
            }
            patch.discount_percentage.clone().apply(&mut input.discount_percentage);
        } else {
            // A product that does not exist is refused only for bad fields of the patch itself.
            bad.retain(|r| matches!(r, Refusal::Fields(_)));
        }
        self.write_product(id, input, named, flat, bad, async move |shop, read, who| {
            shop.acting_as(who).products().patch(id, read, patch).await
        })
        .await
    }

    pub(super) async fn delete_product(&mut self, mode: DeleteMode) -> Checked<()> {
        let force = mode == DeleteMode::Force;
        let id = if force { self.deleted_product() } else { self.some_product() };
        let who = self.principal();
        let found = self.world.products.rows.get(&id).filter(|(p, _)| force || p.audit.is_live());
        let (read, refusals) = match found.map(|(p, _)| p.audit.version) {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(version) => {
                let (read, stale) = self.version(version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if force && self.world.is_sold_product(id) {
                    refusals.push(Refusal::Code(ErrorCode::HasSales));
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).products().delete(id, read, mode).await;
        if self.judge(answer, &refusals)?.is_none() {
            return Ok(());
        }
        let now = self.now();
        if force {
            self.world.products.rows.remove(&id);
            self.world.products.seen.remove(&id.0);
            self.world.reviews.retain(|_, r| r.product_id != id);
            let skus: Vec<SkuId> = self.world.skus_of(id).iter().map(|s| s.id).collect();
            for sku in skus {
                self.world.skus.remove(&sku);
                self.world.ledger.remove(&sku);
            }
            let gone = self.shop.products().get_fresh(id, IncludeDeleted::Yes).await;
            return same("reading it", &gone.err().map(|e| e.code()), &Some(ErrorCode::NotFound));
        }
        self.world.products.rows.get_mut(&id).unwrap().0.audit.deleted(now, who.actor());
        for s in self.world.skus.values_mut().filter(|s| s.product_id == id && s.audit.is_live()) {
            s.audit.deleted(now, who.actor());
        }
        let got = read_ok(self.shop.products().get_fresh(id, IncludeDeleted::Yes).await)?;
        self.product_answer(&got)
    }

    pub(super) async fn restore_product(&mut self) -> Checked<()> {
        let id = self.deleted_product();
        let who = self.principal();
        let mut with = Vec::new();
        let (read, refusals) = match self.world.products.rows.get(&id).cloned() {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some((p, of)) => {
                let (read, stale) = self.version(p.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if p.audit.is_live() {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    if of.iter().any(|c| self.world.live_category(*c).is_none()) {
                        refusals.push(Refusal::Code(ErrorCode::StateConflict));
                    }
                    with = self.world.listed_skus(&p);
                    refusals.extend(self.world.product_conflicts(&p));
                    refusals.extend(self.world.sku_conflicts(&with));
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).products().restore(id, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let now = self.now();
            self.world.products.rows.get_mut(&id).unwrap().0.audit.restored(now, who.actor());
            for s in with {
                self.world.skus.get_mut(&s.id).unwrap().audit.restored(now, who.actor());
            }
            self.product_answer(&got)?;
        }
        Ok(())
    }
}

/// The effect of a write on the SKUs of a product.
#[derive(Debug, Default)]
struct Plan {
    refusals: Vec<Refusal>,
    /// The SKUs after the write. A new one has its position in place of an id.
    skus: Vec<Sku>,
    /// The SKUs that the write deletes.
    gone: BTreeSet<SkuId>,
}
