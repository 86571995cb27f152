//! Orders and reads of `stateset-embedded` 1.40, for `ecom-peers`, which starts this program.
//!
//! `ecom-peers-stateset FILE` makes a shop on a new file. It reads requests from standard input, one a line, and
//! answers each with a line on standard output: a count, a space, and the seconds that it took.
//!
//! | Request | What the program does | Count |
//! |---|---|---|
//! | the prices of the SKUs, with spaces between them; only the first line | creates products of two SKUs each | SKUs |
//! | `orders` | places orders for some seconds, as many callers at once as with the shop | orders |
//! | `reads THREADS EACH` | makes `EACH` reads of a product with its SKUs on each of `THREADS` threads | reads |
//!
//! When standard input ends, the program checks that all orders are there. It ends with an error if they are not.

#[path = "../../../figures/orders/choice.rs"]
mod choice;
mod shop;

use std::io::BufRead as _;
use std::path::Path;
use std::time::{Duration, Instant};

use choice::spread;
use rust_decimal::Decimal;
use shop::Shop;

// All sides use the allocator of the reference server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let path = std::env::args_os().nth(1).expect("the path of a file as the argument");
    eprintln!("  (stateset-embedded runs on SQLite {})", rusqlite::version());
    let mut lines = std::io::stdin().lock().lines().map(|line| line.expect("a request"));
    let prices: Vec<Decimal> = lines
        .next()
        .expect("the prices")
        .split_whitespace()
        .map(|price| price.parse().unwrap_or_else(|e| panic!("the price {price:?}: {e}")))
        .collect();
    let start = Instant::now();
    let shop = Shop::create(Path::new(&path), &prices);
    answer((prices.len() as u64, start.elapsed()));
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<usize>().unwrap_or_else(|e| panic!("{line:?}: {e}"));
        answer(match words[..] {
            ["orders"] => shop.place(spread),
            ["reads", threads, each] => shop.read(number(threads), number(each)),
            _ => panic!("{line:?} is no request"),
        });
    }
    shop.check();
}

/// Standard output writes each line at once, also to a pipe.
fn answer((count, time): (u64, Duration)) {
    println!("{count} {}", time.as_secs_f64());
}
