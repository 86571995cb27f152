//! The representations of analytics.

use chrono::NaiveDate;
use ecom_core::catalog::AvailabilityStatus;
use ecom_core::money::Money;
use ecom_core::platform::{DailyReport, DaySales, Funnel, LowStockSku, ProductSales};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dto::Amount;
use crate::resource::Format;

fn amount(money: Money, format: &Format) -> Amount {
    Amount::new(money.amount(), format.numbers)
}

/// The sales of the days of a range.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SalesReportView<'a> {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// The time zone of the days.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: &'a str,
    /// The currency of all amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// False while the figures are being rebuilt, so that some of them may be old or missing.
    pub is_complete: bool,
    /// The sum of all days.
    pub total: SalesView,
    /// Each day, also those without sales.
    pub days: Vec<SalesView>,
}

/// The sales of one day, or of all days of a range.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SalesView {
    /// The day; absent in the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<NaiveDate>,
    /// The number of orders placed.
    pub orders: u64,
    /// How many of them were made from a cart.
    pub checkouts: u64,
    /// The number of units of these orders, without fees. Units that were canceled later are included.
    pub units: i64,
    /// The sum of quantity × unit price.
    pub subtotal: Amount,
    /// The discounts.
    pub discount: Amount,
    /// The cost of shipping, less its discounts.
    pub shipping: Amount,
    /// The tax that is added to the prices.
    pub tax_added: Amount,
    /// The tax that the prices include.
    pub tax_included: Amount,
    /// The total: subtotal + shipping − discount + added tax.
    pub total: Amount,
    /// The total divided by the number of orders, rounded half away from zero; null without orders.
    pub average_order_value: Option<Amount>,
    /// The number of units that were canceled, on whatever day their orders were placed, without fees.
    pub canceled_units: i64,
    /// The value of what was canceled (R35).
    pub canceled: Amount,
    /// The units less those canceled; negative if more was canceled than sold.
    pub net_units: i64,
    /// The total less what was canceled.
    pub net: Amount,
}

impl SalesView {
    /// The fields of a day.
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "day",
        "orders",
        "checkouts",
        "units",
        "subtotal",
        "discount",
        "shipping",
        "tax_added",
        "tax_included",
        "total",
        "average_order_value",
        "canceled_units",
        "canceled",
        "net_units",
        "net",
    ];

    /// Returns the representation.
    pub(crate) fn of(day: Option<NaiveDate>, sales: &DaySales, format: &Format) -> Self {
        let placed = &sales.placed;
        Self {
            day,
            orders: sales.orders,
            checkouts: sales.checkouts,
            units: sales.units,
            subtotal: amount(placed.subtotal, format),
            discount: amount(placed.discount, format),
            shipping: amount(placed.shipping, format),
            tax_added: amount(placed.tax_added, format),
            tax_included: amount(placed.tax_included, format),
            total: amount(placed.total, format),
            average_order_value: sales.average_order_value().map(|value| amount(value, format)),
            canceled_units: sales.canceled_units,
            canceled: amount(sales.canceled.total, format),
            net_units: sales.net_units(),
            net: amount(sales.net().total, format),
        }
    }
}

impl<'a> SalesReportView<'a> {
    /// Returns the representation.
    pub(crate) fn of(report: &'a DailyReport<DaySales>, format: &Format) -> Self {
        Self {
            from: report.range.from,
            to: report.range.to,
            time_zone: &report.time_zone,
            currency: report.total.placed.total.currency().code(),
            is_complete: report.is_complete,
            total: SalesView::of(None, &report.total, format),
            days: report.days.iter().map(|(day, sales)| SalesView::of(Some(*day), sales, format)).collect(),
        }
    }
}

/// What led to the orders of the days of a range.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FunnelReportView<'a> {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// The time zone of the days.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: &'a str,
    /// False while the figures are being rebuilt, so that some of them may be old or missing.
    pub is_complete: bool,
    /// The sum of all days.
    pub total: FunnelView,
    /// Each day.
    pub days: Vec<FunnelView>,
}

