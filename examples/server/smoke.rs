//! `server smoke`: checks a running server from outside, as its clients see it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ecom::WithCauses;
use ecom::clock::SystemClock;
use ecom::id::{IdSource as _, UuidV7Source};
use reqwest::header::HeaderName;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::Result;

/// How long the server may take for an answer.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a deleted draft is looked for, and the pause after each look: another process behind the same URL may have
/// it in its cache for a moment.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// The server, and how it is checked.
#[derive(Args)]
pub(super) struct Smoke {
    /// The URL of the server, such as https://shop.example, below which are `/` and `/health`.
    url: Url,
    /// A file with an API key that may write products and delete them for good, for the write.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Write nothing: check the health, a read and a search only.
    #[arg(long)]
    read_only: bool,
}

/// What a check has found: what is good, or what is wrong and what to do about it.
type Found = Result<String, String>;

/// Checks the health, a read, a search, and a write that it undoes. Prints what it finds, and returns false if anything
/// is wrong.
pub(super) async fn run(options: &Smoke) -> Result<bool> {
    let server = Server::new(options)?;
    if !shown("health", &server.health().await) {
        return Ok(false);
    }
    let links = match server.links().await {
        Ok(links) => links,
        Err(wrong) => return Ok(shown("links", &Err(wrong))),
    };
    let mut is_good = true;
    match link(&links, "products") {
        Some(products) => is_good &= shown("read", &server.read(products).await),
        None => {
            say!("skipped read: this server does not have the routes of products");
        }
    }
    match link(&links, "search") {
        Some(search) => is_good &= shown("search", &server.search(search).await),
        None => {
            say!("skipped search: this server does not have the routes of searches");
        }
    }
    match link(&links, "products").filter(|_| !options.read_only) {
        Some(products) => is_good &= shown("write", &server.write(products).await?),
        None => {
            say!("skipped write");
        }
    }
    Ok(is_good)
}

/// Prints what a check has found, and returns true if it is good.
fn shown(check: &str, found: &Found) -> bool {
    match found {
        Ok(good) => {
            say!("ok      {check}: {good}");
        }
        Err(wrong) => {
            say!("FAILED  {check}: {wrong}");
        }
    }
    found.is_ok()
}

/// Returns the path to which a link leads.
fn link<'l>(links: &'l Value, name: &str) -> Option<&'l str> {
    links[name].as_str()
}

/// The server that is checked.
struct Server {
    client: Client,
    /// The URL without a slash at its end.
    base: Url,
    key: Option<String>,
}

/// An answer of the server.
struct Answer {
    status: StatusCode,
    etag: String,
    location: String,
    /// Null if the body is not JSON.
    json: Value,
}

impl Answer {
    /// Says what the status means and what to do about it.
    fn wrong(&self, has_key: bool) -> String {
        let code = self.status.as_u16();
        let error = &self.json["error"];
        let message = error["message"].as_str().unwrap_or("the answer is not one of ecom");
        let request = error["request_id"].as_str().unwrap_or("unknown");
        let advice = match code {
            300..=399 => format!("give the URL to which it redirects: {}", self.location),
            401 if has_key => {
                "the server does not accept the key of --key-file: it may be revoked, or of another shop".to_owned()
            }
            401 => "name a file with an API key: --key-file FILE".to_owned(),
            403 => "use a key that has the permission".to_owned(),
            404 => "check that the URL is that of the server itself, without a path of the API".to_owned(),
            429 => "wait a minute, or raise ECOM_RATE_LIMIT_ADDRESS or ECOM_RATE_LIMIT_PRINCIPAL".to_owned(),
            501 => {
                "the server has no adapter for this: set its URL, such as SEARCH_URL, and restart the server".to_owned()
            }
            500..=599 => format!("look at /health, and at the log of the server for the request {request}"),
            _ => format!("look at the log of the server for the request {request}"),
        };
        format!("{message} (status {code}); {advice}")
    }
}

