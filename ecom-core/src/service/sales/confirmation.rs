//! The mail that confirms an order.

use std::sync::Arc;

use crate::domain::access::secret::Secret;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::mail::{MailAbout, MailLine, MailOrder};
use crate::domain::sales::order::{OrderLine, OrderStatus};
use crate::error::Result;
use crate::id::OrderId;
use crate::service::platform::mail::Letter;
use crate::service::run::context::Context;

/// Returns the letter about an order; `None` for an order that was canceled, deleted, erased or imported, and for one
/// without an email address or without lines.
///
/// A guest's name and address are not in the mail: whoever places an order with the email address of somebody else
/// would otherwise choose the text that the owner reads as one of the shop.
pub(crate) async fn letter(cx: &Arc<Context>, id: OrderId) -> Result<Option<Letter>> {
    let found = cx.storage.connect().await?.orders().get(id, IncludeDeleted::No).await?;
    let Some(order) = found.filter(|order| order.status != OrderStatus::Canceled && order.external.is_none()) else {
        return Ok(None);
    };
    let line = |line: &OrderLine| MailLine::new(&line.title, &line.options, line.remaining(), Some(line.unit_price));
    let lines: Vec<MailLine> = order.lines.iter().filter(|line| line.remaining() > 0).map(line).collect();
    let Some(email) = order.buyer.email.filter(|_| !lines.is_empty()) else { return Ok(None) };
    let name = order.customer_id.and(order.buyer.first_name).zip(order.buyer.last_name);
    let (number, placed_at, totals) = (order.number, order.placed_at, order.totals);
    Ok(Some(Letter {
        email,
        name: name.map(|(first, last)| format!("{first} {last}")),
        query: Some(Secret::new(format!("id={id}"))),
        about: MailAbout::Order(Box::new(MailOrder { number, placed_at, lines, totals })),
    }))
}
