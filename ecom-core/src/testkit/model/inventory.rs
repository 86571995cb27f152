//! Stock: the ledger of each SKU, the operations on it, and its comparison.

use std::collections::BTreeSet;

use rand::RngExt as _;

use super::comparison::{Checked, Refusal, read, same};
use super::{Operation, Part, Runner};
use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::stock::inventory::StockAdjustment;
use crate::domain::stock::inventory::{StockLevel, StockMovement, StockReason};
use crate::error::ErrorCode;
use crate::id::{OrderLineId, SkuId};
use crate::paging::{Paging, Total};

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_stock()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "adjust stock", weight: |_| 120, run: |r| Box::pin(r.adjust_stock()) },
    Operation { name: "read ledger", weight: |_| 12, run: |r| Box::pin(r.read_ledger()) },
];

/// The largest stock that the library accepts.
pub(super) const MAX_STOCK: i64 = 1_000_000_000_000;

/// A movement: delta, reason, reference, line of an order, time and actor.
pub(super) type Moved = (i64, StockReason, Option<String>, Option<OrderLineId>, Timestamp, Actor);

impl Runner<'_> {
    /// Writes a change of stock that belongs to no order to the ledger of the model.
    pub(super) fn moved(
        &mut self,
        sku: SkuId,
        delta: i64,
        reason: StockReason,
        reference: Option<String>,
        actor: &Actor,
    ) {
        self.moved_for(None, sku, delta, reason, reference, actor);
    }

    /// Writes a change of stock to the ledger of the model.
    pub(super) fn moved_for(
        &mut self,
        line: Option<OrderLineId>,
        sku: SkuId,
        delta: i64,
        reason: StockReason,
        reference: Option<String>,
        actor: &Actor,
    ) {
        if delta != 0 {
            let row = (delta, reason, reference, line, self.now(), actor.clone());
            self.world.ledger.entry(sku).or_default().push(row);
        }
    }

    async fn adjust_stock(&mut self) -> Checked<()> {
        let id = self.some_sku();
        let who = self.principal();
        let on_hand = self.world.skus.get(&id).map_or(0, |s| s.on_hand);
        let delta = match self.below(20) {
            0 => 0,
            1 => -on_hand - 1,
            2 => -MAX_STOCK - 1,
            3 => MAX_STOCK - on_hand + 1,
            4 if on_hand > 0 => -on_hand,
            _ => self.rng.random_range(-8..12),
        };
        let reason = self.any(&[
            StockReason::Adjustment,
            StockReason::Received,
            StockReason::Returned,
            StockReason::Damaged,
            StockReason::Import,
        ]);
        let reason = if self.chance(2) { StockReason::Initial } else { reason };
        let reference = match self.below(10) {
            0 => Some("PO-1 é🎧".to_owned()),
            1 if self.chance(20) => Some("x".repeat(256)),
            _ => None,
        };
        let mut bad = BTreeSet::new();
        if delta == 0 || delta.abs() > MAX_STOCK {
            bad.insert("delta".to_owned());
        }
        if reason == StockReason::Initial {
            bad.insert("reason".to_owned());
        }
        if reference.as_ref().is_some_and(|r| r.len() > 255) {
            bad.insert("reference".to_owned());
        }
        let live = self.world.skus.get(&id).filter(|s| s.audit.is_live()).cloned();
        let refusals = match &live {
            _ if !bad.is_empty() => vec![Refusal::Fields(bad)],
            None => vec![Refusal::Code(ErrorCode::NotFound)],
            Some(s) if !s.track_stock => vec![Refusal::Code(ErrorCode::StockNotTracked)],
            Some(s) if s.on_hand + delta < 0 => vec![Refusal::Code(ErrorCode::InsufficientStock)],
            Some(s) if s.on_hand + delta > MAX_STOCK => vec![Refusal::field("delta")],
            Some(_) => Vec::new(),
        };
        let adjustment = StockAdjustment { sku_id: id, delta, reason, reference: reference.clone() };
        self.begins(&adjustment);
        let answer = self.shop.acting_as(&who).inventory().adjust(adjustment).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            self.world.skus.get_mut(&id).unwrap().on_hand += delta;
            let s = &self.world.skus[&id];
            let want = StockLevel {
                sku_id: id,
                product_id: s.product_id,
                on_hand: s.on_hand,
                reserved: 0,
                tracked: true,
                low_stock_threshold: s.low_stock_threshold,
                live: true,
            };
            same("the level", &got.level, &want)?;
            let product = s.product_id;
            let movement = StockMovement {
                id: got.movement.id,
                sku_id: id,
                delta,
                reason,
                reference: reference.clone(),
                order_line_id: None,
                created_at: self.now(),
                created_by: who.actor().clone(),
            };
            same("the movement", &got.movement, &movement)?;
            self.moved(id, delta, reason, reference, who.actor());
            let got = read("the product", self.shop.products().get(product).await)?;
            self.product_answer(&got.value)?;
        }
        Ok(())
    }

    async fn read_ledger(&mut self) -> Checked<()> {
        let id = self.some_sku();
        self.begins(id);
        if !self.world.skus.contains_key(&id) {
            let answer = self.shop.inventory().level(id).await;
            return self.judge(answer, &[Refusal::Code(ErrorCode::NotFound)]).map(drop);
        }
        let level = read("the level", self.shop.inventory().level(id).await)?;
        let s = &self.world.skus[&id];
        let want = (s.on_hand, s.track_stock, s.availability(), s.audit.is_live());
        same("the level", &(level.on_hand, level.tracked, level.availability(), level.live), &want)?;
        self.compare_ledger(id).await.map(drop)
    }

    /// Compares the whole ledger of a SKU and returns its rows, newest first.
    async fn compare_ledger(&mut self, id: SkuId) -> Checked<Vec<StockMovement>> {
        let mut want = self.world.ledger.get(&id).cloned().unwrap_or_default();
        want.reverse();
        let offset = Paging::Offset { offset: 0, limit: 50 };
        let (mut page, total) = read("the ledger", self.shop.inventory().movements(id, &offset).await)?;
        same("the number of movements", &total, &Some(Total { count: want.len() as u64, exact: true }))?;
        let mut rows = page.items;
        while let Some(after) = page.next.take() {
            let paging = Paging::Keyset { after: Some(after), limit: 50 };
            let (next, _) = read("the ledger", self.shop.inventory().movements(id, &paging).await)?;
            rows.extend(next.items);
            page.next = next.next;
        }
        let got = rows
            .iter()
            .map(|m| (m.delta, m.reason, m.reference.clone(), m.order_line_id, m.created_at, m.created_by.clone()))
            .collect::<Vec<_>>();
        same("the ledger", &got, &want)?;
        same("the sum of the ledger", &got.iter().map(|r| r.0).sum(), &self.world.skus[&id].on_hand)?;
        Ok(rows)
    }

    /// Compares the sums of all ledgers by the shop's own query (R11), and at the end every row.
    async fn compare_stock(&mut self) -> Checked<()> {
        same("imbalances", &read("imbalances", self.shop.inventory().imbalances().await)?, &Vec::new())?;
        if self.at_end {
            let skus: Vec<SkuId> = self.world.skus.keys().copied().collect();
            for id in skus {
                let mut rows = self.compare_ledger(id).await?;
                // The number of an order depends on the database.
                for row in &mut rows {
                    let order = row.reference.as_ref().and_then(|number| self.world.numbered_order(number));
                    if let Some(order) = order {
                        row.reference = Some(order.to_string());
                    }
                }
                self.digest_at_end(&rows);
            }
        }
        Ok(())
    }
}