impl Server {
    fn new(options: &Smoke) -> Result<Self> {
        let base = options.url.clone();
        if !matches!(base.scheme(), "http" | "https") {
            return Err("the URL of the server must begin with http:// or https://".into());
        }
        let key = match &options.key_file {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|e| format!("--key-file {}: {e}", path.display()))?;
                let key = text.trim().to_owned();
                if key.is_empty() || !key.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(
                        format!("--key-file {}: must contain an API key and nothing else", path.display()).into()
                    );
                }
                Some(key)
            }
        };
        // A redirected POST would become a GET, and a proxy is not what is checked.
        let client = Client::builder().timeout(LIMIT).redirect(Policy::none()).no_proxy().build()?;
        Ok(Self { client, base, key })
    }

    /// Returns the URL of a path of the server's root.
    fn at_root(&self, path: &str) -> Result<Url, String> {
        let base = self.base.path().trim_end_matches('/');
        self.url(&format!("{base}{path}"))
    }

    /// Returns the URL of an absolute path.
    fn url(&self, path: &str) -> Result<Url, String> {
        self.base.join(path).map_err(|e| format!("{path} is not a path of a URL: {e}"))
    }

    async fn get(&self, url: Url) -> Result<Answer, String> {
        self.send(Method::GET, url, None, None).await
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Answer, String> {
        let mut request = self.client.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|e| self.unanswered(e))?;
        let status = response.status();
        let text =
            |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (etag, location) = (text(header::ETAG).to_owned(), text(header::LOCATION).to_owned());
        let bytes = response.bytes().await.map_err(|e| self.unanswered(e))?;
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { status, etag, location, json })
    }

    /// Says why there is no answer.
    fn unanswered(&self, error: reqwest::Error) -> String {
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port_or_known_default().unwrap_or_default();
        if error.is_timeout() {
            let limit = LIMIT.as_secs();
            return format!(
                "{host}:{port} has not answered within {limit} s: look at the load and the log of the server"
            );
        }
        let is_connect = error.is_connect();
        // The URL may contain a password.
        let error = error.without_url();
        let error = WithCauses(&error);
        if is_connect {
            format!("cannot connect to {host}:{port}: start the server, or correct the URL ({error})")
        } else {
            format!("the answer of {host}:{port} was cut off: look at the log of the server ({error})")
        }
    }

    /// Returns the answer if it has this status.
    fn expect(&self, answer: Answer, status: StatusCode) -> Result<Answer, String> {
        if answer.status == status { Ok(answer) } else { Err(answer.wrong(self.key.is_some())) }
    }

    async fn health(&self) -> Found {
        let answer = self.get(self.at_root("/health")?).await?;
        let Some(status) = answer.json["status"].as_str() else {
            let code = answer.status.as_u16();
            return Err(format!("the answer to /health is not that of ecom (status {code}): correct the URL"));
        };
        let version = answer.json["version"].as_str().unwrap_or("?");
        let mut down = Vec::new();
        for (name, dependency) in answer.json["dependencies"].as_object().into_iter().flatten() {
            if dependency["status"] != "up" {
                let adapter = dependency["adapter"].as_str().unwrap_or("?");
                let why = dependency["refused"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
                down.push(format!("{name} ({adapter}) is down{why}"));
            }
        }
        if status == "healthy" && answer.status == StatusCode::OK {
            return Ok(format!("ecom {version} and all that it depends on are up"));
        }
        let down = if down.is_empty() { "nothing is reported as down".to_owned() } else { down.join("; ") };
        Err(format!("ecom {version} is {status}: {down}; look at the log of the server, and start what is down"))
    }

    /// Reads the links at the root.
    async fn links(&self) -> Result<Value, String> {
        let answer = self.expect(self.get(self.at_root("/")?).await?, StatusCode::OK)?;
        if answer.json["links"].is_object() {
            Ok(answer.json["links"].clone())
        } else {
            Err("`/` has no links: correct the URL".to_owned())
        }
    }

    async fn read(&self, products: &str) -> Found {
        let url = self.url(&format!("{products}?per_page=1"))?;
        let answer = self.expect(self.get(url).await?, StatusCode::OK)?;
        let total = &answer.json["meta"]["pagination"]["total"];
        if answer.json["data"].is_array() {
            Ok(format!("the list of products answers (total {total})"))
        } else {
            Err("the list of products has no `data`: look at the log of the server".to_owned())
        }
    }

    async fn search(&self, search: &str) -> Found {
        let answer = self.get(self.url(&format!("{search}?q=smoke&per_page=1"))?).await?;
        if answer.status == StatusCode::NOT_IMPLEMENTED {
            return Err("the server has no search engine (SEARCH_URL=none): set SEARCH_URL, and restart it".to_owned());
        }
        let answer = self.expect(answer, StatusCode::OK)?;
        let took = &answer.json["meta"]["search"]["took_ms"];
        Ok(format!("the search engine answers ({took} ms)"))
    }

    /// Creates a product that shoppers do not see, and reads it. Deletes it for good, also after a failure or a signal.
    async fn write(&self, products: &str) -> Result<Found> {
        let mut stopped = super::signals::stop_signal()?;
        let slug = format!("smoke-test-{}", UuidV7Source::new(Arc::new(SystemClock)).next());
        let mut may_exist = false;
        let written = tokio::select! {
            written = self.create(products, &slug, &mut may_exist) => written,
            _ = stopped.changed() => Err("stopped by a signal".to_owned()),
        };
        let undone = if may_exist { self.undo(products, &slug).await } else { Ok(true) };
        Ok(match (written, undone) {
            (Ok(()), Ok(true)) => Ok("a draft was created, read and deleted".to_owned()),
            (Ok(()), Ok(false)) => Err(format!("the draft `{slug}` has an id and is not found by its slug: delete it")),
            (Err(wrong), Ok(true)) => Err(wrong),
            // The server may still be at work on a request that it has not answered.
            (Err(wrong), Ok(false)) => Err(format!("{wrong}; if the draft `{slug}` appears later, delete it")),
            (Ok(()), Err(left)) => Err(left),
            (Err(wrong), Err(left)) => Err(format!("{wrong}; {left}")),
        })
    }

    /// Creates and reads a draft. Sets `may_exist` before it sends the request, and clears it if the server has refused
    /// the request.
    async fn create(&self, products: &str, slug: &str, may_exist: &mut bool) -> Result<(), String> {
        let body = json!({"title": "Smoke test", "slug": slug, "status": "draft", "price": "1"});
        let url = self.url(products)?;
        *may_exist = true;
        let answer = self.send(Method::POST, url, Some(&body), None).await?;
        *may_exist = !answer.status.is_client_error() && !answer.status.is_redirection();
        let made = self.expect(answer, StatusCode::CREATED)?;
        let read = self.expect(self.get(self.url(&made.location)?).await?, StatusCode::OK)?;
        let (read, made) = (&read.json["data"], &made.json["data"]);
        if read["id"] == made["id"] && read["slug"] == slug && read["status"] == "draft" {
            Ok(())
        } else {
            Err("the draft that was read is not the one that was created: look for servers with different databases \
                 behind the URL"
                .to_owned())
        }
    }

    /// Deletes the draft with this slug for good. Returns false if it does not exist.
    async fn undo(&self, products: &str, slug: &str) -> Result<bool, String> {
        let by_slug = format!("{products}/{slug}");
        let left = |why: String| format!("the draft `{slug}` may be left, delete it: {why}");
        let found = self.get(self.url(&by_slug)?).await.map_err(left)?;
        if found.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let found = self.expect(found, StatusCode::OK).map_err(left)?;
        let id = found.json["data"]["id"].as_str().unwrap_or_default();
        let delete = async |query: &str| {
            let url = self.url(&format!("{products}/{id}{query}"))?;
            self.send(Method::DELETE, url, None, Some(&found.etag)).await
        };
        let mut deleted = delete("?force=true").await.map_err(left)?;
        let only_softly = deleted.status == StatusCode::FORBIDDEN;
        if only_softly {
            deleted = delete("").await.map_err(left)?;
        }
        self.expect(deleted, StatusCode::NO_CONTENT).map_err(left)?;
        if only_softly {
            return Err(format!(
                "the draft `{slug}` is deleted, but its row is left: use a key with the permission `force:delete`"
            ));
        }
        let mut status = StatusCode::OK;
        for _ in 0..LOOKS {
            status = self.get(self.url(&by_slug)?).await.map_err(left)?.status;
            if status == StatusCode::NOT_FOUND {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(left(format!("it can still be read after its deletion (status {})", status.as_u16())))
    }
}
