//! Refuses servers that may give wrong answers: those that are read-only, those behind a proxy that sends reads and
//! transactions to different servers, those with another database or schema, and an old primary.
//!
//! A connection is checked when it is opened. A part of the check is repeated before a connection is used, if its last
//! check is older than [`ServerOptions::check_interval`](crate::ServerOptions::check_interval). Statements and
//! transactions themselves cost no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ecom_core::RefusedServer;
use parking_lot::Mutex;

use crate::sql::engine::dialect::Dialect;
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::migrate;

/// How many reads a new connection makes to find out its server, if the process does not know it. A proxy that chooses
/// a server for each statement may choose the same one several times.
pub const READS_OF_A_NEW_SERVER: usize = 16;

/// The maximum number of servers that a process knows. Each restart of PostgreSQL makes another one.
const MAX_KNOWN: usize = 100;

const READ_ONLY: &str = "it is read-only, as a standby or replica is, whose rows may be old: let the URL lead to the \
                         server that writes, or turn off `default_transaction_read_only` (PostgreSQL) or `read_only`";
const STANDBY: &str = "it is a standby, whose rows may be old: let the URL lead to the primary";
const ELSEWHERE: &str = "the URL leads to a proxy that sends reads and transactions to different servers, so that rows \
                         may be old: let it send everything to the server that writes (pgpool: `load_balance_mode = \
                         off`; ProxySQL: no query rule for SELECT; MaxScale: `readconnroute` in place of \
                         `readwritesplit`)";
const OTHER_DATABASE: &str = "it has another database than the one with which this process began: let the URL lead to \
                              the same database, or restart the process";
const OTHER_SCHEMA: &str = "its database does not have the schema of this release, perhaps because it comes from an \
                            old backup: restart the process to migrate it, or let the URL lead to the server that \
                            was migrated";
const OLD_PRIMARY: &str = "it is an old primary: this process has used a server of the same cluster with a later \
                           timeline. Let the URL lead to the current primary, or restart the process if the later one \
                           was given up";

/// Returns the error for a server that is refused. Nothing was written.
fn refused(reason: &'static str) -> DbError {
    DbError { kind: Kind::Unavailable, source: RefusedServer { reason }.into() }
}

/// What a SELECT outside of a transaction shows about its server.
#[derive(Debug)]
pub struct View {
    /// Identifies the running server: no other one has the same text at the same time.
    pub server: String,
    /// Whether it refuses writes.
    pub is_read_only: bool,
    /// Whether it is known to be a standby.
    pub is_standby: bool,
    /// The schema, if it was asked for.
    pub schema: Schema,
}

/// The identity of a database, and the checksum of the newest migration of this release.
pub type Schema = (Option<String>, Option<String>);

/// Returns the expressions that the statement of a [`View`] selects besides the others, to fill [`View::schema`]. They
/// refer to tables in the schema of the session.
pub fn schema_columns() -> &'static str {
    static COLUMNS: LazyLock<String> = LazyLock::new(|| {
        format!(
            "(SELECT value FROM ecom_meta WHERE name = 'identity'), \
             (SELECT checksum FROM ecom_migrations WHERE version = {})",
            migrate::newest_version()
        )
    });
    &COLUMNS
}

impl View {
    /// Refuses a server that does not write, or that is not the one of the transactions.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn check(&self, of_transactions: &str) -> DbResult<()> {
        if self.server != of_transactions {
            return Err(refused(ELSEWHERE));
        }
        match (self.is_standby, self.is_read_only) {
            (true, _) => Err(refused(STANDBY)),
            (false, true) => Err(refused(READ_ONLY)),
            (false, false) => Ok(()),
        }
    }
}

/// Refuses a schema that is not the one with this identity that this release has made. A newer schema is allowed, as
/// the next release makes it while this one still runs.
///
/// # Errors
/// `Unavailable`.
pub fn check_schema(dialect: &Dialect, identity: &str, (found, checksum): &Schema) -> DbResult<()> {
    if checksum.as_deref() != Some(migrate::newest_checksum(dialect.slot)) {
        return Err(refused(OTHER_SCHEMA));
    }
    if found.as_deref() == Some(identity) { Ok(()) } else { Err(refused(OTHER_DATABASE)) }
}

/// Returns the error for a statement that has asked for the schema in vain. Databases report a missing table as a
/// failure that nothing else explains.
pub fn no_schema(e: DbError) -> DbError {
    if e.kind == Kind::Other { refused(OTHER_SCHEMA) } else { e }
}

/// A position in the history of a cluster of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The identifier of the cluster, which its standbys share.
    pub system: String,
    /// The number of the timeline. A promotion begins the next one.
    pub number: i64,
}

