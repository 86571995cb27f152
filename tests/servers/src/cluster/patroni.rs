//! PostgreSQL under Patroni, with synchronous replication.

use std::fmt::Write as _;

use super::{NODES, proxy, until};
use crate::server::{free_port, program};
use crate::{Kind, Server, http};

/// The configuration of a member. The time to live of the leader's key is the shortest that Patroni accepts.
const MEMBER: &str = "\
scope: ecom
name: {name}
restapi:
  listen: 127.0.0.1:{rest}
  connect_address: 127.0.0.1:{rest}
etcd3:
  hosts: {etcd}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters:
        max_connections: 200
        shared_buffers: 128MB
        wal_keep_size: 512MB
  initdb:
    - encoding: UTF8
    - locale: C
    - auth: trust
    - no-sync
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {directory}/data
  bin_dir: {bin}
  pgpass: {directory}/pgpass
  authentication:
    superuser:
      username: ecom
    replication:
      username: replicator
    rewind:
      username: ecom
  parameters:
    unix_socket_directories: '{directory}'";

/// Three members, the three stores by which they agree, and a proxy that leads to the leader.
#[derive(Debug)]
pub struct Patroni {
    /// The members, each of which may be killed and started again.
    pub members: Vec<Server>,
    /// The members of the store (etcd), one of which may be killed and started again.
    pub stores: Vec<Server>,
    /// The ports of the REST interfaces of the members.
    rest: Vec<u16>,
    /// Leads to the leader.
    pub proxy: Server,
}

impl Patroni {
    /// Starts the cluster, and waits until it replicates synchronously.
    pub async fn start() -> Self {
        let peers: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let mut stores = Vec::new();
        for n in 0..NODES {
            stores.push(store(n, &peers).await);
        }
        let hosts: Vec<String> = stores.iter().map(|store| format!("127.0.0.1:{}", store.port())).collect();
        // The folder of all programs: some may have a link elsewhere.
        let bin = program(Kind::Postgres, "pg_controldata").canonicalize().expect("it exists");
        let bin = bin.parent().expect("it is in a folder").display().to_string();
        let (mut members, mut rest, mut servers) = (Vec::new(), Vec::new(), String::new());
        for n in 1..=NODES {
            let port = free_port();
            let settings = MEMBER
                .replace("{name}", &format!("n{n}"))
                .replace("{rest}", &port.to_string())
                .replace("{etcd}", &hosts.join(","))
                .replace("{bin}", &bin);
            let member = Server::with(Kind::Patroni, &[&settings]).await;
            let _ = writeln!(servers, "    server n{n} 127.0.0.1:{} check port {port}", member.port());
            members.push(member);
            rest.push(port);
        }
        let proxy = proxy(&format!(
            "listen primary\n    bind 127.0.0.1:{{port}}\n    option httpchk OPTIONS /primary\n    \
             http-check expect status 200\n{servers}"
        ))
        .await;
        let cluster = Self { members, stores, rest, proxy };
        cluster.is_whole().await;
        cluster
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> String {
        format!("postgres://ecom@127.0.0.1:{}/postgres", self.proxy.port())
    }

    /// Returns the number of the leader.
    pub async fn leader(&self) -> usize {
        let mut leader = None;
        until("there is a leader", async || {
            leader = self.rest.iter().position(|port| is(*port, "/primary"));
            leader.is_some()
        })
        .await;
        leader.expect("it was found")
    }

    /// Waits until there is a leader, and the others follow it, one of them synchronously.
    pub async fn is_whole(&self) {
        until("the members follow a leader", async || {
            let count = |path: &str| self.rest.iter().filter(|port| is(**port, path)).count();
            (count("/primary"), count("/replica"), count("/sync")) == (1, NODES - 1, 1)
        })
        .await;
    }
}

/// Starts the member `n` of a store whose members have these ports for each other.
async fn store(n: usize, peers: &[u16]) -> Server {
    let address = |port: u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> = peers.iter().enumerate().map(|(n, port)| format!("e{n}={}", address(*port))).collect();
    let own = address(peers[n]);
    let settings = [
        format!("name=e{n}"),
        format!("listen-peer-urls={own}"),
        format!("initial-advertise-peer-urls={own}"),
        format!("initial-cluster={}", all.join(",")),
    ];
    Server::with(Kind::Etcd, &settings.each_ref().map(String::as_str)).await
}

/// Returns whether a member answers that it is in this role.
fn is(port: u16, path: &str) -> bool {
    http(&format!("http://127.0.0.1:{port}"), "GET", path, "").is_ok_and(|(status, _)| status == 200)
}
