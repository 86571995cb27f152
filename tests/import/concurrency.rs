//! Imports in separate tasks, and several imports at the same time.

use std::io::Cursor;

use ecom::Error;
use ecom::catalog::ImportOptions;

use crate::support::{lines, record, shop};

on_each_database! {
    imports_run_as_tasks,
    imports_of_one_file_at_once_reject_nothing,
}

async fn imports_run_as_tasks() {
    let shop = shop().await;
    let task = tokio::spawn(async move {
        let text = lines(&[record(1)]).into_bytes();
        let p = shop.import().products(Cursor::new(text), ImportOptions::default(), |_| {}).await?;
        let rows = br#"[{"id": "a", "name": "A", "path": []}]"#.to_vec();
        let c = shop.import().categories(Cursor::new(rows), ImportOptions::default(), |_| {}).await?;
        Ok::<_, Error>((p.inserted, c.inserted))
    });
    assert_eq!(task.await.unwrap().unwrap(), (1, 1));
}

/// Several servers start on one empty database: each one plans over what the one before has created.
async fn imports_of_one_file_at_once_reject_nothing() {
    let shop = shop().await;
    let rows: Vec<String> = (0..40)
        .map(|i| {
            let above =
                if i < 4 { String::new() } else { format!(r#"{{"id": "{}", "name": "C {}"}}, "#, i % 4, i % 4) };
            format!(r#"{{"id": "{i}", "name": "C {i}", "path": [{above}{{"id": "{i}", "name": "C {i}"}}]}}"#)
        })
        .collect();
    let file = rows.join("\n").into_bytes();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (shop, file) = (shop.clone(), file.clone());
        running.spawn(async move {
            shop.import().categories(Cursor::new(file), ImportOptions::default(), |_| {}).await.unwrap()
        });
    }
    let reports = running.join_all().await;
    assert_eq!(reports.iter().map(|r| r.rejected).sum::<u64>(), 0, "{reports:?}");
    assert_eq!(reports.iter().map(|r| r.inserted).sum::<u64>(), 40, "{reports:?}");
    assert_eq!(reports.iter().map(|r| r.unchanged).sum::<u64>(), 120, "{reports:?}");
}
