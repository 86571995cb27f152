//! How a shop behaves. Values only: reading the environment is the host's business (facade: `ecom::config`).

use std::time::Duration;

use derive_setters::Setters;

use crate::error::{Result, ValidationErrors};
use crate::money::Currency;

/// Settings of a [`crate::Shop`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ShopConfig {
    /// The one currency of the shop. Default USD.
    pub currency: Currency,
    /// Let a write without a version win over what it has not seen (R1). Default false.
    pub last_write_wins: bool,
    /// Lists count their total up to here, then say "at least". Default 10,000.
    pub total_bound: u64,
    /// How long a cached product, or a list of them, may be served (R15). Default 5 minutes.
    pub product_ttl: Duration,
    /// How long a cached category or the tree may be served (R15). Default 1 hour.
    pub category_ttl: Duration,
    /// How often background consumers look for events of other processes. Default 500 ms.
    pub poll_interval: Duration,
    /// How long a process that died keeps shared consumers from the others. The clocks of all processes agree to
    /// within a fraction of it. Default 5 s.
    pub lease_ttl: Duration,
    /// Events, and documents of a rebuild, per batch of index sync. Default 500.
    pub index_batch: u32,
    /// How long the outbox keeps events. A local index that was away for longer is rebuilt. Default 7 days.
    pub outbox_retention: Duration,
    /// Most stock adjustments that share one commit. Default 256.
    pub adjustment_batch: usize,
    /// Lower bounds of the price ranges that searches count, in minor units.
    pub price_bounds: Vec<i64>,
}

impl Default for ShopConfig {
    fn default() -> Self {
        Self {
            currency: Currency::USD,
            last_write_wins: false,
            total_bound: 10_000,
            product_ttl: Duration::from_secs(5 * 60),
            category_ttl: Duration::from_secs(60 * 60),
            poll_interval: Duration::from_millis(500),
            lease_ttl: Duration::from_secs(5),
            index_batch: 500,
            outbox_retention: Duration::from_secs(7 * 24 * 3600),
            adjustment_batch: 256,
            price_bounds: vec![0, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000],
        }
    }
}

impl ShopConfig {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// `Validation` naming each bad setting.
    pub fn check(&self) -> Result<()> {
        let mut e = ValidationErrors::default();
        let mut within = |field: &str, ok: bool, bounds: &str| {
            if !ok {
                e.out_of_bounds(field, format!("must be {bounds}"));
            }
        };
        within("total_bound", (1..=1_000_000).contains(&self.total_bound), "1 to 1000000");
        within("poll_interval", (10..=60_000).contains(&self.poll_interval.as_millis()), "10 ms to 60 s");
        within("lease_ttl", (1_000..=600_000).contains(&self.lease_ttl.as_millis()), "1 s to 10 min");
        within("index_batch", (1..=10_000).contains(&self.index_batch), "1 to 10000");
        within("adjustment_batch", (1..=1_000).contains(&self.adjustment_batch), "1 to 1000");
        within("product_ttl", self.product_ttl <= Duration::from_secs(86_400), "at most a day");
        within("category_ttl", self.category_ttl <= Duration::from_secs(86_400), "at most a day");
        within("outbox_retention", self.outbox_retention >= Duration::from_secs(60), "at least a minute");
        let ascending = self.price_bounds.is_sorted_by(|a, b| a < b);
        within(
            "price_bounds",
            ascending && self.price_bounds.len() <= 50,
            "at most 50 prices, each above the one before",
        );
        e.into_result()
    }
}
