//! A PostgreSQL primary with a standby that is a minute behind, and a proxy that sends reads to the standby.

use std::process::Command;

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{PROXY, until};
use crate::server::program;
use crate::{Kind, Server};

/// Two servers of PostgreSQL, and proxies in front of them.
#[derive(Debug)]
pub struct Delayed {
    /// The server that writes.
    pub primary: Server,
    /// The standby, which applies each change a minute late.
    pub standby: Server,
    /// Pgpool-II, which sends reads outside of transactions to the standby.
    pub pgpool: Server,
    /// HAProxy, which leads to the primary.
    pub proxy: Server,
}

impl Delayed {
    /// Starts the servers and the proxies.
    pub async fn start() -> Self {
        let primary = Server::postgres().await;
        let mut standby = Server::with(Kind::Postgres, &["recovery_min_apply_delay=60s"]).await;
        standby.stop().await;
        let data = standby.directory().join("data");
        std::fs::remove_dir_all(&data).expect("the data is removed");
        let mut backup = standby.command(program(Kind::Postgres, "pg_basebackup"));
        backup.args(["-h", "127.0.0.1", "-U", "ecom", "-R", "-c", "fast", "-p", &primary.port().to_string(), "-D"]);
        assert!(run(backup.arg(&data)), "the primary is copied: {}", standby.log());
        standby.start().await;
        let pgpool = Server::with(Kind::Pgpool, &[&pgpool(&primary, &standby, true)]).await;
        let proxy = Server::with(Kind::HaProxy, &[PROXY, &leads_to(&primary)]).await;
        until("the standby follows", async || {
            let mut c = PgConnection::connect(&primary.url()).await.expect("the primary answers");
            let text = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
            sqlx::query_scalar::<_, i64>(text).fetch_one(&mut c).await.is_ok_and(|n| n == 1)
        })
        .await;
        Self { primary, standby, pgpool, proxy }
    }

    /// Sends all statements through Pgpool-II to the primary.
    pub async fn turn_off_load_balancing(&mut self) {
        self.pgpool.set(vec![pgpool(&self.primary, &self.standby, false)]);
        self.pgpool.restart().await;
    }

    /// Makes the standby a primary, which does not stop the other one.
    pub async fn promote(&self) {
        let mut c = PgConnection::connect(&self.standby.url()).await.expect("the standby answers");
        c.execute("SELECT pg_promote()").await.expect("it is promoted");
    }

    /// Makes the proxy lead to the standby, or back to the primary. Clients are disconnected.
    pub async fn lead_to(&mut self, standby: bool) {
        let server = if standby { &self.standby } else { &self.primary };
        self.proxy.set(vec![PROXY.to_owned(), leads_to(server)]);
        self.proxy.restart().await;
    }
}

/// The configuration of a proxy that leads to one server.
fn leads_to(server: &Server) -> String {
    format!("listen primary\n    bind 127.0.0.1:{{port}}\n    server n1 127.0.0.1:{}", server.port())
}

/// The configuration of Pgpool-II.
fn pgpool(primary: &Server, standby: &Server, balances: bool) -> String {
    format!(
        "listen_addresses = '127.0.0.1'
port = {{port}}
socket_dir = '{{directory}}'
pcp_socket_dir = '{{directory}}'
pcp_port = {}
pid_file_name = '{{directory}}/pgpool.pid'
logdir = '{{directory}}'
memory_cache_enabled = off
enable_pool_hba = off
num_init_children = 16
backend_clustering_mode = 'streaming_replication'
load_balance_mode = {}
backend_hostname0 = '127.0.0.1'
backend_port0 = {}
backend_weight0 = 0
backend_flag0 = 'DISALLOW_TO_FAILOVER'
backend_hostname1 = '127.0.0.1'
backend_port1 = {}
backend_weight1 = 1
backend_flag1 = 'DISALLOW_TO_FAILOVER'
sr_check_user = 'ecom'
sr_check_database = 'postgres'",
        crate::server::free_port(),
        if balances { "on" } else { "off" },
        primary.port(),
        standby.port()
    )
}

fn run(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
