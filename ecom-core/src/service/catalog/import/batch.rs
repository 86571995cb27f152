//! Writes checked records in batches, each in one unit of work.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::error::{FieldCode, Result};
use crate::service::catalog::import::{
    BATCH_BYTES, ImportReport, Item, Message, Rejection, Run, is_of_a_record, lost_reader, patiently,
};
use crate::service::run::context::Context;
use crate::service::run::read_through::text_hash;
use crate::service::run::transaction::Tx;

/// The outcome of a record.
#[derive(Debug)]
pub(super) enum Outcome {
    Inserted,
    Updated,
    Unchanged,
    Rejected(Rejection),
}

/// The outcome of a batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub outcomes: Vec<Outcome>,
    pub categories_created: u64,
}

/// Writes the records of one kind.
#[async_trait]
pub(super) trait BatchWriter: Sync {
    /// A record that was checked against the bounds of its kind.
    type Candidate: Send + Sync + 'static;

    fn context(&self) -> &Arc<Context>;

    /// Returns the field and the value by which a record is recognized. A source must not contain the same one twice.
    fn key(candidate: &Self::Candidate) -> (&'static str, String);

    /// Writes records, and returns an outcome for each. An error undoes all of them.
    async fn write_in(&self, tx: &mut Tx<'_>, candidates: &[Self::Candidate]) -> Result<Written>;
}

/// Writes the records of a source, `size` records per batch, or fewer if they are large. If one record makes a batch
/// fail, its halves are written one after the other, and so on until the record is alone.
pub(super) async fn in_batches<W, P>(
    writer: &W,
    from: &mut mpsc::Receiver<Message<W::Candidate>>,
    size: usize,
    run: &mut Run<P>,
) -> Result<()>
where
    W: BatchWriter,
    P: FnMut(&ImportReport) + Send,
{
    let mut seen = HashSet::new();
    let mut batch: Vec<(Item<()>, W::Candidate)> = Vec::with_capacity(size);
    let (mut since, mut bytes) = (0, 0);
    loop {
        match from.recv().await {
            Some(Message::Item(item)) => {
                run.report.read += 1;
                since += 1;
                let Item { index, line, raw, size, external_id, value } = *item;
                bytes += size;
                let item = Item { index, line, raw, size, external_id, value: Ok(()) };
                match value.and_then(|c| first_of_its_kind(&mut seen, W::key(&c)).map(|()| c)) {
                    Ok(candidate) => batch.push((item, candidate)),
                    Err(why) => run.refuse(item.refused(why)),
                }
            }
            Some(Message::End(ended)) => {
                run.report.ended_early = ended;
                break;
            }
            None => {
                run.report.ended_early = Some(lost_reader(run.report.read));
                break;
            }
        }
        if since >= size || bytes >= BATCH_BYTES {
            (since, bytes) = (0, 0);
            write(writer, &mut batch, run).await?;
        }
    }
    write(writer, &mut batch, run).await
}

/// Refuses a record that the source contains for the second time: the two would undo each other at every run.
fn first_of_its_kind(seen: &mut HashSet<u128>, (field, key): (&'static str, String)) -> Result<(), Rejection> {
    if seen.insert(text_hash(&key)) {
        return Ok(());
    }
    Err(Rejection::field(
        field,
        FieldCode::Inconsistent,
        "must occur only once in the source, but an earlier record has the same one",
    ))
}

async fn write<W, P>(writer: &W, batch: &mut Vec<(Item<()>, W::Candidate)>, run: &mut Run<P>) -> Result<()>
where
    W: BatchWriter,
    P: FnMut(&ImportReport) + Send,
{
    let (items, candidates): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
    let written = write_all(writer, &candidates).await?;
    run.report.categories_created += written.categories_created;
    for (item, outcome) in items.into_iter().zip(written.outcomes) {
        match outcome {
            Outcome::Inserted => run.report.inserted += 1,
            Outcome::Updated => run.report.updated += 1,
            Outcome::Unchanged => run.report.unchanged += 1,
            Outcome::Rejected(why) => run.refuse(item.refused(why)),
        }
    }
    run.batch_done()
}

/// Writes records in as few units of work as possible.
async fn write_all<W: BatchWriter>(writer: &W, candidates: &[W::Candidate]) -> Result<Written> {
    let mut all = Written { outcomes: Vec::with_capacity(candidates.len()), ..Written::default() };
    let mut waiting = vec![candidates];
    while let Some(part) = waiting.pop() {
        match commit(writer, part).await {
            Ok(written) => {
                all.outcomes.extend(written.outcomes);
                all.categories_created += written.categories_created;
            }
            Err(e) if is_of_a_record(&e) && part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                waiting.extend([second, first]);
            }
            Err(e) if is_of_a_record(&e) => all.outcomes.push(Outcome::Rejected(Rejection::from(&e))),
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// Writes records in one unit of work, all or nothing.
async fn commit<W: BatchWriter>(writer: &W, candidates: &[W::Candidate]) -> Result<Written> {
    if candidates.is_empty() {
        return Ok(Written::default());
    }
    let try_once = || {
        let write = |mut tx| async move { Ok((writer.write_in(&mut tx, candidates).await?, tx)) };
        writer.context().write_at_length(write)
    };
    patiently(try_once).await
}
