//! URLs that break off or lead inward, which a shop polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom::adapters::outbound::OutboundOptions;
use ecom::adapters::{HttpFeed, HttpFeedOptions};
use ecom::catalog::{Feed, FeedState, ImportKind};
use ecom::{Shop, ShopConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{all_products, builder};

on_each_database! {
    a_url_that_breaks_off_keeps_its_records_and_one_that_leads_inward_is_refused,
}

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(120);

fn rows(numbers: std::ops::RangeInclusive<u32>) -> String {
    let row = |n| format!("{n},Thing {n},SKU-{n},9.99\n");
    numbers.map(row).collect()
}

/// Answers one request. The connection at `/breaks` ends within the eleventh row, unless it is mended.
async fn answer(socket: TcpStream, is_mended: bool) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let mut path = String::new();
    let mut line = String::new();
    while socket.read_line(&mut line).await? > 0 && line != "\r\n" {
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        line.clear();
    }
    let text = format!("external_id,title,sku,price\n{}", rows(1..=20));
    let cut = text.find("11,Thing").unwrap() + "11,Thing".len();
    let body = if path == "/breaks" && !is_mended { &text[..cut] } else { &text };
    let head = if path == "/inward" {
        "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest/meta-data\r\ncontent-length: 0".to_owned()
    } else {
        format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {}", text.len())
    };
    let body = if path == "/inward" { "" } else { body };
    socket.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await?;
    socket.shutdown().await
}

/// Waits until the state of a feed is as wanted.
async fn reaches(shop: &Shop, name: &str, holds: impl Fn(&FeedState) -> bool) -> FeedState {
    let start = Instant::now();
    loop {
        let state = shop.feeds().get(name).await.unwrap().state;
        if holds(&state) {
            return state;
        }
        assert!(start.elapsed() < LIMIT, "{state:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn a_url_that_breaks_off_keeps_its_records_and_one_that_leads_inward_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let is_mended = Arc::new(AtomicBool::new(false));
    let mended = is_mended.clone();
    let server = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // The client can go away.
            let _ = answer(socket, mended.load(Ordering::SeqCst)).await;
        }
    });
    let feed = |name: &str| {
        let outbound = OutboundOptions::default().allow("127.0.0.1").unwrap();
        let options = HttpFeedOptions::default().outbound(outbound);
        let source = HttpFeed::new(&format!("http://{address}/{name}"), options).unwrap();
        Feed::new(name, ImportKind::Products, Arc::new(source)).every(Duration::from_secs(1))
    };
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
    let shop = builder().await.config(config).feed(feed("breaks")).feed(feed("inward")).build().await.unwrap();
    let background = shop.start();
    let inward = reaches(&shop, "inward", |state| state.last_error.is_some()).await;
    assert_eq!((inward.last_job, &inward.version), (None, &None), "nothing was imported");
    let error = inward.last_error.unwrap();
    assert!(error.contains("the source is refused"), "{error}");
    let broken = reaches(&shop, "breaks", |state| state.last_error.is_some()).await;
    // The product of the last complete row may go on after it, so it is not imported yet.
    assert_eq!((broken.done, broken.failures, &broken.version), (9, 1, &None));
    let error = broken.last_error.unwrap();
    assert!(error.contains("line 12") && error.contains("the connection has broken off"), "{error}");
    assert_eq!(all_products(&shop).await.len(), 9, "the rows before are imported");

    is_mended.store(true, Ordering::SeqCst);
    shop.feeds().poll("breaks").await.unwrap();
    reaches(&shop, "breaks", |state| state.version.is_some() && !state.running).await;
    background.shutdown().await;
    server.abort();
    assert_eq!(all_products(&shop).await.len(), 20);
}
