//! MariaDB with Galera: every node writes.

use std::fmt::Write as _;

use sqlx::{Connection as _, Executor as _, MySqlConnection};

use super::{NODES, proxy, until};
use crate::server::free_port;
use crate::{Kind, Server};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// Three nodes, and a proxy that leads to one of them.
#[derive(Debug)]
pub struct Galera {
    /// The nodes, each of which may be killed and started again.
    pub nodes: Vec<Server>,
    /// Leads to the first node. If that node dies, it leads to another one, also after the first has come back.
    pub proxy: Server,
}

impl Galera {
    /// Starts a cluster of one node.
    pub async fn one_node() -> Server {
        node(0, &[free_port()]).await
    }

    /// Starts the cluster.
    pub async fn start() -> Self {
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let mut nodes = Vec::new();
        for n in 0..NODES {
            nodes.push(node(n, &ports).await);
        }
        let mut c = MySqlConnection::connect(&nodes[0].url()).await.expect("the first node answers");
        c.execute("CREATE USER 'haproxy'@'%'").await.expect("the user of the health checks is made");
        c.close().await.expect("the connection is closed");
        let mut servers = String::new();
        for (n, node) in nodes.iter().enumerate() {
            let backup = if n == 0 { "" } else { " backup" };
            let _ = writeln!(servers, "    server n{} 127.0.0.1:{} check{backup}", n + 1, node.port());
        }
        // All clients use the same node, also when a node with a smaller number comes back.
        let proxy = proxy(&format!(
            "listen galera\n    bind 127.0.0.1:{{port}}\n    option mysql-check user haproxy\n    \
             stick-table type ip size 1 nopurge\n    stick on dst\n{servers}"
        ))
        .await;
        let cluster = Self { nodes, proxy };
        cluster.is_whole().await;
        cluster
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> String {
        format!("mysql://ecom:ecom@127.0.0.1:{}/ecom", self.proxy.port())
    }

    /// Waits until all nodes that run are one cluster, and each has applied what the others have written.
    pub async fn is_whole(&self) {
        let size = self.nodes.len().to_string();
        for node in &self.nodes {
            until("the nodes are one cluster", async || {
                let state = [status(node, "wsrep_cluster_size").await, status(node, "wsrep_local_state_comment").await];
                state == [Some(size.clone()), Some("Synced".to_owned())]
            })
            .await;
        }
    }
}

/// Starts the node `n` of a cluster whose nodes have these ports for each other. The first one makes the cluster.
async fn node(n: usize, ports: &[u16]) -> Server {
    assert!(
        std::path::Path::new(PROVIDER).is_file(),
        "there is no {PROVIDER}: install it (on Debian, the package galera-4), or run `tests/run clusters`"
    );
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let member = &members[n];
    let mut settings: Vec<String> = [
        "innodb-buffer-pool-size=128M",
        "innodb-log-file-size=64M",
        "innodb-autoinc-lock-mode=2",
        "binlog-format=ROW",
        "wsrep-on=ON",
        "wsrep-cluster-name=ecom",
        "wsrep-sst-method=rsync",
    ]
    .map(str::to_owned)
    .into();
    settings.push(format!("wsrep-provider={PROVIDER}"));
    settings.push(format!("wsrep-cluster-address=gcomm://{}", members.join(",")));
    settings.push(format!("wsrep-node-name=n{}", n + 1));
    settings.push(format!("wsrep-node-address={member}"));
    settings.push(format!("wsrep-sst-receive-address=127.0.0.1:{}", free_port()));
    settings.push(format!(
        "wsrep-provider-options=gmcast.listen_addr=tcp://{member};ist.recv_addr=127.0.0.1:{};gcache.size=64M",
        free_port()
    ));
    let first_start = if n == 0 { "wsrep-new-cluster" } else { "init-file=" };
    let all: Vec<&str> = settings.iter().map(String::as_str).chain([first_start]).collect();
    let mut node = Server::with(Kind::MariaDb, &all).await;
    // From its next start on, it joins, and has its users from the others.
    settings.push("init-file=".to_owned());
    node.set(settings);
    until("the node is ready", async || status(&node, "wsrep_ready").await.is_some_and(|ready| ready == "ON")).await;
    node
}

/// Returns a value of `SHOW STATUS`, if the node answers.
async fn status(node: &Server, name: &'static str) -> Option<String> {
    let mut c = MySqlConnection::connect(&node.url()).await.ok()?;
    let text = "SELECT CAST(variable_value AS CHAR) FROM information_schema.global_status WHERE variable_name = ?";
    let value = sqlx::query_scalar(text).bind(name).fetch_optional(&mut c).await.ok()?;
    let _ = c.close().await;
    value
}
