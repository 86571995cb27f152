//! The load test of the reference server: users who browse, read, search, order and edit.
//!
//! `benches/load/run` starts a server and runs this program on it. `--help` lists the options.

mod ledger;
mod measure;
mod mix;
mod report;
mod shop;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::Parser;
use goose::GooseAttack;
use goose::config::GooseConfiguration;

use ledger::Ledger;
use measure::{Measure, Mix};
use mix::Load;
use report::Run;
use shop::{Result, Shop};

/// Loads a server of ecom and reports how it performed.
///
/// Exits with 1 if a target is missed, an acknowledged write is lost, or nothing could be measured.
#[derive(Parser)]
struct Arguments {
    /// The server: `http://host:port`
    #[arg(long)]
    host: String,
    /// 400 users: 50 new ones a second, 5 minutes. 800: 100 a second, 10 minutes. 1000: 10 a second, 30 minutes
    #[arg(long, default_value = "400", value_parser = ["400", "800", "1000"])]
    profile: String,
    /// The shares of the kinds of requests
    #[arg(long, value_enum, default_value_t = Mix::Shop)]
    mix: Mix,
    /// The number of users, which replaces that of the profile
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    users: Option<u64>,
    /// The number of new users a second, which replaces that of the profile
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: Option<u64>,
    /// The number of seconds with all users, which replaces that of the profile
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Users do not pause between requests (otherwise 1 to 3 s, which makes 200 requests a second with 400 users)
    #[arg(long)]
    no_think: bool,
    /// The file that the report is written to, besides standard output
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The name of the system under load, for the report
    #[arg(long, default_value = "A server of ecom")]
    about: String,
}

/// The least and the most seconds between two requests of a user.
const THINK: (u64, u64) = (1, 3);

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(said: Arguments) -> Result<bool> {
    let (users, rate, seconds) = match said.profile.as_str() {
        "800" => (800, 100, 600),
        "1000" => (1_000, 10, 1_800),
        _ => (400, 50, 300),
    };
    let (users, rate) = (said.users.unwrap_or(users), said.rate.unwrap_or(rate));
    let seconds = said.seconds.unwrap_or(seconds);
    let think = (!said.no_think).then_some(THINK);
    let own = (said.users, said.rate, said.seconds) != (None, None, None);

    let shop = Shop::new(&said.host)?;
    let ledger = Arc::new(Ledger::default());
    let prefix = format!("load-{:x}-", rand::random::<u64>());
    let catalog = shop.begin(&ledger, &prefix).await?;
    let (products, skus, customers) = (catalog.products.len(), catalog.skus.len(), catalog.customers.len());
    let ramp = Duration::from_secs_f64(users as f64 / rate as f64);
    let load = Arc::new(Load {
        catalog,
        ledger: ledger.clone(),
        mix: said.mix,
        measure: Measure::new(ramp),
        run: prefix.clone(),
        numbers: AtomicU64::new(0),
    });

    // Goose starts, runs and stops the users. This program measures by itself, because the times of Goose end at the
    // headers and Goose counts a refusal as a failure.
    let configuration = GooseConfiguration::parse_args_default(&[
        &format!("--host={}", said.host),
        &format!("--users={users}"),
        &format!("--increase-rate={rate}"),
        &format!("--run-time={seconds}"),
        "--timeout=35",
        "--no-metrics",
        "--no-telnet",
        "-qqq",
    ])?;
    let pause = think.map(|(least, most)| (Duration::from_secs(least), Duration::from_secs(most)));
    let attack = GooseAttack::initialize_with_config(configuration)?.register_scenario(mix::scenario(&load, pause)?);
    Box::pin(attack.execute()).await?;

    let (sums, measured) = load.measure.sums();
    if sums.all.times.count() == 0 {
        return Err("nothing was measured: the run ended before all users were there".into());
    }
    let check = shop.check(&ledger, &prefix).await.map_err(|e| e.to_string());
    let run = Run {
        profile: if own { format!("{} with settings of its own", said.profile) } else { said.profile },
        users: usize::try_from(users)?,
        per_second: usize::try_from(rate)?,
        seconds,
        think,
        about: said.about,
        products,
        skus,
        customers,
        mix: said.mix,
    };
    let (text, good) = report::write(&run, &sums, measured, &check);
    println!("{text}");
    if let Some(path) = said.report {
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(good)
}
