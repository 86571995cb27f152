//! Servers that belong to one test, which may break them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{Connection as _, MySqlConnection, PgConnection};
use tempfile::TempDir;
use url::Url;

use crate::{given, package, random, search, security};

/// Longer than any recovery in a test. A server that does not answer by then never will.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The memory of a search server.
const HEAP: [&str; 2] = ["-Xms512m", "-Xmx512m"];
const POLL: Duration = Duration::from_millis(20);

/// Kills the server and its children and removes the folder once the test's process has ended in whatever way, which
/// closes the standard input of this script. Each line of the input is the process to kill from now on.
const WATCHER: &str = r#"
trap '' HUP INT TERM
server=
while read -r line; do server=$line; done
if [ -n "$server" ]; then
    all=$server
    for stat in /proc/[0-9]*/stat; do
        read -r pid _ _ parent _ <"$stat" && [ "$parent" = "$server" ] && all="$all $pid"
    done 2>/dev/null
    kill -9 $all
fi
rm -rf "$0"
"#;

/// The user of a mail server in its URL.
const SMTP_USER: &str = "ecom:hunter2%40smtp@";
/// The program of a mail server.
const SMTP_SERVER: &str = include_str!("smtp.py");

const MEILISEARCH_PROGRAM: &str = "TEST_MEILISEARCH_PROGRAM";
const MEILISEARCH_KEY: &str = "a-key-of-more-than-16-letters";

/// The program that a [`Server`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    MariaDb,
    /// Redis.
    Redis,
    /// Elasticsearch.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
    /// Meilisearch, whose program [`Server::meilisearch`] takes from the environment.
    Meilisearch,
    /// A mail server.
    Smtp,
    /// A PostgreSQL under Patroni. Its setting is the text of the configuration file; see [`Server::with`].
    Patroni,
    /// A member of the store that Patroni uses. Its settings are options of etcd.
    Etcd,
    /// A proxy for PostgreSQL, Pgpool-II. Its setting is the text of the configuration file.
    Pgpool,
    /// A proxy, HAProxy. Its setting is the text of the configuration file.
    HaProxy,
    /// A Redis Sentinel. Its setting is the text of the configuration file.
    Sentinel,
}

/// A server that belongs to one test: on a free loopback port, in a temporary folder, flushing to disk as in
/// production. It is killed and removed when it is dropped, and when the test's process dies.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: u16,
    settings: Vec<String>,
    directory: TempDir,
    owner: Option<(u32, u32)>,
    process: Option<Child>,
    watcher: Child,
}

impl Server {
    /// Starts a PostgreSQL with one empty database. The URL names its superuser.
    pub async fn postgres() -> Self {
        Self::with(Kind::Postgres, &[]).await
    }

    /// Starts a MariaDB with one empty database. The URL names a user with all privileges.
    pub async fn mariadb() -> Self {
        Self::with(Kind::MariaDb, &[]).await
    }

    /// Starts a Redis that keeps everything in memory.
    pub async fn redis() -> Self {
        Self::with(Kind::Redis, &[]).await
    }

    /// Starts an Elasticsearch without security.
    pub async fn elasticsearch() -> Self {
        Self::with(Kind::Elasticsearch, &[]).await
    }

    /// Starts an Elasticsearch with security: it has the user [`crate::security::USER`], and TLS by the authority in
    /// `config/ca.pem` of its folder.
    pub async fn secured_elasticsearch() -> Self {
        Self::with(Kind::Elasticsearch, &security::SETTINGS).await
    }

    /// Starts an OpenSearch.
    pub async fn opensearch() -> Self {
        Self::with(Kind::OpenSearch, &[]).await
    }

    /// Starts a Meilisearch with a key, which the URL contains. There is no package of it: without
    /// `TEST_MEILISEARCH_PROGRAM`, which names the program, the test says that it is skipped.
    pub async fn meilisearch() -> Option<Self> {
        if given(MEILISEARCH_PROGRAM).is_none() {
            // The test harness does not capture this line.
            let _ = writeln!(io::stderr(), "skipped: {MEILISEARCH_PROGRAM} is not set, so no Meilisearch is started");
            return None;
        }
        Some(Self::with(Kind::Meilisearch, &[]).await)
    }

