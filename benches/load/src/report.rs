//! Writes the report, as Markdown.

use std::fmt::Write as _;

use crate::ledger::{Audit, Findings, Rows};
use crate::measure::{Kind, Mix, Sums, Tally};

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// `400`, `800` or `1000`, or the settings that replace the profile's.
    pub profile: String,
    /// The number of users at once.
    pub users: usize,
    /// New users a second.
    pub per_second: usize,
    /// The time for which all users were active, in seconds.
    pub seconds: u64,
    /// The least and most seconds that a user pauses; `None` without pauses.
    pub think: Option<(u64, u64)>,
    /// The name of the system under load.
    pub about: String,
    /// The number of products in the shop.
    pub products: usize,
    /// The number of SKUs that were sold.
    pub skus: usize,
    /// The number of customers who ordered.
    pub customers: usize,
    /// The shares of the kinds of requests.
    pub mix: Mix,
}

/// A target of the load test, with the measured value.
struct Target {
    what: &'static str,
    stated: String,
    measured: String,
    /// `None` if nothing was measured for it.
    met: Option<bool>,
}

fn most(what: &'static str, limit: f64, found: f64, any: bool) -> Target {
    let (measured, met) = if any { (format!("{found:.1} ms"), Some(found <= limit)) } else { ("none".into(), None) };
    Target { what, stated: format!("at most {limit} ms"), measured, met }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

fn targets(run: &Run, sums: &Sums, seconds: f64) -> Vec<Target> {
    let all = &sums.all;
    let (count, hits) = (all.times.count(), sums.from_cache.count());
    let rate = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    // Defined for 400 users. Each further user makes as many requests.
    let least = 150.0 * run.users as f64 / 400.0;
    let mut found = vec![Target {
        what: "requests a second",
        stated: format!("at least {least:.0} (150 to 300 by 400 users)"),
        measured: format!("{rate:.0}"),
        met: Some(rate >= least),
    }];
    let any = count > 0;
    found.push(most("p50", 50.0, all.times.quantile(0.50), any));
    found.push(most("p95", 200.0, all.times.quantile(0.95), any));
    found.push(most("p99", 500.0, all.times.quantile(0.99), any));
    let cached = &sums.from_cache;
    found.push(most("p50 from cache", 15.0, cached.quantile(0.50), hits > 0));
    found.push(most("p95 from cache", 50.0, cached.quantile(0.95), hits > 0));
    found.push(most("p99 from cache", 100.0, cached.quantile(0.99), hits > 0));
    let errors = percent(all.wrong, count);
    found.push(Target {
        what: "errors",
        stated: "under 1 %".into(),
        measured: format!("{errors:.2} %"),
        met: any.then_some(errors < 1.0),
    });
    let looked = hits + sums.misses;
    let share = percent(hits, looked);
    found.push(Target {
        what: "cache hits",
        stated: "over 60 %".into(),
        measured: format!("{share:.1} %"),
        met: (looked > 0).then_some(share > 60.0),
    });
    found
}

fn row(out: &mut String, name: &str, tally: &Tally, whole: u64, seconds: f64) {
    let t = &tally.times;
    let rate = if seconds > 0.0 { t.count() as f64 / seconds } else { 0.0 };
    let _ = writeln!(
        out,
        "| {name} | {} | {:.1} % | {rate:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |",
        t.count(),
        percent(t.count(), whole),
        t.quantile(0.50),
        t.quantile(0.95),
        t.quantile(0.99),
        t.max(),
        tally.refused,
        tally.wrong,
    );
}

/// Returns the report, and whether everything that could be judged met its target.
pub fn write(run: &Run, sums: &Sums, seconds: f64, check: &Result<Findings, String>) -> (String, bool) {
    let mut out = format!("# Load test, profile {}, mix {}\n\n", run.profile, run.mix.name());
    let think = run.think.map_or("without a pause".to_owned(), |(a, b)| format!("{a} to {b} s of thought in between"));
    let _ = writeln!(
        out,
        "{}. {} users, {} new ones a second, {} s with all of them, {think}. {} products, {} SKUs that are sold, {} \
         customers; the first of a list are chosen more often (a tenth of them gets a third of the requests).\n",
        run.about, run.users, run.per_second, run.seconds, run.products, run.skus, run.customers,
    );

    let mut good = true;
    out.push_str("## Targets\n\n| What | Stated | Measured | |\n|---|---|---|---|\n");
    for Target { what, stated, measured, met } in targets(run, sums, seconds) {
        let word = match met {
            Some(true) => "pass",
            Some(false) => "FAIL",
            None => "not measured",
        };
        good &= met != Some(false);
        let _ = writeln!(out, "| {what} | {stated} | {measured} | {word} |");
    }

    let whole = sums.all.times.count();
    let _ = writeln!(
        out,
        "\n## Requests\n\nOver {seconds:.1} s; times in ms, until the last byte. {} requests came before, while users were \
         still being added: they count below under errors and consistency only.\n\n\
         | Kind | Requests | Share | /s | p50 | p95 | p99 | max | refused (409, 412) | errors |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        sums.before,
    );
    for (kind, tally) in Kind::ALL.iter().zip(&sums.kinds).filter(|(kind, _)| kind.share(run.mix) > 0) {
        row(&mut out, kind.name(), tally, whole, seconds);
    }
    row(&mut out, "all", &sums.all, whole, seconds);
    let from_cache = Tally { times: sums.from_cache.clone(), ..Tally::default() };
    row(&mut out, "of them from cache", &from_cache, whole, seconds);
    let (read, edit) = (Kind::Read.share(run.mix), Kind::Edit.share(run.mix));
    let _ = writeln!(
        out,
        "\nBefore an edit the product is read; these reads are {edit} of the {read} %. An order that was refused because a \
         SKU was sold out, a second review of a product by a customer, and an edit after another one was faster, are \
         answered right."
    );

    out.push_str("\n## Answers\n\n| Kind | Status | Requests |\n|---|---|---|\n");
    for ((kind, status), n) in &sums.statuses {
        let status = if *status == 0 { "no answer".to_owned() } else { status.to_string() };
        let _ = writeln!(out, "| {} | {status} | {n} |", kind.name());
    }
    if sums.examples.is_empty() {
        out.push_str("\nNo answer was wrong.\n");
    } else {
        let _ = writeln!(out, "\nWrong answers ({} of them while users were still being added):\n", sums.wrong_before);
        for (what, n) in &sums.examples {
            let _ = writeln!(out, "- {n} × {what}");
        }
    }

    out.push_str("\n## Consistency\n\n");
    match check {
        Err(e) => {
            good = false;
            let _ = writeln!(out, "FAIL: it could not be checked: {e}");
        }
        Ok(f) => {
            let word = if f.problems.is_empty() { "pass" } else { "FAIL" };
            good &= f.problems.is_empty();
            let rows = |what: &str, rows: &Rows| {
                format!(
                    "{} acknowledged {what} are in the shop once each (without an answer: {} were written, {} were not)",
                    rows.acknowledged, rows.unknown_done, rows.unknown_not_done
                )
            };
            let audit = match &f.audit {
                Some(Audit::Clean) => "the audit of the server is clean",
                Some(Audit::Findings(_)) => "the audit of the server found what follows",
                Some(Audit::Absent) | None => "the server has no audit",
            };
            let _ = writeln!(
                out,
                "{word}: {}; {}. The stock of {} SKUs is that of the start and the ledger, which has every line of every \
                 order once. {} acknowledged edits are in the versions of {} products (without an answer: {}). Movements \
                 of others: {}. And {audit}.",
                rows("orders", &f.orders),
                rows("reviews", &f.reviews),
                f.skus,
                f.edits,
                f.products,
                f.unknown_edits,
                f.foreign,
            );
            for p in f.problems.iter().take(50) {
                let _ = writeln!(out, "- {p}");
            }
            if let more @ 1.. = f.problems.len().saturating_sub(50) {
                let _ = writeln!(out, "- and {more} more");
            }
        }
    }
    (out, good)
}
