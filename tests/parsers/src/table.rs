use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use ecom_core::catalog::{ColumnMap, ImportFormat, ImportOptions, ImportReport, RecordOutcome};

use crate::shop::{TestShop, kept};

/// More records than this make a case slow, and show nothing new.
const MOST_ROWS: usize = 200;

thread_local! {
    static SHOP: &'static TestShop = {
        let shop = TestShop::open();
        shop.fill();
        kept(shop)
    };
}

/// Imports of tables: whatever the text is, each record has one outcome, which names its line, and the same import once
/// more writes nothing.
///
/// The input is a CSV file of products, with the columns of our own export, compressed or not.
pub fn table(input: &[u8]) {
    if input.split(|b| *b == b'\n').count() > MOST_ROWS {
        return;
    }
    SHOP.with(|shop| {
        let planned = import(shop, input, true);
        let first = import(shop, input, false);
        assert_eq!(planned.read, first.read, "a dry run reads the same records: {planned:?}");
        assert_eq!(planned.ended_early, first.ended_early);
        let again = import(shop, input, false);
        assert_eq!((again.read, again.rejected), (first.read, first.rejected), "{first:?} {again:?}");
        assert_eq!((again.inserted, again.updated, again.categories_created), (0, 0, 0), "{first:?} {again:?}");
    });
}

/// Imports a file, and checks that the report agrees with the outcomes of the records.
fn import(shop: &TestShop, input: &[u8], dry_run: bool) -> ImportReport {
    let outcomes: Arc<Mutex<Vec<RecordOutcome>>> = Arc::default();
    let seen = outcomes.clone();
    let options = ImportOptions::default()
        .format(ImportFormat::Csv(ColumnMap::own()))
        .dry_run(dry_run)
        .on_outcome(move |outcome| seen.lock().expect("no test holds it").push(outcome));
    let source = Cursor::new(input.to_vec());
    let report = shop.run(async { shop.shop.import().products(source, options, |_| {}).await });
    let report = report.expect("a file never makes the import itself fail");

    let sum = report.inserted + report.updated + report.unchanged + report.rejected + report.dropped;
    assert_eq!(report.read, sum, "{report:?}");
    let mut outcomes = outcomes.lock().expect("no test holds it").clone();
    outcomes.sort_by_key(|outcome| outcome.index);
    let indexes: Vec<u64> = outcomes.iter().map(|outcome| outcome.index).collect();
    assert_eq!(indexes, (0..report.read).collect::<Vec<_>>(), "each record has one outcome");
    let rejected = outcomes.iter().filter(|outcome| outcome.is_rejected()).count();
    assert_eq!(rejected as u64, report.rejected);
    let lines: BTreeSet<u64> = outcomes.iter().map(|outcome| outcome.line).collect();
    assert_eq!(lines.len(), outcomes.len(), "each record begins on a line of its own: {outcomes:?}");
    assert!(outcomes.is_sorted_by_key(|outcome| outcome.line), "{outcomes:?}");
    assert!(lines.first().is_none_or(|line| *line >= 2), "the first line is the header: {outcomes:?}");
    report
}
