//! The mail about SKUs that have become low.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::platform::mail::{MailAbout, MailLowStock};
use crate::domain::sales::offer::Offer;
use crate::error::Result;
use crate::id::SkuId;
use crate::service::platform::mail::Letter;
use crate::service::run::context::Context;

/// Returns the letter about those of the SKUs that are still low; `None` if none is, or if the shop has no address for
/// such mails.
pub(crate) async fn letter(cx: &Arc<Context>, skus: &[SkuId]) -> Result<Option<Letter>> {
    let Some(to) = &cx.config.low_stock_mail else { return Ok(None) };
    let found = cx.storage.connect().await?.offers().get(skus).await?;
    let found: HashMap<SkuId, Offer> = found.into_iter().map(|offer| (offer.sku_id, offer)).collect();
    let is_low = |offer: &&Offer| offer.live && offer.level().availability() != AvailabilityStatus::InStock;
    let low = skus.iter().filter_map(|sku| found.get(sku)).filter(is_low).map(|offer| MailLowStock {
        code: offer.code.clone(),
        title: offer.title.clone(),
        available: offer.level().available(),
        threshold: offer.low_stock_threshold,
    });
    let low: Vec<MailLowStock> = low.collect();
    Ok((!low.is_empty()).then(|| Letter {
        email: to.address().to_owned(),
        name: to.name().map(str::to_owned),
        query: None,
        about: MailAbout::LowStock(low),
    }))
}