    /// Starts a mail server. Its URL has the user and the authority of its certificate, and [`mails`](Self::mails)
    /// returns what it was sent. It refuses mails to `refused@…` for good, and mails to `busy@…` for now.
    pub async fn smtp(tls: &str, with_login: bool) -> Self {
        let login = format!("login={}", if with_login { "yes" } else { "no" });
        Self::with(Kind::Smtp, &[&format!("tls={tls}"), &login]).await
    }

    /// Returns the mails that a mail server was sent, each with the address of the sender and those of the receivers.
    pub fn mails(&self) -> Vec<(String, Vec<String>, Vec<u8>)> {
        mails(self.directory())
    }

    /// Starts a server with these settings, each `name=value` as in the server's configuration file. The URL of a Redis
    /// contains its `requirepass`. If the one setting is the text of a configuration file, the file is written at each
    /// start, with the port and the folder of the server in place of `{port}` and `{directory}`. A PostgreSQL with the
    /// setting `primary_conninfo` is a standby, which begins as a copy of its primary.
    pub async fn with(kind: Kind, settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("ecom-server-").tempdir().expect("a temporary folder");
        // Python may be in a folder that only root reads.
        let owner = (geteuid().is_root() && kind != Kind::Smtp).then(|| unprivileged(kind));
        if let Some((user, group)) = owner {
            chown(directory.path(), Some(user), Some(group)).expect("the folder is given to the server");
        }
        let watcher = Command::new("sh")
            .args(["-c", WATCHER])
            .arg(directory.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        let mut server = Self { kind, port: 0, settings, directory, owner, process: None, watcher };
        server.make_data().await;
        for attempt in 1.. {
            server.port = free_port();
            match server.launch().await {
                Ok(()) => break,
                // Another process may have taken the port meanwhile.
                Err(why) => {
                    assert!(attempt < 3, "{why}");
                    server.kill9().await;
                }
            }
        }
        server
    }

    /// Returns its URL, which stays the same after a restart.
    pub fn url(&self) -> String {
        let port = self.port;
        match self.kind {
            Kind::Postgres | Kind::Patroni | Kind::Pgpool => format!("postgres://ecom@127.0.0.1:{port}/postgres"),
            Kind::MariaDb => format!("mysql://ecom:ecom@127.0.0.1:{port}/ecom"),
            Kind::Redis => match self.settings.iter().find_map(|s| s.strip_prefix("requirepass=")) {
                Some(password) => format!("redis://:{password}@127.0.0.1:{port}"),
                None => format!("redis://127.0.0.1:{port}"),
            },
            Kind::Elasticsearch if self.is_secured() => format!("https://127.0.0.1:{port}"),
            Kind::Elasticsearch | Kind::OpenSearch => format!("http://127.0.0.1:{port}"),
            Kind::Meilisearch => format!("http://:{MEILISEARCH_KEY}@127.0.0.1:{port}"),
            Kind::Etcd | Kind::HaProxy | Kind::Sentinel => format!("tcp://127.0.0.1:{port}"),
            Kind::Smtp => {
                let user = if self.setting("login") == "yes" { SMTP_USER } else { "" };
                let ca = self.directory().join("ca.pem").display().to_string();
                match self.setting("tls") {
                    "none" => format!("smtp://{user}127.0.0.1:{port}?tls=none"),
                    "starttls" => format!("smtp://{user}127.0.0.1:{port}?ca={ca}"),
                    _ => format!("smtps://{user}127.0.0.1:{port}?ca={ca}"),
                }
            }
        }
    }

    /// Replaces its settings. They count from its next start.
    pub fn set(&mut self, settings: Vec<String>) {
        self.settings = settings;
    }

    /// Writes the configuration file `name`, and returns its path.
    fn configure(&self, name: &str) -> PathBuf {
        let (path, directory) = (self.directory().join(name), self.directory().display().to_string());
        let text = self.settings.join("\n").replace("{port}", &self.port.to_string());
        std::fs::write(&path, text.replace("{directory}", &directory) + "\n").expect("the folder is written");
        if let Some((user, group)) = self.owner {
            chown(&path, Some(user), Some(group)).expect("the file is given to the server");
        }
        path
    }

    fn setting(&self, name: &str) -> &str {
        let values = self.settings.iter().filter_map(|setting| setting.split_once('='));
        values.into_iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }

    fn is_secured(&self) -> bool {
        self.settings.iter().any(|setting| setting.starts_with("xpack.security."))
    }

    /// Returns its loopback port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its folder, which contains `log` and `data`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns whether it runs, even if it is paused.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| matches!(p.try_wait(), Ok(None)))
    }

