//! Gives each test an index of its own on a shared search server.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use url::Url;

use crate::security::https;
use crate::{given, required, unique_name};

/// An index of a search server that other tests use too. All that begins with its name is removed when it is dropped.
#[derive(Debug)]
pub struct TestIndex {
    /// The URL of the server.
    pub url: String,
    /// The name of the index, and the beginning of the names of all that the test makes.
    pub name: String,
}

/// Returns a new name on the server of `TEST_ELASTICSEARCH_URL`.
pub fn elasticsearch() -> TestIndex {
    TestIndex { url: required("TEST_ELASTICSEARCH_URL"), name: unique_name() }
}

/// Returns a new name on the server of `TEST_OPENSEARCH_URL`.
pub fn opensearch() -> TestIndex {
    TestIndex { url: required("TEST_OPENSEARCH_URL"), name: unique_name() }
}

impl TestIndex {
    /// Returns the indices of the test.
    pub fn indices(&self) -> Vec<String> {
        let path = format!("/_cat/indices/{}*?h=index&expand_wildcards=all", self.name);
        let (status, body) = http(&self.url, "GET", &path, "").expect("the search server answers");
        assert_eq!(status, 200, "{body}");
        body.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

impl Drop for TestIndex {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for index in self.indices() {
            // A provider that was just dropped may remove it too.
            let _ = http(&self.url, "DELETE", &format!("/{index}"), "");
        }
    }
}

/// Indexes of a Meilisearch server that other tests use too. All that begin with the name are removed when it is
/// dropped.
#[derive(Debug)]
pub struct TestMeilisearch {
    /// The URL of the server, with its key.
    pub url: String,
    /// The beginning of the names of all that the test makes.
    pub name: String,
}

/// Returns a new name on the server of `TEST_MEILISEARCH_URL`. Its key is a password: `http://:<key>@<host>`. There is
/// no package of the server, so it is tested only where somebody has started one: without the variable, the test says
/// that it is skipped.
pub fn meilisearch() -> Option<TestMeilisearch> {
    let Some(url) = given(TEST_MEILISEARCH_URL) else {
        // The test harness does not capture this line.
        let _ =
            writeln!(io::stderr(), "skipped: {TEST_MEILISEARCH_URL} is not set, so Meilisearch itself is not tested");
        return None;
    };
    Some(TestMeilisearch { url, name: unique_name() })
}

const TEST_MEILISEARCH_URL: &str = "TEST_MEILISEARCH_URL";

impl TestMeilisearch {
    /// Returns the indexes of the test.
    pub fn indexes(&self) -> Vec<String> {
        let (status, body) = http(&self.url, "GET", "/indexes?limit=10000", "").expect("the search server answers");
        assert_eq!(status, 200, "{body}");
        let names = body.split("\"uid\":\"").skip(1).filter_map(|rest| rest.split('"').next());
        names.filter(|name| name.starts_with(&self.name)).map(str::to_owned).collect()
    }
}

impl Drop for TestMeilisearch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for index in self.indexes() {
            let _ = http(&self.url, "DELETE", &format!("/indexes/{index}"), "");
        }
    }
}

/// Sends a request directly, so that this crate needs no client, and returns status and body of the response. A
/// password in the URL is sent as a bearer token.
///
/// # Errors
/// Those of the connection, and a response that is not HTTP.
pub fn http(url: &str, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
    let url = Url::parse(url).map_err(io::Error::other)?;
    let host = url.host_str().unwrap_or("127.0.0.1");
    let mut c = TcpStream::connect((host, url.port_or_known_default().unwrap_or(9200)))?;
    c.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    let key = url.password().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    write!(
        c,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n{key}\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    c.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

/// Returns status and body of a whole HTTP response.
///
/// # Errors
/// If it is no HTTP response.
pub fn parse(response: &str) -> io::Result<(u16, String)> {
    let (head, mut rest) = response.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status"))?;
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return Ok((status, rest.to_owned()));
    }
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        body.push_str(more.get(..size).ok_or_else(|| io::Error::other("half a chunk"))?);
        rest = more[size..].trim_start_matches("\r\n");
    }
    Ok((status, body))
}

/// Returns name and version of a search server.
pub(crate) fn version(url: &str, is_plain: bool) -> io::Result<String> {
    let body = if is_plain {
        let (status, body) = http(url, "GET", "/", "")?;
        if status != 200 {
            return Err(io::Error::other(format!("status {status}")));
        }
        body
    } else {
        https(url, "GET", "/", "")?
    };
    let field = |name: &str| {
        let value = body.split_once(&format!("\"{name}\""))?.1.split('"').nth(1)?;
        Some(value.to_owned())
    };
    if body.contains("Meilisearch is running") {
        let (_, body) = http(url, "GET", "/version", "")?;
        let number = body.split_once("\"pkgVersion\":\"").and_then(|(_, rest)| rest.split('"').next());
        return Ok(format!("Meilisearch {}", number.ok_or_else(|| io::Error::other("no version in its answer"))?));
    }
    let number = field("number").ok_or_else(|| io::Error::other("no version in its answer"))?;
    let product = if field("distribution").is_some() { "OpenSearch" } else { "Elasticsearch" };
    Ok(format!("{product} {number}"))
}