/// The servers that this process has used.
#[derive(Debug, Default)]
pub struct Known {
    servers: Mutex<Servers>,
    /// How often a server of a newer timeline or of another cluster was found.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Servers {
    /// The servers on the timelines below.
    names: BTreeSet<String>,
    /// The newest timeline of each cluster.
    timelines: BTreeMap<String, i64>,
}

impl Known {
    /// Returns whether the process has used this server, and no newer timeline was found since.
    pub fn contains(&self, server: &str) -> bool {
        self.servers.lock().names.contains(server)
    }

    /// Returns how often the primary has changed. Connections from before a change may lead to the old one.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Adds a server, and the timeline that it is on, if it has one. Returns [`Self::changes`] at that moment.
    ///
    /// # Errors
    /// `Unavailable` if the process has used a server of the same cluster on a later timeline.
    pub fn add(&self, server: String, timeline: Option<Timeline>) -> DbResult<u64> {
        let mut known = self.servers.lock();
        if let Some(Timeline { system, number }) = timeline {
            match known.timelines.get(&system) {
                Some(newest) if number < *newest => return Err(refused(OLD_PRIMARY)),
                Some(newest) if number == *newest => {}
                newest => {
                    if newest.is_some() {
                        tracing::info!(timeline = number, "the database has another primary");
                    } else if !known.timelines.is_empty() {
                        // A major upgrade by logical replication looks the same, so it is not refused.
                        tracing::warn!("the database is on a server of another PostgreSQL cluster than before");
                    }
                    self.changes.fetch_add(u64::from(!known.timelines.is_empty()), Ordering::Relaxed);
                    known.timelines.insert(system, number);
                    known.names.clear();
                }
            }
        }
        if known.names.len() >= MAX_KNOWN {
            known.names.clear();
        }
        known.names.insert(server);
        Ok(self.changes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(system: &str, number: i64) -> Timeline {
        Timeline { system: system.to_owned(), number }
    }

    fn reason<T: std::fmt::Debug>(result: DbResult<T>) -> &'static str {
        let source = result.expect_err("it is refused").source;
        source.downcast_ref::<RefusedServer>().expect("a refusal").reason
    }

    #[test]
    fn an_old_primary_is_refused_and_every_other_one_is_not() {
        let known = Known::default();
        known.add("a".to_owned(), Some(on("1", 3))).unwrap();
        known.add("a again".to_owned(), Some(on("1", 3))).unwrap();
        assert!(known.contains("a") && known.changes() == 0);
        known.add("b".to_owned(), Some(on("1", 4))).unwrap();
        // The connections and the servers of the old timeline are asked again.
        assert!(known.contains("b") && !known.contains("a") && known.changes() == 1);
        assert_eq!(reason(known.add("a".to_owned(), Some(on("1", 3)))), OLD_PRIMARY);
        assert!(!known.contains("a") && known.contains("b") && known.changes() == 1);
        // Another cluster counts its timelines by itself. A server that reports none is not refused.
        known.add("c".to_owned(), Some(on("2", 1))).unwrap();
        known.add("d".to_owned(), None).unwrap();
        assert_eq!(known.changes(), 2);
        assert_eq!(reason(known.add("a".to_owned(), Some(on("1", 3)))), OLD_PRIMARY);
    }

    #[test]
    fn the_servers_that_are_known_are_bounded() {
        let known = Known::default();
        for n in 0..10 * MAX_KNOWN {
            known.add(n.to_string(), None).unwrap();
            assert!(known.contains(&n.to_string()));
        }
        assert!(known.servers.lock().names.len() <= MAX_KNOWN);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_schema_is_that_of_this_release_and_database_or_newer() {
        let dialect = &crate::postgres::DIALECT;
        let newest = Some(migrate::newest_checksum(dialect.slot).to_owned());
        let schema = |identity: Option<&str>, checksum: Option<String>| (identity.map(str::to_owned), checksum);
        check_schema(dialect, "a", &schema(Some("a"), newest.clone())).unwrap();
        assert_eq!(reason(check_schema(dialect, "a", &schema(Some("b"), newest.clone()))), OTHER_DATABASE);
        assert_eq!(reason(check_schema(dialect, "a", &schema(None, newest))), OTHER_DATABASE);
        assert_eq!(reason(check_schema(dialect, "a", &schema(Some("a"), None))), OTHER_SCHEMA);
        assert_eq!(reason(check_schema(dialect, "a", &schema(Some("a"), Some("edited".to_owned())))), OTHER_SCHEMA);
    }
}