    /// Starts it again with its data on disk, after [`stop`](Self::stop) or [`kill9`](Self::kill9), and waits until it
    /// answers.
    pub async fn start(&mut self) {
        assert!(!self.is_running(), "it runs already");
        if let Err(why) = self.launch().await {
            panic!("{why}");
        }
    }

    /// Stops it as an administrator would: clients are disconnected, and everything is flushed.
    pub async fn stop(&mut self) {
        self.resume();
        // A smart shutdown of PostgreSQL would wait for its clients.
        let signal = if self.kind == Kind::Postgres { Signal::INT } else { Signal::TERM };
        if let Some(process) = &mut self.process {
            send(pid(process), signal);
            wait(process, STOP_LIMIT).await.expect("it stops in time");
        }
        self.gone();
    }

    /// Stops it and starts it again.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// Kills it and all of its processes at once, like a power failure that the disk survives.
    pub async fn kill9(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let children = kill_all(pid(&process));
        wait(&mut process, STOP_LIMIT).await.expect("a killed process did not end");
        let since = Instant::now();
        while children.iter().any(|&child| is_alive(child)) {
            assert!(since.elapsed() < STOP_LIMIT, "a killed process did not end");
            tokio::time::sleep(POLL).await;
        }
        self.gone();
    }

    /// Suspends all of its processes (SIGSTOP): connections stay open, and nothing answers.
    pub fn pause(&self) {
        let Some(process) = &self.process else { return };
        let server = pid(process);
        send(server, Signal::STOP);
        for child in children(server) {
            send(child, Signal::STOP);
        }
    }

    /// Resumes it after [`pause`](Self::pause).
    pub fn resume(&self) {
        let Some(process) = &self.process else { return };
        let server = pid(process);
        for child in children(server) {
            send(child, Signal::CONT);
        }
        send(server, Signal::CONT);
    }

