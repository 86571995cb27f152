//! Writes checked records in batches, each in one unit of work.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::error::{Error, FieldCode, Result};
use crate::service::catalog::import::{
    BATCH_BYTES, Checked, ImportReport, Incoming, Item, Message, RecordResult, Rejection, Run, is_of_a_record,
    lost_reader, patiently,
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
    /// The paths of the categories that were created.
    pub categories_created: Vec<String>,
}

/// Writes the records of one kind.
#[async_trait]
pub(super) trait BatchWriter: Sync {
    /// A record that was checked against the bounds of its kind.
    type Candidate: Send + Sync + 'static;

    fn context(&self) -> &Arc<Context>;

    /// Returns the field and the value by which a record is recognized. A source must not contain the same one twice.
    fn key(candidate: &Self::Candidate) -> (&'static str, String);

    /// Returns codes that no other record of the source may have. The database knows those of records that are written,
    /// so only a dry run asks for them.
    fn codes(_: &Self::Candidate) -> &[String] {
        &[]
    }

    /// Writes records, and returns an outcome for each. An error undoes all of them.
    async fn write_in(&self, tx: &mut Tx<'_>, candidates: &[Self::Candidate]) -> Result<Written>;
}

/// Writes the records of a source, `size` records per batch, or fewer if they are large. If one record makes a batch
/// fail, its halves are written one after the other, and so on until the record is alone.
pub(super) async fn in_batches<W, P>(
    writer: &W,
    incoming: &mut Incoming<W::Candidate>,
    size: usize,
    run: &mut Run<P>,
) -> Result<()>
where
    W: BatchWriter,
    P: FnMut(&ImportReport) + Send,
{
    let mut seen = HashSet::new();
    let mut created = HashSet::new();
    let mut batch: Vec<(Item<()>, W::Candidate)> = Vec::with_capacity(size);
    let (mut since, mut bytes) = (0, 0);
    loop {
        match incoming.next().await {
            Some(Message::Item(item)) => {
                let Item { index, line, raw, cut, size, external_id, value } = *item;
                if run.skips(index) {
                    if let Checked::Valid(c) = value {
                        let _ = first_of_its_kind(&mut seen, W::key(&c));
                    }
                    continue;
                }
                since += 1;
                bytes += size;
                let item = Item { index, line, raw, cut, size, external_id, value: Checked::Valid(()) };
                let dry_run = run.rolls_back;
                let mut first = |c: W::Candidate| {
                    first_of_its_kind(&mut seen, W::key(&c))?;
                    if dry_run {
                        are_free(&seen, W::codes(&c))?;
                    }
                    Ok(c)
                };
                match value {
                    Checked::Valid(c) => match first(c) {
                        Ok(candidate) => batch.push((item, candidate)),
                        Err(why) => run.refuse(item.refused(why)),
                    },
                    Checked::Refused(why) => run.refuse(item.refused(why)),
                    Checked::Dropped => run.count(item, RecordResult::Dropped),
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
            write(writer, &mut batch, &mut seen, &mut created, run).await?;
        }
    }
    write(writer, &mut batch, &mut seen, &mut created, run).await
}

/// Refuses a record of a dry run that uses a SKU code of a record in an earlier batch.
fn are_free(seen: &HashSet<u128>, codes: &[String]) -> Result<(), Rejection> {
    if codes.iter().any(|code| seen.contains(&hash_of_code(code))) { Err(repeated("sku")) } else { Ok(()) }
}

fn hash_of_code(code: &str) -> u128 {
    text_hash(&format!("code\0{code}"))
}

/// Refuses a record that the source contains for the second time: the two would undo each other at every run.
fn first_of_its_kind(seen: &mut HashSet<u128>, (field, key): (&'static str, String)) -> Result<(), Rejection> {
    if seen.insert(text_hash(&key)) { Ok(()) } else { Err(repeated(field)) }
}

fn repeated(field: &str) -> Rejection {
    let message = "must occur only once in the source, but an earlier record has the same one";
    Rejection::field(field, FieldCode::Inconsistent, message)
}

async fn write<W, P>(
    writer: &W,
    batch: &mut Vec<(Item<()>, W::Candidate)>,
    seen: &mut HashSet<u128>,
    created: &mut HashSet<u128>,
    run: &mut Run<P>,
) -> Result<()>
where
    W: BatchWriter,
    P: FnMut(&ImportReport) + Send,
{
    let (items, candidates): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
    let written = write_all(writer, &candidates, run.rolls_back).await?;
    // A dry run creates the same category in every batch.
    let new = written.categories_created.iter().filter(|path| created.insert(text_hash(path))).count();
    run.report.categories_created += u64::try_from(new).unwrap_or(u64::MAX);
    if run.rolls_back {
        // The database does not have the codes that this batch would have written.
        let accepted = candidates.iter().zip(&written.outcomes).filter(|(_, o)| !matches!(o, Outcome::Rejected(_)));
        seen.extend(accepted.flat_map(|(c, _)| W::codes(c)).map(|code| hash_of_code(code)));
    }
    for (item, outcome) in items.into_iter().zip(written.outcomes) {
        match outcome {
            Outcome::Inserted => run.count(item, RecordResult::Inserted),
            Outcome::Updated => run.count(item, RecordResult::Updated),
            Outcome::Unchanged => run.count(item, RecordResult::Unchanged),
            Outcome::Rejected(why) => run.refuse(item.refused(why)),
        }
    }
    run.batch_done()?;
    if !run.delay.is_zero() {
        tokio::time::sleep(run.delay).await;
    }
    Ok(())
}

/// Writes records in as few units of work as possible.
async fn write_all<W: BatchWriter>(writer: &W, candidates: &[W::Candidate], dry_run: bool) -> Result<Written> {
    let mut all = Written { outcomes: Vec::with_capacity(candidates.len()), ..Written::default() };
    let mut waiting = vec![candidates];
    while let Some(part) = waiting.pop() {
        match commit(writer, part, dry_run).await {
            Ok(written) => {
                all.outcomes.extend(written.outcomes);
                all.categories_created.extend(written.categories_created);
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

/// Writes records in one unit of work, all or nothing. A dry run rolls it back.
async fn commit<W: BatchWriter>(writer: &W, candidates: &[W::Candidate], dry_run: bool) -> Result<Written> {
    if candidates.is_empty() {
        return Ok(Written::default());
    }
    if !dry_run {
        let try_once = || {
            let write = |mut tx| async move { Ok((writer.write_in(&mut tx, candidates).await?, tx)) };
            writer.context().write_at_length(write)
        };
        return patiently(try_once).await;
    }
    let try_once = || async {
        let written = Mutex::new(None);
        let outcome = writer
            .context()
            .write_at_length(|mut tx| {
                let written = &written;
                async move {
                    let all = writer.write_in(&mut tx, candidates).await?;
                    *written.lock() = Some(all);
                    // An error rolls back.
                    Err::<((), Tx<'static>), Error>(Error::internal("a dry run", "everything is rolled back"))
                }
            })
            .await;
        match written.into_inner() {
            Some(written) => Ok(written),
            None => outcome.map(|()| Written::default()),
        }
    };
    patiently(try_once).await
}
