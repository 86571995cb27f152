//! Exchanges with a real server, which are recorded once and then take the place of the server.
//!
//! A recording is a compressed file of lines: first the version of the server, and then for each test of the suite its
//! calls with their answers. If the adapter makes another call than in the recording, or leaves one out, the test
//! fails: record again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::{Request, answer};

/// A call and its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Exchange {
    /// The method and the path, separated by a space.
    call: String,
    /// Compared as JSON, because the order of fields depends on the features of the build.
    body: Value,
    status: u16,
    answer: String,
}

/// All exchanges of the suite.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// The version of the server.
    pub(crate) server: String,
    tests: BTreeMap<String, Vec<Exchange>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    server: String,
}

#[derive(Serialize, Deserialize)]
struct OfTest {
    test: String,
    exchanges: Vec<Exchange>,
}

impl Recording {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/meilisearch/recorded.ndjson.gz")
    }

    pub(crate) fn new(server: String) -> Self {
        Self { server, tests: BTreeMap::new() }
    }

    pub(crate) fn read() -> Self {
        let mut text = String::new();
        GzDecoder::new(fs::File::open(Self::path()).unwrap()).read_to_string(&mut text).unwrap();
        let mut lines = text.lines();
        let head: Head = serde_json::from_str(lines.next().unwrap()).unwrap();
        let tests = lines.map(|line| serde_json::from_str::<OfTest>(line).unwrap());
        Self { server: head.server, tests: tests.map(|of| (of.test, of.exchanges)).collect() }
    }

    pub(crate) fn write(self) {
        let mut file = GzEncoder::new(fs::File::create(Self::path()).unwrap(), Compression::best());
        let mut line = |value: serde_json::Result<String>| writeln!(file, "{}", value.unwrap()).unwrap();
        line(serde_json::to_string(&Head { server: self.server }));
        for (test, exchanges) in self.tests {
            line(serde_json::to_string(&OfTest { test, exchanges }));
        }
        file.finish().unwrap();
    }

    /// Returns the names of the recorded tests.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.tests.keys().map(String::as_str).collect()
    }

    pub(crate) fn add(&mut self, test: &str, tape: &Tape) {
        self.tests.insert(test.to_owned(), tape.0.lock().unwrap().exchanges.clone());
    }

    /// Returns the exchanges of a test, which take the place of the server.
    pub(crate) fn tape(&self, test: &str) -> Tape {
        let exchanges = self.tests.get(test).cloned().unwrap_or_default();
        Tape(Arc::new(Mutex::new(State { exchanges, upstream: None, unexpected: Vec::new() })))
    }
}

#[derive(Debug)]
struct State {
    /// Those that were made while recording, or those that are still to be made.
    exchanges: Vec<Exchange>,
    /// The server, while recording.
    upstream: Option<String>,
    unexpected: Vec<String>,
}

/// The exchanges of one test.
#[derive(Debug, Clone)]
pub(crate) struct Tape(Arc<Mutex<State>>);

impl Tape {
    /// Records the calls of a server.
    pub(crate) fn recording(upstream: String) -> Self {
        Self(Arc::new(Mutex::new(State { exchanges: Vec::new(), upstream: Some(upstream), unexpected: Vec::new() })))
    }

    /// Starts to answer calls, and returns the URL. It ends with the runtime of the test.
    pub(crate) async fn start(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tape = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let tape = tape.clone();
                tokio::spawn(async move { tape.serve(client).await });
            }
        });
        url
    }

    async fn serve(self, mut client: TcpStream) -> Option<()> {
        let request = Request::read(&mut client).await?;
        let (call, body) = (request.made()?.to_owned(), serde_json::from_slice(request.body()).unwrap_or_default());
        let upstream = self.0.lock().unwrap().upstream.clone();
        let (status, text) = match upstream {
            Some(server) => self.record(server, call, body).await,
            None => self.replay(&call, &body),
        };
        answer(client, status, &text).await
    }

    async fn record(&self, server: String, call: String, body: Value) -> (u16, String) {
        loop {
            let sent = if body.is_null() { String::new() } else { body.to_string() };
            let (server, made) = (server.clone(), call.clone());
            let asked = tokio::task::spawn_blocking(move || {
                let (method, path) = made.split_once(' ').unwrap();
                test_servers::http(&server, method, path, &sent).unwrap()
            });
            let (status, answer) = asked.await.unwrap();
            let is_open = answer.contains("\"status\":\"enqueued\"") || answer.contains("\"status\":\"processing\"");
            if call.starts_with("GET /tasks/") && is_open {
                // How often a task is looked at depends on the machine: only its end is recorded.
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            self.0.lock().unwrap().exchanges.push(Exchange { call, body, status, answer: answer.clone() });
            return (status, answer);
        }
    }

    fn replay(&self, call: &str, body: &Value) -> (u16, String) {
        let mut state = self.0.lock().unwrap();
        let is_same = |exchange: &Exchange| exchange.call == call && exchange.body == *body;
        if state.exchanges.first().is_some_and(is_same) {
            let exchange = state.exchanges.remove(0);
            return (exchange.status, exchange.answer);
        }
        let next = state.exchanges.first().map(|exchange| format!("{} {}", exchange.call, exchange.body));
        let unexpected = format!("{call} {body}\n  in place of {}", next.unwrap_or_default());
        state.unexpected.push(unexpected.chars().take(4_000).collect());
        (400, r#"{"code": "not_recorded", "message": "this call is not in the recording"}"#.to_owned())
    }

    /// Panics if a call was made that is not in the recording, or if one was not made.
    pub(crate) fn check(&self) {
        let state = self.0.lock().unwrap();
        assert!(state.unexpected.is_empty(), "calls that are not in the recording: {:#?}", state.unexpected);
        let left: Vec<&str> = state.exchanges.iter().map(|exchange| exchange.call.as_str()).collect();
        assert!(left.is_empty(), "calls that are in the recording and were not made: {left:?}");
    }
}
