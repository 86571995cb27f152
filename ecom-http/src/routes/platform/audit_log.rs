//! Routes of the audit log.

use ecom_core::ValidationErrors;
use ecom_core::platform::{AuditLogEntry, AuditLogFilter};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{AuditLogEntryView, List};
use crate::error::ApiResult;
use crate::extract::{Cursor, Pages, Picked, Query, moment};
use crate::headers::private;
use crate::resource::{Format, Reply, Shown};

impl Shown for AuditLogEntry {
    const FIELDS: &'static [&'static str] = AuditLogEntryView::FIELDS;
    type View<'a> = AuditLogEntryView<'a>;

    fn view(&self, _: &Format) -> AuditLogEntryView<'_> {
        AuditLogEntryView::of(self)
    }
}

/// The filters of the audit log.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditLogParams {
    /// Lists only the edits of this actor.
    #[param(example = "user:018f3c5e-7d2a-7c3b-9f10-3a5b6c7d8e9f", min_length = 1, max_length = 100)]
    #[serde(default)]
    actor: Option<String>,
    /// Lists only the edits of this kind of entity: `product`, `category`, `review`, `customer`, `address`, `user`,
    /// `role`, `api_key` or `setting`; or `import`.
    #[param(min_length = 1, max_length = 100)]
    #[serde(default)]
    entity: Option<String>,
    /// Lists only the edits with this action, such as `product.updated`.
    #[param(min_length = 1, max_length = 100)]
    #[serde(default)]
    action: Option<String>,
    /// Lists only the edits of the entity with this id.
    #[serde(default)]
    entity_id: Option<Uuid>,
    /// Lists only edits of this time or later: a time (RFC 3339), or a date, which starts at 00:00 UTC.
    #[param(example = "2026-01-01")]
    #[serde(default)]
    from: Option<String>,
    /// Lists only edits before this time: a time (RFC 3339), or a date, which starts at 00:00 UTC.
    #[param(example = "2026-02-01T00:00:00Z")]
    #[serde(default)]
    until: Option<String>,
}

/// List the audit log
///
/// Lists who edited the catalog, customers, users, roles, API keys and settings, and the values before and after; the
/// newest entries first. An import has one entry. The ledger of stock and the histories of orders have the other
/// changes.
#[utoipa::path(
    get, path = "/admin/audit-log", tag = "admin",
    security(("bearer" = ["audit_log:read"])), params(Pages, Cursor, Picked, AuditLogParams),
    responses((status = 200, description = "A page of the audit log", body = List<AuditLogEntryView>))
)]
pub(crate) async fn audit_log(
    reply: Reply,
    Query((pages, cursor, picked, p)): Query<(Pages, Cursor, Picked, AuditLogParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "occurred_desc", &reply.app.config, &mut errors);
    let format = reply.format::<AuditLogEntry>(&picked, &mut errors);
    let filter = AuditLogFilter {
        actor: p.actor,
        entity: p.entity,
        action: p.action,
        aggregate_id: p.entity_id,
        from: moment("from", p.from.as_deref(), &mut errors),
        until: moment("until", p.until.as_deref(), &mut errors),
    };
    errors.into_result()?;
    let (page, total) = reply.shop().audit_log().list(&filter, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}
