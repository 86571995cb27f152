//! Offers: SKUs with the price and the stock at which the shop sells them.

use std::collections::BTreeMap;

use crate::domain::catalog::product::ProductStatus;
use crate::domain::stock::inventory::StockLevel;
use crate::error::{FieldCode, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::{Money, Percentage};

/// A SKU as the shop sells it when it is read: its price and stock, and the parts of its product that a sale depends
/// on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The SKU.
    pub sku_id: SkuId,
    /// The product of the SKU.
    pub product_id: ProductId,
    /// The code of the SKU.
    pub code: String,
    /// The title of the product.
    pub title: String,
    /// The values of the SKU's options.
    pub option_values: BTreeMap<String, String>,
    /// The price of the SKU before the discount of the product.
    pub list_price: Money,
    /// The discount of the product.
    pub discount: Percentage,
    /// The status of the product.
    pub status: ProductStatus,
    /// False if the SKU or its product is soft-deleted.
    pub live: bool,
    /// False if the stock of the SKU is not tracked, so that it is never short.
    pub tracked: bool,
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// If this many or fewer pieces are available, the availability is limited.
    pub low_stock_threshold: i64,
}

impl Offer {
    /// Returns the price at which the SKU is sold (R21): its list price less the discount of its product, rounded to
    /// the minor unit, half away from zero. Every path (cart, checkout, edit of an order) uses this function.
    pub fn unit_price(&self) -> Money {
        self.list_price.discounted(self.discount)
    }

    /// Returns true if the SKU can be sold, apart from its stock: it and its product are live, and the product is
    /// active.
    pub fn is_for_sale(&self) -> bool {
        self.live && self.status == ProductStatus::Active
    }

    /// Returns true if the product of the SKU is a draft. Only callers who may read drafts may learn its codes.
    pub(crate) fn is_draft(&self) -> bool {
        self.status == ProductStatus::Draft
    }

    /// Returns an offer that was looked up if it can be sold. Otherwise, it adds the error of `field`, which names the
    /// SKU by `named`. Carts and orders refuse a SKU with the same codes and messages.
    pub(crate) fn for_sale<'o>(
        found: Option<&'o Self>,
        field: String,
        named: &str,
        errors: &mut ValidationErrors,
    ) -> Option<&'o Self> {
        match found {
            Some(offer) if offer.is_for_sale() => return Some(offer),
            Some(offer) if offer.live => {
                let message = format!("refers to SKU `{named}`, whose product is not for sale");
                errors.push(field, FieldCode::NotForSale, message);
            }
            _ => {
                let message = format!("refers to SKU `{named}`, which does not exist");
                errors.push(field, FieldCode::ReferenceNotFound, message);
            }
        }
        None
    }

    /// Returns the stock level of the SKU.
    pub const fn level(&self) -> StockLevel {
        StockLevel {
            sku_id: self.sku_id,
            product_id: self.product_id,
            on_hand: self.on_hand,
            reserved: self.reserved,
            tracked: self.tracked,
            low_stock_threshold: self.low_stock_threshold,
            live: self.live,
        }
    }

    /// Returns how many pieces can be sold; `None` if the stock is not tracked.
    pub fn available(&self) -> Option<i64> {
        self.tracked.then(|| (self.on_hand - self.reserved).max(0))
    }
}