    /// Returns the memory of its processes in bytes.
    pub fn memory(&self) -> u64 {
        let Some(process) = &self.process else { return 0 };
        let server = pid(process);
        let resident = |of: Pid| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", of.as_raw_nonzero())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
        };
        resident(server) + children(server).into_iter().map(resident).sum::<u64>()
    }

    /// Returns the last lines of its log.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.directory().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn gone(&mut self) {
        self.process = None;
        self.watch("");
    }

    fn watch(&mut self, server: &str) {
        let stdin = self.watcher.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{server}").expect("the watcher listens");
    }

    /// Returns a command that runs as the server's user and writes to its log.
    fn command(&self, program: PathBuf) -> Command {
        let log =
            || -> io::Result<File> { OpenOptions::new().create(true).append(true).open(self.directory().join("log")) };
        let mut command = Command::new(program);
        command
            .current_dir(self.directory())
            // When mariadbd starts, it removes the temporary tables of all servers with the same temporary folder.
            .env("TMPDIR", self.directory())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log().expect("the log is written"))
            .stderr(log().expect("the log is written"));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    async fn make_data(&self) {
        let data = self.directory().join("data");
        let mut command = match self.kind {
            Kind::Postgres if !self.setting("primary_conninfo").is_empty() => {
                let mut c = self.command(program(self.kind, "pg_basebackup"));
                c.args(["-d", self.setting("primary_conninfo"), "-R", "-c", "fast", "--no-sync", "-D"]).arg(&data);
                c
            }
            Kind::Postgres => {
                let mut c = self.command(program(self.kind, "initdb"));
                c.args(["-U", "ecom", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
                c
            }
            Kind::MariaDb => {
                // Run at every start, before it listens.
                let users = "CREATE DATABASE IF NOT EXISTS ecom;\n\
                             CREATE USER IF NOT EXISTS 'ecom'@'%' IDENTIFIED BY 'ecom';\n\
                             GRANT ALL ON *.* TO 'ecom'@'%' WITH GRANT OPTION;\n";
                std::fs::write(self.directory().join("users.sql"), users).expect("the folder is written");
                let mut c = self.command(program(self.kind, "mariadb-install-db"));
                c.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
                c.arg("--innodb-flush-log-at-trx-commit=0").arg(assign("--datadir=", &data));
                c
            }
            Kind::Elasticsearch => {
                let home = package::elasticsearch();
                let config = self.directory().join("config");
                let mut c = self.command("cp".into());
                c.arg("-r").arg(home.join("config")).arg(&config);
                c
            }
            Kind::Smtp => {
                std::fs::write(self.directory().join("smtp.py"), SMTP_SERVER).expect("the folder is written");
                security::certify(self.directory());
                return;
            }
            Kind::OpenSearch => {
                let program = self.directory().join("Main.java");
                std::fs::write(program, package::OPENSEARCH_MAIN).expect("the folder is written");
                return;
            }
            Kind::Redis
            | Kind::Meilisearch
            | Kind::Patroni
            | Kind::Etcd
            | Kind::Pgpool
            | Kind::HaProxy
            | Kind::Sentinel => return,
        };
        let status = wait(&mut command.spawn().expect("the program starts"), START_LIMIT).await;
        assert!(status.is_some_and(|s| s.success()), "the data folder cannot be made:\n{}", self.log());
    }

    /// Starts the process and waits until it answers.
    async fn launch(&mut self) -> Result<(), String> {
        let (directory, port) = (self.directory.path(), self.port.to_string());
        let data = directory.join("data");
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut c = self.command(program(self.kind, "postgres"));
                c.args(["-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "max_connections=400"]);
                c.args(["-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB", "-D"])
                    .arg(&data)
                    .arg("-k")
                    .arg(directory);
                c.args(self.settings.iter().flat_map(|s| ["-c", s]));
                c
            }
            Kind::MariaDb => {
                let mut c = self.command(program(self.kind, "mariadbd"));
                c.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=400"]);
                c.args(["--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M"]);
                c.arg(format!("--port={port}")).arg(assign("--datadir=", &data));
                c.arg(assign("--socket=", &directory.join("socket")));
                c.arg(assign("--pid-file=", &directory.join("pid")));
                c.arg(assign("--init-file=", &directory.join("users.sql")));
                c.args(self.settings.iter().map(|s| format!("--{s}")));
                c
            }
            Kind::Elasticsearch => {
                let mut settings = vec![
                    format!("http.port: {port}"),
                    "http.host: 127.0.0.1".to_owned(),
                    "transport.host: 127.0.0.1".to_owned(),
                    "cluster.routing.allocation.disk.threshold_enabled: false".to_owned(),
                    format!("path.data: {}", data.display()),
                    format!("path.logs: {}", directory.join("logs").display()),
                ];
                if self.is_secured() {
                    security::prepare(&directory.join("config"));
                } else {
                    settings.push("xpack.security.enabled: false".to_owned());
                }
                if self.setting("discovery.seed_hosts").is_empty() {
                    settings.push("discovery.type: single-node".to_owned());
                    settings.push(format!("transport.port: {}", free_port()));
                }
                settings.extend(self.settings.iter().map(|s| s.replacen('=', ": ", 1)));
                let config = directory.join("config");
                std::fs::write(config.join("elasticsearch.yml"), settings.join("\n")).expect("the folder is written");
                let mut c = self.command(package::elasticsearch().join("bin/elasticsearch"));
                c.env("ES_PATH_CONF", config).env("ES_JAVA_HOME", package::java()).env("ES_JAVA_OPTS", HEAP.join(" "));
                c
            }
            Kind::OpenSearch => {
                let mut c = self.command(package::java().join("bin/java"));
                c.args(HEAP).arg("-cp").arg(package::opensearch()).arg(directory.join("Main.java"));
                c.args([&port, &free_port().to_string()]).arg(&data).args(&self.settings);
                c
            }
            Kind::Meilisearch => {
                let mut c = self.command(crate::required(MEILISEARCH_PROGRAM).into());
                c.args(["--no-analytics", "--master-key", MEILISEARCH_KEY, "--http-addr"]);
                // A buffer that is made for each task would take most of its time.
                c.arg(format!("127.0.0.1:{port}")).args([
                    "--max-indexing-memory",
                    "16Mb",
                    "--max-indexing-threads",
                    "1",
                ]);
                c.arg("--db-path").arg(&data);
                c
            }
            Kind::Smtp => {
                let mut c = self.command(program(self.kind, "python3"));
                c.env("PYTHONPATH", package::aiosmtpd()).arg("smtp.py").arg(&port).arg(directory);
                c.args([self.setting("tls"), self.setting("login")]);
                c
            }
            Kind::Patroni => {
                let mut c = self.command(program(self.kind, "patroni"));
                // Its client looks for certificates there.
                c.env("HOME", directory).arg(self.configure("patroni.yml"));
                c
            }
            Kind::Etcd => {
                let mut c = self.command(program(self.kind, "etcd"));
                let client = format!("http://127.0.0.1:{port}");
                c.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--data-dir"]).arg(&data);
                c.args(self.settings.iter().map(|s| format!("--{s}")));
                c
            }
            Kind::Pgpool => {
                let mut c = self.command(program(self.kind, "pgpool"));
                c.arg("-n").arg("-f").arg(self.configure("pgpool.conf"));
                // Without these, it reads the files of the system.
                c.arg("-a").arg(directory.join("pool_hba.conf")).arg("-F").arg(directory.join("pcp.conf"));
                c
            }
            Kind::HaProxy => {
                let mut c = self.command(program(self.kind, "haproxy"));
                c.arg("-db").arg("-f").arg(self.configure("haproxy.cfg"));
                c
            }
            Kind::Sentinel => {
                let mut c = self.command(program(self.kind, "redis-server"));
                c.arg(self.configure("sentinel.conf")).arg("--sentinel");
                c
            }
            Kind::Redis => {
                let mut c = self.command(program(self.kind, "redis-server"));
                c.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
                c.arg(directory);
                for setting in &self.settings {
                    let (name, value) = setting.split_once('=').expect("settings are name=value");
                    c.args([&format!("--{name}"), value]);
                }
                c
            }
        };
        let process = command.spawn().map_err(|e| format!("{:?} does not start: {e}", self.kind))?;
        self.watch(&process.id().to_string());
        self.process = Some(process);
        let since = Instant::now();
        while version(&self.url()).await.is_err() {
            if !self.is_running() {
                self.gone();
                return Err(format!("{:?} ended:\n{}", self.kind, self.log()));
            }
            if since.elapsed() > START_LIMIT {
                return Err(format!("{:?} does not answer:\n{}", self.kind, self.log()));
            }
            tokio::time::sleep(POLL).await;
        }
        // Another server may answer on the port if ours could not start.
        if self.is_running() { Ok(()) } else { Err(format!("{:?} ended:\n{}", self.kind, self.log())) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            kill_all(pid(process));
            let _ = process.wait();
        }
        // Dropping `directory` removes the folder. The standard input of the watcher ends, and it has nothing left to
        // do.
        if let Some(mut stdin) = self.watcher.stdin.take() {
            let _ = writeln!(stdin);
        }
        let _ = self.watcher.wait();
    }
}

fn assign(option: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(option);
    text.push(path);
    text
}

/// Returns the mails in the folder of a mail server, in the order in which they came.
pub fn mails(directory: &Path) -> Vec<(String, Vec<String>, Vec<u8>)> {
    let mut found = Vec::new();
    for n in 1.. {
        let Ok(bytes) = std::fs::read(directory.join(format!("mails/{n}.eml"))) else { break };
        let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
        let mut line = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (from, to) = (line(), line());
        let to = to.split_whitespace().map(str::to_owned).collect();
        found.push((from, to, parts.next().unwrap_or_default().to_vec()));
    }
    found
}

/// Returns the user and group that a server runs as if this process is root, because some servers refuse to run as
/// root.
fn unprivileged(kind: Kind) -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let own = match kind {
        Kind::Postgres | Kind::Patroni => "postgres",
        Kind::MariaDb => "mysql",
        Kind::Redis | Kind::Sentinel => "redis",
        Kind::Elasticsearch
        | Kind::OpenSearch
        | Kind::Meilisearch
        | Kind::Smtp
        | Kind::Etcd
        | Kind::Pgpool
        | Kind::HaProxy => "nobody",
    };
    [own, "nobody"]
        .iter()
        .find_map(|name| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .expect("there is a user `nobody`")
}

/// Returns the path of a program. If it is missing, panics with the package to install.
pub(crate) fn program(kind: Kind, name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from));
    folders.into_iter().map(|f| f.join(name)).find(|p| p.is_file()).unwrap_or_else(|| {
        let package = match kind {
            Kind::Postgres => "postgresql",
            Kind::MariaDb => "mariadb-server",
            Kind::Redis | Kind::Sentinel => "redis-server",
            Kind::Patroni => "patroni",
            Kind::Etcd => "etcd-server",
            Kind::Pgpool => "pgpool2",
            Kind::HaProxy => "haproxy",
            Kind::Elasticsearch | Kind::OpenSearch | Kind::Meilisearch => "maven",
            Kind::Smtp => "python3-pip",
        };
        panic!("there is no `{name}`: install it (on Debian, the package {package}), or run `tests/run`, which does")
    })
}

