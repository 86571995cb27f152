//! The route of the audit.

use axum::http::StatusCode;

use crate::dto::{AuditView, Item, json};
use crate::error::ApiResult;
use crate::extract::Query;
use crate::headers::private;
use crate::resource::Reply;

/// Audit the shop
///
/// Recomputes the stock of every SKU from its ledger, and every sum, discount, credit note and status of every order
/// from its rows, and returns what is wrong (R41). It changes nothing, blocks no writer, and takes longer the more
/// orders the shop has.
#[utoipa::path(
    post, path = "/admin/audit", tag = "admin", security(("bearer" = ["audit:run"])),
    responses((status = 200, description = "The result of the audit", body = Item<AuditView>))
)]
pub(crate) async fn run(reply: Reply, Query(()): Query<()>) -> ApiResult {
    let report = reply.shop().audit().run().await?;
    let item = Item::new(AuditView::from(&report), reply.target.path().to_owned());
    Ok(private(json(StatusCode::OK, &item)?, None))
}
