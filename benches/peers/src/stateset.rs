//! The program of the folder `stateset`, which measures `stateset-embedded`. A program can link only one SQLite, and
//! this library needs an older one than the shop. `stateset/src/main.rs` describes the requests and the answers.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::placing::Prices;

/// The program while it runs. It does nothing between two requests.
pub struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the program and lets it create a shop on a new file, which sells as many SKUs as ours at the same prices.
    pub fn start(program: &OsStr, path: &Path, prices: &Prices) -> Self {
        let mut child = Command::new(program)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", program.display()));
        let requests = child.stdin.take().expect("its input");
        let answers = BufReader::new(child.stdout.take().expect("its output"));
        let mut peer = Self { child, requests, answers };
        let prices: Vec<String> = prices.iter().map(|(_, price)| price.to_string()).collect();
        let (skus, time) = peer.request(&prices.join(" "));
        assert_eq!(skus, prices.len() as u64, "SKUs");
        println!("  ({skus} SKUs made by stateset-embedded in {time:.1?})");
        peer
    }

    /// Places orders for some seconds. Returns how many, and the time that it took.
    pub fn place(&mut self) -> (u64, Duration) {
        self.request("orders")
    }

    /// Reads products by id with their SKUs, `each` on every thread. Returns how many, and the time that it took.
    pub fn read(&mut self, threads: usize, each: usize) -> (u64, Duration) {
        self.request(&format!("reads {threads} {each}"))
    }

    /// Ends the program, which checks that all orders are there.
    pub fn close(mut self) {
        drop(self.requests);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "stateset-embedded: {status}");
    }

    /// Sends a request and waits for the answer. It blocks the main thread, on which no task of the shop runs.
    fn request(&mut self, request: &str) -> (u64, Duration) {
        writeln!(self.requests, "{request}").expect("it reads the request");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        let (count, seconds) = answer.trim().split_once(' ').expect("it answers with two numbers");
        (count.parse().expect("a count"), Duration::from_secs_f64(seconds.parse().expect("seconds")))
    }
}
