//! Routes of jobs.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use ecom_core::id::JobId;
use ecom_core::platform::{Job, JobFilter, JobKind, JobQueueStatus, JobState};
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;

use crate::dto::{Item, JobQueueView, JobView, List, VerifyInput, json};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{ById, Cursor, Id, Kind, NoBody, OptionalJson, Pages, Picked, Query, word};
use crate::headers::private;
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown};

impl Shown for Job {
    const FIELDS: &'static [&'static str] = JobView::FIELDS;
    type View<'a> = JobView<'a>;

    fn view(&self, _: &Format) -> JobView<'_> {
        JobView::of(self)
    }
}

impl Resource for Job {
    const COLLECTION: &'static str = "/admin/jobs";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }
}

/// The filters of a list of jobs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobParams {
    /// Lists only jobs of this kind: `reindex`, `verify`, `mail`, `import`, `analytics-rebuild`, `media-cleanup`,
    /// or a kind of the application.
    #[serde(default)]
    kind: Option<String>,
    /// Lists only jobs in this state: `queued`, `running`, `succeeded`, `failed` or `canceled`.
    #[serde(default)]
    state: Option<String>,
}

/// Rebuild the search index
///
/// Enqueues a job that builds a new index beside the old one and then replaces it. Searches work all the time. If such
/// a job is queued already, the response has that one.
#[utoipa::path(
    post, path = "/admin/reindex", tag = "admin", security(("bearer" = ["index:write"])),
    responses((status = 202, description = "The queued job; `Location` has its path", body = Item<JobView>))
)]
pub(crate) async fn reindex(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let jobs = reply.shop().jobs();
    let within = |mut tx| async { Ok((jobs.enqueue_reindex_in(&mut tx).await?, tx)) };
    let render = |job: &_| reply.accepted::<Job>(job);
    Ok(keyed.answer(&reply, jobs.enqueue_reindex(), within, render).await?)
}

/// Verify the search index
///
/// Enqueues a job that compares the index with the database, product by product, and repairs the differences unless
/// `repair` is false. If such a job is queued already, the response has that one.
#[utoipa::path(
    post, path = "/admin/verify", tag = "admin", security(("bearer" = ["index:write"])),
    request_body(content = Option<VerifyInput>, description = "The body can be empty."),
    responses((status = 202, description = "The queued job; `Location` has its path", body = Item<JobView>))
)]
pub(crate) async fn verify(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: OptionalJson(VerifyInput { repair }), keyed }: Post<OptionalJson<VerifyInput>>,
) -> ApiResult {
    let jobs = reply.shop().jobs();
    let within = |mut tx| async move { Ok((jobs.enqueue_verify_in(&mut tx, repair).await?, tx)) };
    let render = |job: &_| reply.accepted::<Job>(job);
    Ok(keyed.answer(&reply, jobs.enqueue_verify(repair), within, render).await?)
}

/// List jobs
///
/// Lists the newest jobs first.
#[utoipa::path(
    get, path = "/admin/jobs", tag = "admin",
    security(("bearer" = ["jobs:read"])), params(Pages, Cursor, Picked, JobParams),
    responses((status = 200, description = "A page of jobs", body = List<JobView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, picked, p)): Query<(Pages, Cursor, Picked, JobParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let kind = p.kind.map(JobKind::new);
    if let Some(kind) = &kind {
        kind.check("kind", &mut errors);
    }
    let state = word("state", p.state.as_deref(), JobState::ALL, JobState::as_str, &mut errors);
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<Job>(&picked, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().jobs().list(&JobFilter { kind, state }, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Read a job
#[utoipa::path(
    get, path = "/admin/jobs/{id}", tag = "admin", security(("bearer" = ["jobs:read"])), params(ById, Picked),
    responses((status = 200, description = "The job", body = Item<JobView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, Id(id): Id<JobId>, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<Job>(&picked)?;
    reply.personal(&reply.shop().jobs().get(id).await?, &format)
}

/// Download the rejected records of an import
///
/// The response has a JSON object per line with the position of the record, the reason, and the record itself, so that
/// it can be mended and imported again (`format=dead_letters`). The job of an import keeps at most 16 MiB of them for
/// 30 days.
#[utoipa::path(
    get, path = "/admin/jobs/{id}/rejected", tag = "admin", security(("bearer" = ["jobs:read"])), params(ById),
    responses((
        status = 200, description = "The rejected records", content_type = "application/x-ndjson", body = String
    ))
)]
pub(crate) async fn rejected(reply: Reply, Id(id): Id<JobId>, Query(()): Query<()>) -> ApiResult {
    const AT_ONCE: u32 = 100;
    let first = reply.shop().jobs().rejections(id, None, AT_ONCE).await?;
    let rest = futures::stream::try_unfold((reply, first), move |(reply, page)| async move {
        let Some(last) = page.last() else { return Ok::<_, Error>(None) };
        let after = Some(last.index);
        let lines: String = page.iter().flat_map(|r| [r.letter.as_str(), "\n"]).collect();
        let next = reply.shop().jobs().rejections(id, after, AT_ONCE).await?;
        Ok(Some((lines, (reply, next))))
    });
    let file = format!("attachment; filename=\"rejected-{id}.ndjson\"");
    let headers = [(CONTENT_TYPE, "application/x-ndjson".to_owned()), (CONTENT_DISPOSITION, file)];
    Ok(private((headers, Body::from_stream(rest)).into_response(), None))
}

/// Run a job again
///
/// The job must have failed or been canceled. It gets as many attempts as a new one. An import cannot be run again,
/// because its source is gone: repeat the import.
#[utoipa::path(
    post, path = "/admin/jobs/{id}/retry", tag = "admin", security(("bearer" = ["jobs:write"])), params(ById),
    responses((status = 202, description = "The queued job; `Location` has its path", body = Item<JobView>))
)]
pub(crate) async fn retry(
    reply: Reply,
    Id(id): Id<JobId>,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let jobs = reply.shop().jobs();
    let within = |mut tx| async { Ok((jobs.retry_in(&mut tx, id).await?, tx)) };
    let render = |job: &_| reply.accepted::<Job>(job);
    Ok(keyed.answer(&reply, jobs.retry(id), within, render).await?)
}

