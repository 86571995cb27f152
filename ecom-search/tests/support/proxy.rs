//! A proxy in front of a search server that answers some of its calls by itself.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a call.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The server does not see the call, and the caller gets this status and body.
    Answer(u16, &'static str),
    /// The server does not see the call, and the caller gets no answer.
    Hang,
    /// The server sees the call after a second.
    Delay,
    /// The server carries the call out, and the connection ends before its answer.
    LoseAnswer,
    /// The server carries the call out, and its answer is changed.
    Edit(fn(String) -> String),
}

struct Rule {
    /// The method, a space, and a part of the path.
    call: &'static str,
    times: u32,
    fault: Fault,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// Method and path of every call.
    calls: Vec<String>,
}

/// The proxy. It ends with the runtime of the test.
pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server.clone(), shared.clone()));
            }
        });
        Self { url, state }
    }

    /// The next calls of this kind fail, this many times. `call` is a method, a space, and a part of the path.
    pub(crate) fn fail(&self, call: &'static str, times: u32, fault: Fault) {
        self.state.lock().unwrap().rules.push(Rule { call, times, fault });
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    /// Returns the number of calls of this kind so far.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|made| is(made, call)).count()
    }
}

fn is(made: &str, call: &str) -> bool {
    let (method, part) = call.split_once(' ').unwrap();
    made.split_once(' ').is_some_and(|(m, path)| m == method && path.contains(part))
}

/// A call as it comes over a connection.
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// The length of the first line and the headers.
    head: usize,
    /// The first line.
    line: String,
}

impl Request {
    pub(crate) async fn read(client: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let head = loop {
            if client.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
            if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        while bytes.len() < head + length.unwrap_or(0) {
            client.read_buf(&mut bytes).await.ok()?;
        }
        let line = String::from_utf8_lossy(&bytes[..head]).lines().next()?.to_owned();
        Some(Self { bytes, head, line })
    }

    /// Returns method and path, separated by a space.
    pub(crate) fn made(&self) -> Option<&str> {
        Some(self.line.rsplit_once(' ')?.0)
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.head..]
    }
}

/// Answers one call. The client opens another connection for the next one.
async fn serve(mut client: TcpStream, server: String, state: Arc<Mutex<State>>) -> Option<()> {
    let request = Request::read(&mut client).await?;
    let made = request.made()?.to_owned();
    let fault = {
        let mut state = state.lock().unwrap();
        state.calls.push(made.clone());
        let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && is(&made, rule.call));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        })
    };
    if let Some(Fault::Answer(status, body)) = fault {
        return answer(client, status, body).await;
    }
    if let Some(Fault::Hang) = fault {
        tokio::time::sleep(Duration::from_secs(600)).await;
        return None;
    }
    if let Some(Fault::Delay) = fault {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut upstream = TcpStream::connect(&server).await.ok()?;
    let first = request.line.len() + 2;
    upstream.write_all(&request.bytes[..first]).await.ok()?;
    upstream.write_all(b"connection: close\r\n").await.ok()?;
    // Without compression, so that an answer can be edited.
    let rest = String::from_utf8_lossy(&request.bytes[first..request.head]).into_owned();
    let kept: Vec<&str> = rest.split("\r\n").filter(|l| !l.to_lowercase().starts_with("accept-encoding")).collect();
    upstream.write_all(kept.join("\r\n").as_bytes()).await.ok()?;
    upstream.write_all(request.body()).await.ok()?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response).await.ok()?;
    match fault {
        Some(Fault::LoseAnswer) => None,
        Some(Fault::Edit(edit)) => {
            let (status, body) = test_servers::parse(&String::from_utf8_lossy(&response)).unwrap();
            answer(client, status, &edit(body)).await
        }
        _ => client.write_all(&response).await.ok(),
    }
}

pub(crate) async fn answer(mut client: TcpStream, status: u16, body: &str) -> Option<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.ok()?;
    client.write_all(body.as_bytes()).await.ok()
}