/// Returns a port that nothing listens on, outside of the range that clients are given. A client that calls a stopped
/// server repeatedly could otherwise connect to itself, and keep the server from starting again.
pub(crate) fn free_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end = range.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(32_768_u64).max(12_000);
    (0..1_000)
        .map(|_| 10_000 + random() % (end - 10_000))
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("there is a free port")
}

fn pid(process: &Child) -> Pid {
    Pid::from_child(process)
}

/// Sends a signal. The process may have ended by itself meanwhile.
fn send(to: Pid, signal: Signal) {
    let _ = kill_process(to, signal);
}

/// Kills a process and its children, and returns the children.
fn kill_all(server: Pid) -> Vec<Pid> {
    // Stopped first, so that it neither starts more children nor cleans up after those that are killed.
    send(server, Signal::STOP);
    let children = children(server);
    send(server, Signal::KILL);
    for &child in &children {
        send(child, Signal::KILL);
    }
    children
}

/// Returns state and parent of a process: the fields after its name, which is in parentheses and may contain anything.
fn state(of: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Returns the children of a process, and theirs.
fn children(of: Pid) -> Vec<Pid> {
    let all: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id| Some((id, state(id)?.1)))
        .collect();
    let mut found = vec![of.as_raw_nonzero().get()];
    for n in 0.. {
        let Some(&parent) = found.get(n) else { break };
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(id, _)| id));
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

