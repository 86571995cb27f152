//! PostgreSQL with a standby that lags, behind two Pgpool-II.

use crate::server::free_port;
use crate::{Kind, Server};

/// The configuration of a Pgpool. If it balances the load, it sends all reads that it can to the standby. Since version
/// 4.4, the setting `socket_dir` is called `unix_socket_directories`.
const POOL: &str = "\
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {port}
socket_dir = '{directory}'
unix_socket_directories = '{directory}'
pcp_listen_addresses = '127.0.0.1'
pcp_port = {pcp}
pcp_socket_dir = '{directory}'
pid_file_name = '{directory}/pid'
logdir = '{directory}'
backend_hostname0 = '127.0.0.1'
backend_port0 = {primary}
backend_weight0 = 0
backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
backend_hostname1 = '127.0.0.1'
backend_port1 = {standby}
backend_weight1 = 1
backend_flag1 = 'DISALLOW_TO_FAILOVER'
num_init_children = 40
max_pool = 1
sr_check_period = 0
health_check_period = 0
load_balance_mode = {balanced}";

/// A primary, a standby that applies each change an hour late, and the proxies in front of them.
#[derive(Debug)]
pub struct Pgpool {
    /// The server that writes.
    pub primary: Server,
    /// The standby.
    pub standby: Server,
    /// A proxy that sends reads to the standby.
    pub balanced: Server,
    /// A proxy that sends everything to the primary.
    pub plain: Server,
}

impl Pgpool {
    /// Starts the servers.
    pub async fn start() -> Self {
        let primary = Server::postgres().await;
        let source = format!("primary_conninfo=host=127.0.0.1 port={} user=ecom", primary.port());
        let standby = Server::with(Kind::Postgres, &[&source, "recovery_min_apply_delay=1h"]).await;
        let pool = async |balanced: &str| {
            let text = POOL
                .replace("{pcp}", &free_port().to_string())
                .replace("{primary}", &primary.port().to_string())
                .replace("{standby}", &standby.port().to_string())
                .replace("{balanced}", balanced);
            Server::with(Kind::Pgpool, &[&text]).await
        };
        let (balanced, plain) = (pool("on").await, pool("off").await);
        Self { primary, standby, balanced, plain }
    }
}
