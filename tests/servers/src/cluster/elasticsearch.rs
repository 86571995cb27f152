//! Elasticsearch or OpenSearch on three nodes.

use std::fmt::Write as _;

use super::{NODES, proxy, until};
use crate::server::free_port;
use crate::{Kind, Server, http};

/// Three nodes, each of which may be the elected master, and a proxy that leads to those that answer.
#[derive(Debug)]
pub struct Elasticsearch {
    /// The nodes, each of which may be killed and started again.
    pub nodes: Vec<Server>,
    /// Leads to the nodes that answer.
    pub proxy: Server,
    kind: Kind,
}

impl Elasticsearch {
    /// Starts a cluster of Elasticsearch.
    pub async fn start() -> Self {
        Self::of(Kind::Elasticsearch).await
    }

    /// Starts a cluster of OpenSearch.
    pub async fn opensearch() -> Self {
        Self::of(Kind::OpenSearch).await
    }

    async fn of(kind: Kind) -> Self {
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let seeds: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        // The package of OpenSearch makes clusters of one node otherwise.
        let (masters, discovery) = match kind {
            Kind::OpenSearch => ("cluster_manager", Some("discovery.type=zen".to_owned())),
            _ => ("master", None),
        };
        let start = |n: usize| {
            let mut settings = vec![
                "cluster.name=ecom".to_owned(),
                format!("node.name=n{n}"),
                format!("transport.port={}", ports[n]),
                format!("discovery.seed_hosts={}", seeds.join(",")),
                format!("cluster.initial_{masters}_nodes=n0,n1,n2"),
            ];
            settings.extend(discovery.clone());
            Box::pin(async move {
                let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
                Server::with(kind, &settings).await
            })
        };
        // A node answers once two of them have elected a master.
        let (a, b, c) = tokio::join!(start(0), start(1), start(2));
        let nodes = vec![a, b, c];
        let mut servers = String::new();
        for (n, node) in nodes.iter().enumerate() {
            let _ = writeln!(servers, "    server n{n} 127.0.0.1:{} check", node.port());
        }
        let proxy = proxy(&format!(
            "listen search\n    bind 127.0.0.1:{{port}}\n    option httpchk GET /_cluster/health?local=true\n    \
             http-check expect status 200\n{servers}"
        ))
        .await;
        let cluster = Self { nodes, proxy, kind };
        cluster.is_whole().await;
        cluster
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.proxy.port())
    }

    /// Returns the name of the product, as URLs of the shop begin.
    pub fn product(&self) -> &'static str {
        if self.kind == Kind::OpenSearch { "opensearch" } else { "elasticsearch" }
    }

    /// Waits until all nodes are in the cluster and every copy of an index is complete.
    pub async fn is_whole(&self) {
        let path = format!("/_cluster/health?wait_for_status=green&wait_for_nodes={NODES}&timeout=5s");
        until("the nodes are one cluster", async || {
            let (url, path) = (self.url(), path.clone());
            let asked = tokio::task::spawn_blocking(move || http(&url, "GET", &path, "")).await;
            asked.is_ok_and(|answer| answer.is_ok_and(|(status, body)| status == 200 && body.contains("\"green\"")))
        })
        .await;
    }

    /// Returns the number of the elected master.
    pub fn master(&self) -> Option<usize> {
        let word = if self.kind == Kind::OpenSearch { "cluster_manager" } else { "master" };
        let (_, name) = http(&self.url(), "GET", &format!("/_cat/{word}?h=node"), "").ok()?;
        name.trim().strip_prefix('n')?.parse().ok()
    }
}
