//! The numbers of orders and bills (R43).

use std::collections::HashSet;
use std::sync::Arc;

use crate::port::NumberedDocument;
use crate::port::storage::Storage;
use crate::testkit::sample::Env;

tests! {
    __order_numbers: [
        r43_numbers_rise_and_carry_the_year,
        r43_orders_and_bills_have_numbers_of_their_own,
        r43_transactions_at_once_take_different_numbers,
        r43_numbers_that_were_used_are_skipped,
        r43_many_numbers_are_taken_in_one_call,
    ]
}

use NumberedDocument::{Bill, Order};

async fn take(storage: &Arc<dyn Storage>, kind: NumberedDocument, year: i32, count: usize) -> Vec<String> {
    attempt!(storage, orders.next_numbers(kind, year, count)).unwrap()
}

/// Returns the counter of a number.
fn counter(number: &str) -> i64 {
    number.rsplit('-').next().unwrap().parse().unwrap()
}

/// The counter rises and never restarts, not even with a new year.
pub async fn r43_numbers_rise_and_carry_the_year(storage: &Arc<dyn Storage>) {
    let mut all = Vec::new();
    for (year, count) in [(2026, 3), (2026, 1), (2027, 2), (2026, 5), (2027, 0)] {
        let numbers = take(storage, Order, year, count).await;
        assert_eq!(numbers.len(), count);
        for number in numbers {
            assert_eq!(number, Order.number(year, counter(&number)), "a number has its prefix, year and counter");
            all.push(counter(&number));
        }
    }
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "the counter rises: {all:?}");
    assert!(all[0] >= 1, "the counter starts at 1");
}

/// The first order and the first bill may have the same counter.
pub async fn r43_orders_and_bills_have_numbers_of_their_own(storage: &Arc<dyn Storage>) {
    let orders = take(storage, Order, 2026, 20).await;
    let bills = take(storage, Bill, 2026, 2).await;
    assert_eq!(orders[0], "ORD-2026-000001");
    assert_eq!(bills[0], "BILL-2026-000001", "orders take no numbers of bills");
}

/// Of many transactions at once, each takes numbers that no other takes, and some are rolled back.
pub async fn r43_transactions_at_once_take_different_numbers(storage: &Arc<dyn Storage>) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_usize {
        let storage = storage.clone();
        tasks.spawn(async move {
            let (mut taken, mut last) = (Vec::new(), 0);
            for turn in 0..12 {
                let count = 1 + (task + turn) % 7;
                let mut uow = storage.begin().await.unwrap();
                let numbers = uow.orders().next_numbers(Order, 2026, count).await.unwrap();
                assert_eq!(numbers.len(), count);
                tokio::task::yield_now().await;
                if (task + turn) % 5 == 0 {
                    drop(uow);
                    continue;
                }
                uow.commit().await.unwrap();
                for number in &numbers {
                    assert!(counter(number) > last, "the numbers that a process takes rise: {number} after {last}");
                    last = counter(number);
                }
                taken.extend(numbers);
            }
            taken
        });
    }
    let all: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    let different: HashSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "no number is taken twice");
}

/// An import has used some of the next numbers.
pub async fn r43_numbers_that_were_used_are_skipped(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (order, bill) =
        (counter(&take(storage, Order, 2026, 1).await[0]), counter(&take(storage, Bill, 2026, 1).await[0]));
    let used: Vec<_> = [1, 2, 3, 4, 6]
        .map(|n| {
            let mut record = env.order();
            record.order.number = Order.number(2026, order + n);
            record.bills[0].number = Bill.number(2026, bill + n);
            record
        })
        .into();
    env.insert_orders(storage, &used).await.unwrap();
    for kind in [Order, Bill] {
        let free = take(storage, kind, 2026, 4).await;
        assert_eq!(free.iter().collect::<HashSet<_>>().len(), 4, "{free:?}");
        let is_used = |number: &String| used.iter().any(|r| r.order.number == *number || r.bills[0].number == *number);
        assert!(!free.iter().any(is_used), "a number that was used must be skipped: {free:?}");
        assert!(free.windows(2).all(|pair| counter(&pair[0]) < counter(&pair[1])), "the counter rises: {free:?}");
    }
}

/// A large batch needs one call.
pub async fn r43_many_numbers_are_taken_in_one_call(storage: &Arc<dyn Storage>) {
    let before = storage.statements();
    let numbers = take(storage, Bill, 2026, 1_000).await;
    let cost = storage.statements() - before;
    assert!(cost <= 6, "{cost} statements for 1,000 numbers");
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), 1_000);
    let next = take(storage, Bill, 2026, 1).await.remove(0);
    assert!(numbers.iter().all(|number| counter(number) < counter(&next)), "the next number is above all of them");
}
