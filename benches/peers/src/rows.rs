//! Checks that the plain program writes the same rows as the shop.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use crate::placing::{Prices, order};
use crate::plain::Plain;
use crate::support::Bench;

/// The columns of a row that are not null, each with the kind and the length of its value.
type Shape = Vec<(String, &'static str, usize)>;

/// Places an order with both, on the same SKUs. Checks that both write the same rows, with values of the same length in
/// the same columns, and that both change stock and revisions by as much.
pub async fn check(b: &Bench, prices: &Prices, ours: &Path, plain: &Plain, theirs: &Path) {
    let (first, second) = (201, 1_402);
    let (ours, theirs) = (read(ours), read(theirs));
    let before = (stock(&ours), stock(&theirs));
    let shop = b.shop.orders().place(&order(prices, first, second)).await.expect("an order").id.0;
    let program = plain.place_one(first, second).await;
    for ((on_hand, revisions), after) in [(before.0, stock(&ours)), (before.1, stock(&theirs))] {
        assert_eq!(after, (on_hand - 2, revisions + 2), "stock and revisions");
    }
    let (shop, program) = (written(&ours, shop), written(&theirs, program));
    assert_eq!(shop, program, "the shop and the plain program write different rows");
    let rows = shop.iter().filter(|(_, rows)| !rows.is_empty()).map(|(t, rows)| format!("{} in {t}", rows.len()));
    println!("  (the shop and the plain program write the same rows: {})", rows.collect::<Vec<_>>().join(", "));
}

fn read(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

/// Returns the pieces on hand of all SKUs, and the sum of the revisions of all products.
fn stock(db: &Connection) -> (i64, i64) {
    let text = "SELECT (SELECT sum(on_hand) FROM skus), (SELECT sum(revision) FROM products)";
    db.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("sums")
}

/// Returns the rows of an order.
fn written(db: &Connection, order: Uuid) -> Vec<(&'static str, Vec<Shape>)> {
    [
        ("orders", "id = ?1"),
        ("order_lines", "order_id = ?1"),
        ("order_adjustments", "order_id = ?1"),
        ("bills", "order_id = ?1"),
        ("order_changes", "order_id = ?1"),
        ("stock_movements", "order_line_id IN (SELECT id FROM order_lines WHERE order_id = ?1)"),
        ("outbox_events", "aggregate_id = ?1 OR data LIKE (SELECT '%' || number || '%' FROM orders WHERE id = ?1)"),
    ]
    .map(|(table, of_order)| {
        let mut statement = db.prepare(&format!("SELECT * FROM {table} WHERE {of_order}")).expect("a table");
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let shape = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Shape> {
            let mut shape = Shape::new();
            for (i, name) in names.iter().enumerate() {
                let (kind, length) = match row.get_ref(i)? {
                    ValueRef::Null => continue,
                    ValueRef::Integer(_) => ("integer", 8),
                    ValueRef::Real(_) => ("real", 8),
                    ValueRef::Text(text) => ("text", text.len()),
                    ValueRef::Blob(bytes) => ("blob", bytes.len()),
                };
                shape.push((name.clone(), kind, length));
            }
            Ok(shape)
        };
        let mut rows: Vec<Shape> =
            statement.query_map([order.as_bytes()], shape).expect("rows").collect::<Result<_, _>>().expect("a row");
        rows.sort_unstable();
        (table, rows)
    })
    .into()
}
