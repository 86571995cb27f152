//! Servers that replicate, with the proxies in front of them, as [docs/clusters.md](../../../docs/clusters.md)
//! describes them.

mod elasticsearch;
mod galera;
mod patroni;
mod pgpool;
mod sentinel;

use std::time::{Duration, Instant};

use crate::{Kind, Server};

pub use elasticsearch::Elasticsearch;
pub use galera::Galera;
pub use patroni::Patroni;
pub use pgpool::Pgpool;
pub use sentinel::Sentinel;

/// Longer than any failover and any copy of the data of a test.
const LIMIT: Duration = Duration::from_secs(180);

/// How many servers a cluster has.
const NODES: usize = 3;

/// The beginning of the configuration of every proxy. A server that is down loses its clients at once.
const PROXY: &str = "\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions";

/// Starts a proxy with a configuration that follows [`PROXY`].
async fn proxy(rest: &str) -> Server {
    Server::with(Kind::HaProxy, &[PROXY, rest]).await
}

/// Waits until `what` is true.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is_true().await {
        assert!(since.elapsed() < LIMIT, "{what}: not in {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
