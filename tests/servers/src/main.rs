//! Starts the servers that `tests/run` and the test suites use, except those that a variable such as
//! `TEST_POSTGRES_URL` already names. Prints lines for a shell to `eval`, then `# ready`, and stops the servers when
//! its standard input closes (Ctrl-D).

use std::io::Read as _;
use std::process::ExitCode;

use test_servers::{Kind, Server, given, sweep, version};

/// The settings of the shared databases: nothing waits for the disk, because nobody kills these servers. Tests that
/// kill a server start one of their own, with the defaults. `tests/run` also preloads libeatmydata for the shared
/// servers, because MariaDB flushes each change of a table's definition hundreds of times whatever its settings are.
const POSTGRES: &[&str] = &["fsync=off", "full_page_writes=off"];
// Each test makes and drops some 50 tables, which takes half the time if they need no files of their own.
const MARIADB: &[&str] = &["innodb-flush-log-at-trx-commit=0", "innodb-doublewrite=0", "innodb-file-per-table=0"];

// A thread for each server, because unpacking one blocks.
#[tokio::main(worker_threads = 8)]
async fn main() -> ExitCode {
    let kinds = [
        (Kind::Postgres, "POSTGRES", POSTGRES),
        (Kind::MariaDb, "MYSQL", MARIADB),
        (Kind::Redis, "REDIS", &[]),
        (Kind::Elasticsearch, "ELASTICSEARCH", &[]),
        (Kind::OpenSearch, "OPENSEARCH", &[]),
    ];
    // All start at the same time.
    let starting = kinds.map(|(kind, name, settings)| {
        let variable = format!("TEST_{name}_URL");
        let url = given(&variable);
        let is_given = url.is_some();
        (
            kind,
            name,
            variable,
            url,
            tokio::spawn(async move { if is_given { None } else { Some(Server::with(kind, settings).await) } }),
        )
    });
    let mut servers = Vec::new();
    for (kind, name, variable, url, server) in starting {
        let url = match (url, server.await) {
            (Some(url), _) => url,
            (None, Ok(Some(server))) => {
                let url = server.url();
                servers.push(server);
                println!("export {variable}='{url}'");
                url
            }
            (None, _) => return ExitCode::FAILURE,
        };
        match version(&url).await {
            Ok(version) => println!("export TEST_{name}_VERSION='{version}'"),
            Err(why) => {
                eprintln!("the server of {variable} does not answer: {why}");
                return ExitCode::FAILURE;
            }
        }
        if matches!(kind, Kind::Postgres | Kind::MariaDb)
            && let Err(why) = sweep(&url).await
        {
            eprintln!("{variable}: what earlier runs left cannot be dropped: {why}");
            return ExitCode::FAILURE;
        }
    }
    println!("# ready");
    let waited = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    for server in &mut servers {
        server.stop().await;
    }
    if matches!(waited, Ok(Ok(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
