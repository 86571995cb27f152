//! Routes of feeds.

use ecom_core::catalog::FeedStatus;

use crate::dto::{FeedView, Item, List};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{ByName, Name, NoBody, Picked, Query};
use crate::headers::private;
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown};

impl Shown for FeedStatus {
    const FIELDS: &'static [&'static str] = FeedView::FIELDS;
    type View<'a> = FeedView<'a>;

    fn view(&self, _: &Format) -> FeedView<'_> {
        FeedView::of(self)
    }
}

impl Resource for FeedStatus {
    const COLLECTION: &'static str = "/admin/feeds";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.state.id.0, version: self.state.audit.version, revision: self.state.audit.version }
    }

    fn name(&self) -> String {
        self.feed.name().to_owned()
    }
}

/// List feeds
///
/// Lists the feeds of the process that answers: the sources that the shop polls, with their last and next polls.
#[utoipa::path(
    get, path = "/admin/feeds", tag = "imports", security(("bearer" = ["jobs:read"])), params(Picked),
    responses((status = 200, description = "All feeds", body = List<FeedView>))
)]
pub(crate) async fn feeds(reply: Reply, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<FeedStatus>(&picked)?;
    let feeds = reply.shop().feeds().list().await?;
    Ok(private(reply.all(feeds.iter(), &format)?, None))
}

/// Read a feed
#[utoipa::path(
    get, path = "/admin/feeds/{name}", tag = "imports", security(("bearer" = ["jobs:read"])), params(ByName, Picked),
    responses((status = 200, description = "The feed", body = Item<FeedView>), NotModified)
)]
pub(crate) async fn read_feed(reply: Reply, Name(name): Name, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<FeedStatus>(&picked)?;
    reply.personal(&reply.shop().feeds().get(&name).await?, &format)
}

/// Poll a feed
///
/// Makes a feed due, so that the background work polls it within about a second, and imports the source if it has
/// changed. If a poll or an import of the feed is running, the feed is polled once more after its end. `last_job_id` of
/// the feed leads to the job of the import.
#[utoipa::path(
    post, path = "/admin/feeds/{name}/run", tag = "imports", security(("bearer" = ["import:run"])), params(ByName),
    responses((status = 202, description = "The feed; `Location` has its path", body = Item<FeedView>))
)]
pub(crate) async fn run_feed(
    reply: Reply,
    Name(name): Name,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let (feeds, name) = (reply.shop().feeds(), name.as_str());
    let within = |mut tx| async move { Ok((feeds.poll_in(&mut tx, name).await?, tx)) };
    let render = |feed: &_| reply.accepted::<FeedStatus>(feed);
    Ok(keyed.answer(&reply, feeds.poll(name), within, render).await?)
}
