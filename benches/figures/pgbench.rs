//! Runs pgbench, the load generator of PostgreSQL.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_servers::Server;

/// Runs a script from `clients` connections for some seconds and returns the number of its runs. pgbench prepares the
/// statements of the script and turns `:name` into a parameter; `variables` gives the values. `dir` is a folder for the
/// script.
pub async fn run(
    server: &Server,
    dir: &Path,
    script: &str,
    variables: &[(&str, String)],
    clients: usize,
    seconds: u64,
) -> (u64, Duration) {
    let program = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL of Debian")
        .map(|d| d.expect("a folder").path().join("bin/pgbench"))
        .filter(|p| p.exists())
        .max()
        .expect("pgbench");
    let mut command = Command::new(program);
    let url = url::Url::parse(&server.url()).expect("a URL");
    command
        .args(["-n", "-M", "prepared", "-j", "2"])
        .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", url.username()]);
    for (name, value) in variables {
        command.arg("-D").arg(format!("{name}={value}"));
    }
    let file = dir.join("script.sql");
    std::fs::write(&file, script).expect("a script");
    command.arg("-f").arg(file);
    command.arg(url.path().trim_start_matches('/'));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("pgbench runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let number = |prefix: &str| -> Option<f64> {
        text.lines().find_map(|l| l.strip_prefix(prefix))?.split_whitespace().next()?.parse().ok()
    };
    // Releases before 15 do not count failures: they end with an error.
    let failed = number("number of failed transactions: ").unwrap_or_default();
    assert!(failed == 0.0, "{text}");
    // The rate is that without the time in which pgbench connects.
    let tps = number("tps = ").expect("a rate");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate")]
    let done = (tps * seconds as f64) as u64;
    (done, Duration::from_secs(seconds))
}
