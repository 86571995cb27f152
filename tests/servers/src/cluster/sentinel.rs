//! Redis with Sentinel.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::{NODES, proxy, until};
use crate::{Kind, Server};

/// The configuration of a Sentinel.
const SENTINEL: &str = "\
port {port}
bind 127.0.0.1
dir {directory}
sentinel monitor ecom 127.0.0.1 {master} 2
sentinel down-after-milliseconds ecom 1000
sentinel failover-timeout ecom 5000
sentinel parallel-syncs ecom 1";

/// Three servers, three Sentinels that watch them, and a proxy that leads to the master.
#[derive(Debug)]
pub struct Sentinel {
    /// The servers, each of which may be killed and started again.
    pub nodes: Vec<Server>,
    sentinels: Vec<Server>,
    /// Leads to the server that two Sentinels say is the master.
    pub proxy: Server,
}

impl Sentinel {
    /// Starts the cluster.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(Server::redis().await);
        }
        let master = nodes[0].port();
        for node in &nodes[1..] {
            let done = ask(node.port(), &format!("REPLICAOF 127.0.0.1 {master}")).expect("Redis answers");
            assert!(done.starts_with("+OK"), "{done}");
        }
        let settings = SENTINEL.replace("{master}", &master.to_string());
        let mut sentinels = Vec::new();
        for _ in 0..NODES {
            sentinels.push(Server::with(Kind::Sentinel, &[&settings]).await);
        }
        let (mut rules, mut backends) = (String::new(), String::new());
        for (n, node) in nodes.iter().enumerate() {
            let port = node.port();
            let _ = writeln!(
                rules,
                "    use_backend node{n} if {{ srv_is_up(node{n}/redis) }} {{ nbsrv(chosen{n}) ge 2 }}"
            );
            let _ = writeln!(
                backends,
                "backend node{n}\n    option tcp-check\n    tcp-check send info\\ replication\\r\\n\n    \
                 tcp-check expect string role:master\n    server redis 127.0.0.1:{port} check\n\
                 backend chosen{n}\n    option tcp-check\n    \
                 tcp-check send SENTINEL\\ get-master-addr-by-name\\ ecom\\r\\n\n    tcp-check expect string {port}"
            );
            for (s, sentinel) in sentinels.iter().enumerate() {
                let _ = writeln!(backends, "    server s{s} 127.0.0.1:{} check", sentinel.port());
            }
        }
        let proxy = proxy(&format!("frontend redis\n    bind 127.0.0.1:{{port}}\n{rules}{backends}")).await;
        let cluster = Self { nodes, sentinels, proxy };
        cluster.is_whole().await;
        cluster
    }

    /// Returns the URL of the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.proxy.port())
    }

    /// Returns the number of the server that the Sentinels say is the master, if they agree.
    pub fn master(&self) -> Option<usize> {
        let said = |sentinel: &Server| {
            let answer = ask(sentinel.port(), "SENTINEL get-master-addr-by-name ecom").ok()?;
            answer.lines().filter_map(|line| line.trim().parse::<u16>().ok()).next_back()
        };
        let port = said(&self.sentinels[0])?;
        let do_agree = self.sentinels.iter().all(|sentinel| said(sentinel) == Some(port));
        self.nodes.iter().position(|node| node.port() == port).filter(|_| do_agree)
    }

    /// Waits until there is a master that the other servers have copied, and the proxy leads to it.
    pub async fn is_whole(&self) {
        until("the servers follow a master", async || {
            let info = |node: &Server| ask(node.port(), "INFO replication").unwrap_or_default();
            let follow = |node: &&Server| info(node).contains("master_link_status:up");
            let Some(master) = self.master() else { return false };
            self.nodes.iter().filter(follow).count() == NODES - 1
                && info(&self.nodes[master]).contains("role:master")
                && ask(self.proxy.port(), "INFO replication").is_ok_and(|info| info.contains("role:master"))
        })
        .await;
    }
}

/// Sends a command to a Redis or a Sentinel, and returns its answer.
fn ask(port: u16, command: &str) -> io::Result<String> {
    let mut c = TcpStream::connect(("127.0.0.1", port))?;
    c.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(c, "{command}\r\n")?;
    // A Sentinel does not know QUIT.
    c.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    c.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(io::Error::other("no answer")) } else { Ok(answer) }
}