/// Cancel a job
///
/// A queued job does not run. The run of a running job ends within a few seconds, and what it has done by then stays,
/// unless the job runs in a transaction. An import cannot be canceled. If the job was canceled already, nothing
/// changes.
#[utoipa::path(
    post, path = "/admin/jobs/{id}/cancel", tag = "admin", security(("bearer" = ["jobs:write"])), params(ById),
    responses((status = 200, description = "The canceled job", body = Item<JobView>))
)]
pub(crate) async fn cancel(
    reply: Reply,
    Id(id): Id<JobId>,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let jobs = reply.shop().jobs();
    let within = |mut tx| async { Ok((jobs.cancel_in(&mut tx, id).await?, tx)) };
    let render = |job: &_| reply.written::<Job>(job, &());
    Ok(keyed.answer(&reply, jobs.cancel(id), within, render).await?)
}

/// The kind of jobs in a path, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct ByKind {
    /// The kind of the jobs, such as `mail`.
    kind: String,
}

impl Shown for JobQueueStatus {
    const FIELDS: &'static [&'static str] = JobQueueView::FIELDS;
    type View<'a> = JobQueueView<'a>;

    fn view(&self, _: &Format) -> JobQueueView<'_> {
        JobQueueView::of(self)
    }
}

/// Returns the response with one queue.
fn queue(reply: &Reply, status: &JobQueueStatus) -> ApiResult {
    let path = format!("{}{}/admin/job-queues", reply.target.base(), reply.app.config.api_prefix);
    Ok(private(json(StatusCode::OK, &Item::new(JobQueueView::of(status), path))?, None))
}

/// List the queues of jobs
///
/// Lists the kinds of jobs with the numbers of jobs in each state.
#[utoipa::path(
    get, path = "/admin/job-queues", tag = "admin", security(("bearer" = ["jobs:read"])), params(Picked),
    responses((status = 200, description = "All queues", body = List<JobQueueView>))
)]
pub(crate) async fn queues(reply: Reply, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<JobQueueStatus>(&picked)?;
    let queues = reply.shop().jobs().queues().await?;
    Ok(private(reply.all(queues.iter(), &format)?, None))
}

/// Pause a queue of jobs
///
/// None of its jobs begins until the queue is resumed. Jobs that run go on.
#[utoipa::path(
    post, path = "/admin/job-queues/{kind}/pause", tag = "admin", security(("bearer" = ["jobs:write"])),
    params(ByKind), responses((status = 200, description = "The paused queue", body = Item<JobQueueView>))
)]
pub(crate) async fn pause(
    reply: Reply,
    Kind(kind): Kind,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let (jobs, kind) = (reply.shop().jobs(), JobKind::new(kind));
    let within = |mut tx| async { Ok((jobs.pause_in(&mut tx, &kind).await?, tx)) };
    Ok(keyed.answer(&reply, jobs.pause(&kind), within, |status| queue(&reply, status)).await?)
}

/// Resume a queue of jobs
#[utoipa::path(
    post, path = "/admin/job-queues/{kind}/resume", tag = "admin", security(("bearer" = ["jobs:write"])),
    params(ByKind), responses((status = 200, description = "The queue", body = Item<JobQueueView>))
)]
pub(crate) async fn resume(
    reply: Reply,
    Kind(kind): Kind,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let (jobs, kind) = (reply.shop().jobs(), JobKind::new(kind));
    let within = |mut tx| async { Ok((jobs.resume_in(&mut tx, &kind).await?, tx)) };
    Ok(keyed.answer(&reply, jobs.resume(&kind), within, |status| queue(&reply, status)).await?)
}