/// What led to the orders of one day, or of all days of a range.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FunnelView {
    /// The day; absent in the sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<NaiveDate>,
    /// How often products were viewed.
    pub views: u64,
    /// The number of carts created.
    pub carts: u64,
    /// The number of orders that were made from a cart.
    pub checkouts: u64,
    /// The number of orders placed, in whatever way.
    pub orders: u64,
}

impl FunnelView {
    /// The fields of a day.
    pub(crate) const FIELDS: &'static [&'static str] = &["day", "views", "carts", "checkouts", "orders"];

    /// Returns the representation.
    pub(crate) const fn of(day: Option<NaiveDate>, funnel: &Funnel) -> Self {
        let Funnel { views, carts, checkouts, orders } = *funnel;
        Self { day, views, carts, checkouts, orders }
    }
}

impl<'a> FunnelReportView<'a> {
    /// Returns the representation.
    pub(crate) fn of(report: &'a DailyReport<Funnel>) -> Self {
        Self {
            from: report.range.from,
            to: report.range.to,
            time_zone: &report.time_zone,
            is_complete: report.is_complete,
            total: FunnelView::of(None, &report.total),
            days: report.days.iter().map(|(day, funnel)| FunnelView::of(Some(*day), funnel)).collect(),
        }
    }
}

/// The sales of a product over the days of the request.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ProductSalesView<'a> {
    /// The id of the product, which may be soft-deleted.
    pub product_id: Uuid,
    /// The title of the product, as it is now.
    #[schema(example = "Desk Lamp")]
    pub title: &'a str,
    /// The number of units of orders placed on these days.
    pub units: i64,
    /// The number of units that were canceled on these days.
    pub canceled_units: i64,
    /// The units less those canceled.
    pub net_units: i64,
    /// The sum of the totals of the lines that sold the units.
    pub revenue: Amount,
    /// The value of the canceled units (R35).
    pub canceled: Amount,
    /// The revenue less what was canceled.
    pub net_revenue: Amount,
    /// The currency of all amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// How often the product was viewed on these days.
    pub views: u64,
}

impl<'a> ProductSalesView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "product_id",
        "title",
        "units",
        "canceled_units",
        "net_units",
        "revenue",
        "canceled",
        "net_revenue",
        "currency",
        "views",
    ];

    /// Returns the representation.
    pub(crate) fn of(product: &'a ProductSales, format: &Format) -> Self {
        Self {
            product_id: product.product_id.0,
            title: &product.title,
            units: product.units,
            canceled_units: product.canceled_units,
            net_units: product.net_units(),
            revenue: amount(product.revenue, format),
            canceled: amount(product.canceled, format),
            net_revenue: amount(product.net_revenue(), format),
            currency: product.revenue.currency().code(),
            views: product.views,
        }
    }
}

/// A SKU that is low in stock.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LowStockView<'a> {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The code of the SKU.
    #[schema(example = "LAMP-1")]
    pub code: &'a str,
    /// The id of the product of the SKU.
    pub product_id: Uuid,
    /// The title of the product.
    #[schema(example = "Desk Lamp")]
    pub title: &'a str,
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// The number of pieces that can be sold: on hand − reserved.
    pub available: i64,
    /// The low-stock threshold, which is not below the available pieces.
    pub low_stock_threshold: i64,
    /// The availability that shoppers see: `limited` or `out_of_stock`.
    pub availability_status: AvailabilityStatus,
}

impl<'a> LowStockView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "sku_id",
        "code",
        "product_id",
        "title",
        "on_hand",
        "reserved",
        "available",
        "low_stock_threshold",
        "availability_status",
    ];

    /// Returns the representation.
    pub(crate) fn of(sku: &'a LowStockSku) -> Self {
        Self {
            sku_id: sku.sku_id.0,
            code: &sku.code,
            product_id: sku.product_id.0,
            title: &sku.title,
            on_hand: sku.on_hand,
            reserved: sku.reserved,
            available: sku.available(),
            low_stock_threshold: sku.low_stock_threshold,
            availability_status: sku.availability(),
        }
    }
}

/// What has happened with a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProductEventKind {
    /// A shopper has viewed it.
    View,
}

/// An event of a product.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductEventInput {
    /// What has happened.
    pub kind: ProductEventKind,
}