fn is_alive(process: Pid) -> bool {
    state(process.as_raw_nonzero().get()).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

async fn wait(process: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    while since.elapsed() < limit {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

/// Returns name and version of the server at `url`.
///
/// # Errors
/// A text, if the server does not answer.
pub async fn version(url: &str) -> Result<String, String> {
    let asked = async {
        match url.split(':').next() {
            Some("postgres" | "postgresql") => {
                let mut c = PgConnection::connect(url).await?;
                let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut c).await?;
                c.close().await?;
                Ok(format!("PostgreSQL {version}"))
            }
            Some("mysql" | "mariadb") => {
                let mut c = MySqlConnection::connect(url).await?;
                let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut c).await?;
                c.close().await?;
                let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
                Ok(format!("{product} {version}"))
            }
            Some(scheme @ ("http" | "https")) => {
                let (url, is_plain) = (url.to_owned(), scheme == "http");
                let asked = tokio::task::spawn_blocking(move || search::version(&url, is_plain)).await;
                asked.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(sqlx::Error::Io)
            }
            Some("tcp") => {
                let url = Url::parse(url).map_err(io::Error::other)?;
                TcpStream::connect((url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(0)))?;
                Ok("a server that listens".to_owned())
            }
            Some("smtp" | "smtps") => {
                let url = Url::parse(url).map_err(io::Error::other)?;
                TcpStream::connect((url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(25)))?;
                Ok("a mail server".to_owned())
            }
            _ => redis_version(url).map_err(sqlx::Error::Io),
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(answer) => answer.map_err(|e: sqlx::Error| e.to_string()),
        Err(_) => Err("no answer in 10 s".to_owned()),
    }
}

/// Asks Redis directly, so that this crate needs no client.
fn redis_version(url: &str) -> io::Result<String> {
    let url = Url::parse(url).map_err(io::Error::other)?;
    let mut c = TcpStream::connect((url.host_str().unwrap_or("127.0.0.1"), url.port().unwrap_or(6379)))?;
    c.set_read_timeout(Some(Duration::from_secs(5)))?;
    if let Some(password) = url.password() {
        write!(c, "AUTH {} {password}\r\n", if url.username().is_empty() { "default" } else { url.username() })?;
    }
    c.write_all(b"INFO server\r\nQUIT\r\n")?;
    let mut answer = String::new();
    c.read_to_string(&mut answer)?;
    let version = answer.lines().find_map(|line| line.strip_prefix("redis_version:"));
    version.map(|v| format!("Redis {v}")).ok_or_else(|| io::Error::other("no version in its answer"))
}
