//! Starts the servers that `tests/run` and the test suites use, except those that `TEST_POSTGRES_URL`, `TEST_MYSQL_URL`
//! or `TEST_REDIS_URL` already name. Prints lines for a shell to `eval`, then `# ready`, and stops the servers when its
//! standard input closes (Ctrl-D).

use std::io::Read as _;
use std::process::ExitCode;

use test_servers::{Kind, Server, given, sweep, version};

#[tokio::main]
async fn main() -> ExitCode {
    let mut servers = Vec::new();
    for (kind, name) in [(Kind::Postgres, "POSTGRES"), (Kind::MariaDb, "MYSQL"), (Kind::Redis, "REDIS")] {
        let variable = format!("TEST_{name}_URL");
        let url = match given(&variable) {
            Some(url) => url,
            None => {
                let server = Server::with(kind, &[]).await;
                let url = server.url();
                servers.push(server);
                println!("export {variable}='{url}'");
                url
            }
        };
        match version(&url).await {
            Ok(version) => println!("export TEST_{name}_VERSION='{version}'"),
            Err(why) => {
                eprintln!("the server of {variable} does not answer: {why}");
                return ExitCode::FAILURE;
            }
        }
        if kind != Kind::Redis
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
