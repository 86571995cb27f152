//! The jobs of the search index.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::index::IndexSyncService;
use crate::domain::access::principal::Principal;
use crate::domain::platform::job::JobKind;
use crate::service::background::worker::GIVEN_BACK;
use crate::service::platform::job_queue::{Handler, JobError, JobHandler, JobQueue, JobRun, Runner};

/// Returns the queues of the index.
pub(crate) fn queues() -> Vec<JobQueue> {
    let queue = |kind, handler| JobQueue::of_shop(kind, Handler::Plain(handler), Runner::Index);
    vec![queue(JobKind::REINDEX, Arc::new(Reindex)), queue(JobKind::VERIFY, Arc::new(Verify))]
}

/// Builds the index anew.
#[derive(Debug)]
struct Reindex;

#[async_trait]
impl JobHandler for Reindex {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let index = IndexSyncService::new(&run.cx, Principal::system());
        let report = index.rebuild_counted(&run.progress).await?;
        if report.writer { Ok(()) } else { Err(JobError::postpone(GIVEN_BACK)) }
    }
}

/// Compares the index with the database.
#[derive(Debug)]
struct Verify;

#[async_trait]
impl JobHandler for Verify {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        let index = IndexSyncService::new(&run.cx, Principal::system());
        let repair = run.job().parameters.get("repair").and_then(Value::as_bool).unwrap_or(true);
        if !index.catch_up().await?.writer {
            return Err(JobError::postpone(GIVEN_BACK));
        }
        let report = index.verify_counted(repair, &run.progress).await?;
        let is_done = !repair || report.is_clean() || report.repaired || report.refused > 0;
        if is_done { Ok(()) } else { Err(JobError::postpone(GIVEN_BACK)) }
    }
}
