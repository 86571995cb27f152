//! Calls and units of work that are dropped before they end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ecom_core::catalog::ProductFilter;
use ecom_core::common::IncludeDeleted;
use ecom_core::id::*;
use ecom_core::port::*;

use crate::support::{TestResult, category, file, ids, memory, product, write_categories, write_products};

/// Polls a future at most `left` times.
struct Polls<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.future.as_mut().poll(cx).map(Some)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_at_any_await_leaves_the_pool_whole_and_nothing_half_written() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        write_categories(&s, std::slice::from_ref(&top)).await?;
        let mut done = 0;
        let (mut dropped, mut completed) = (0, 0);
        // How often a future is polled differs from run to run. So each position is tried several times, and all of
        // them again until enough calls were dropped.
        for (tries, n) in (0..30).cycle().enumerate() {
            if tries >= 90 && dropped >= 20 && completed >= 1 {
                break;
            }
            assert!(tries < 900, "{dropped} dropped, {completed} completed");
            let p = product(&format!("Pen {n} {}", ids().next()), &[&top], 100, 2);
            let whole = async {
                write_products(&s, std::slice::from_ref(&p)).await?;
                s.connect().await?.products().get(p.id, IncludeDeleted::No).await
            };
            let finished = Polls { future: Box::pin(whole), left: n }.await;
            // The next caller gets a clean connection, and finds either the whole product or nothing.
            let mut tx = s.begin().await?;
            let found = tx.products().get(p.id, IncludeDeleted::Yes).await?;
            let live = tx.categories().get(top.id, IncludeDeleted::No).await?.ok_or("gone")?.product_count;
            let listed = tx
                .products()
                .count(&ProductFilter { category: Some(top.id), ..ProductFilter::default() }, 10_000)
                .await?;
            assert_eq!(listed.count, u64::try_from(live)?);
            match found {
                Some(found) => {
                    assert_eq!(found.skus.len(), 2, "dropped after {n} polls");
                    assert!(tx.inventory().imbalances().await?.is_empty());
                    done += 1;
                    assert_eq!(live, done);
                }
                None => assert_eq!(live, done, "dropped after {n} polls"),
            }
            tx.commit().await?;
            let status = s.pool_status();
            assert!(status.size <= status.max && status.waiting == 0, "{status:?}");
            if finished.is_some() {
                completed += 1;
            } else {
                dropped += 1;
            }
        }
        let mut held = Vec::new();
        for _ in 0..if s.pool_status().max == 1 { 1 } else { 4 } {
            held.push(s.connect().await?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_unit_of_work_writes_nothing_and_frees_the_lock() -> TestResult {
    for (_dir, s) in [
        {
            let (d, s) = file().await;
            (Some(d), s)
        },
        (None, memory().await),
    ] {
        let top = category("Office", None);
        {
            let mut tx = s.begin().await?;
            tx.categories().insert(std::slice::from_ref(&top)).await?;
        }
        let mut tx = s.begin().await?;
        assert_eq!(tx.categories().get(top.id, IncludeDeleted::Yes).await?, None);
        tx.categories().insert(std::slice::from_ref(&top)).await?;
        tx.rollback().await?;
        assert_eq!(s.connect().await?.categories().get(top.id, IncludeDeleted::Yes).await?, None);
    }
    Ok(())
}
