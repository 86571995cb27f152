//! The admin page: the files of the folder `admin` of this crate. `index.html` loads the others from a folder that is
//! named after a hash of all of them, so that browsers need not ask whether they have changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;

use super::docs::moved;
use crate::app::App;
use crate::error::ApiError;
use crate::etag::is_known;
use crate::extract::RequestTarget;
use crate::headers::{FOR_EVER, not_modified, public};

/// The page loads and runs its own files only. Images of products may be on other hosts.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' http: https:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page.
struct File {
    /// The path below `/admin/`.
    path: &'static str,
    /// The content type.
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! files {
    ($($path:literal: $kind:expr,)*) => {
        &[$(File { path: $path, kind: $kind, content: include_bytes!(concat!("../../admin/", $path)) }),*]
    };
}

/// All files of the page, by path.
const FILES: &[File] = files! {
    "admin.css": CSS,
    "app.js": JS,
    "icon.svg": SVG,
    "index.html": HTML,
    "lib/api.js": JS,
    "lib/chart.js": JS,
    "lib/data.js": JS,
    "lib/form.js": JS,
    "lib/format.js": JS,
    "lib/html.js": JS,
    "lib/live.js": JS,
    "lib/merge.js": JS,
    "lib/root.js": JS,
    "lib/router.js": JS,
    "lib/session.js": JS,
    "lib/theme.js": JS,
    "lib/ui.js": JS,
    "pages/account.js": JS,
    "pages/audit.js": JS,
    "pages/catalog.js": JS,
    "pages/categories.js": JS,
    "pages/customers.js": JS,
    "pages/imports.js": JS,
    "pages/jobs.js": JS,
    "pages/login.js": JS,
    "pages/missing.js": JS,
    "pages/orders.js": JS,
    "pages/overview.js": JS,
    "pages/product.js": JS,
    "pages/search.js": JS,
    "pages/team.js": JS,
    "pages/webhooks.js": JS,
    "vendor/hooks.js": JS,
    "vendor/htm.js": JS,
    "vendor/preact.js": JS,
    "vendor/signals-core.js": JS,
    "vendor/signals.js": JS,
    "vendor/uplot.css": CSS,
    "vendor/uplot.js": JS,
};

/// The beginning of the name of the folder that is named after a hash.
const FOLDER: &str = "v-";

/// The page, which the first request for one of its files prepares.
static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

/// The files of the page, ready to be sent.
struct Page {
    /// The files by path.
    files: HashMap<&'static str, Ready>,
    /// The folder from which `index.html` loads the other files.
    folder: String,
}

impl Page {
    fn new() -> Self {
        let folder = format!("{FOLDER}{:016x}", hash(FILES.iter().map(|file| (file.path, file.content))));
        let files = FILES.iter().map(|file| (file.path, ready(file, &folder))).collect();
        Self { files, folder }
    }
}

/// A file that is ready to be sent.
struct Ready {
    kind: HeaderValue,
    content: Bytes,
    etag: HeaderValue,
}

/// Returns true if a path leads to a file of the page. `path` is that of the request below the path at which the router
/// is nested.
pub(crate) fn is_file(path: &str) -> bool {
    path.strip_prefix("/admin/").is_some_and(|below| {
        let (_, name) = split(below);
        below.is_empty() || FILES.iter().any(|file| file.path == name)
    })
}

/// Splits a path below `/admin/` into the folder that is named after a hash, if there is one, and the path of the file.
fn split(path: &str) -> (Option<&str>, &str) {
    match path.split_once('/') {
        Some((folder, name)) if folder.starts_with(FOLDER) => (Some(folder), name),
        _ => (None, path),
    }
}

/// Returns the routes of the page.
pub(crate) fn pages() -> Router<Arc<App>> {
    Router::new()
        .route("/admin", get(|here: RequestTarget| async move { moved(&format!("{}/admin/", here.base())) }))
        .route("/admin/", get(|headers: HeaderMap| async move { respond("index.html", &headers) }))
        .route(
            "/admin/{*file}",
            get(|Path(path): Path<String>, headers: HeaderMap| async move { respond(&path, &headers) }),
        )
}

/// Returns a hash. The keys of this hasher are fixed, so that all processes with the same files have the same tags.
fn hash<T: std::hash::Hash>(parts: impl Iterator<Item = T>) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.for_each(|part| part.hash(&mut hasher));
    hasher.finish()
}

/// Prepares a file. Its links to other files of the page lead to those in `folder`.
fn ready(file: &File, folder: &str) -> Ready {
    let content = match std::str::from_utf8(file.content) {
        Ok(text) if file.kind == HTML => Bytes::from(
            text.replace("href=\"", &format!("href=\"{folder}/")).replace("src=\"", &format!("src=\"{folder}/")),
        ),
        _ => Bytes::from_static(file.content),
    };
    let etag = HeaderValue::from_str(&format!("\"{:016x}\"", hash(std::iter::once(&content))));
    Ready {
        kind: HeaderValue::from_static(file.kind),
        content,
        etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"0\"")),
    }
}

fn respond(path: &str, headers: &HeaderMap) -> Response {
    let (folder, name) = split(path);
    let Some(file) = PAGE.files.get(name) else { return ApiError::of_status(StatusCode::NOT_FOUND).into_response() };
    let mut response = if is_known(headers.get(IF_NONE_MATCH), &file.etag) {
        not_modified(&file.etag, None)
    } else {
        let response = ([(CONTENT_TYPE, file.kind.clone())], file.content.clone()).into_response();
        public(response, Some(file.etag.clone()), None)
    };
    // Also with a 304, whose headers replace those that the browser has stored.
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    // The folder of another release can lead here while a cluster is upgraded. Its files must not be kept.
    if folder == Some(PAGE.folder.as_str()) {
        response.headers_mut().insert(CACHE_CONTROL, FOR_EVER);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Adds the paths of the files of a folder that browsers load.
    fn add(folder: &Path, name: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{name}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                add(&entry.path(), &format!("{path}/"), found);
            } else if [".html", ".css", ".js", ".svg"].iter().any(|end| path.ends_with(end)) {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let mut found = BTreeSet::new();
        add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("admin"), "", &mut found);
        let listed: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(listed, found);
        assert!(FILES.is_sorted_by_key(|file| file.path));
    }

    #[test]
    fn a_path_of_the_api_is_no_file() {
        let files = ["/admin/", "/admin/admin.css", "/admin/v-0/admin.css", "/admin/v-0/lib/ui.js"];
        let others = ["/admin", "/admin/jobs", "/admin/v-0", "/admin/v-0/", "/admin/v-0/jobs"];
        for (path, is) in files.map(|path| (path, true)).into_iter().chain(others.map(|path| (path, false))) {
            assert_eq!(is_file(path), is, "{path}");
        }
    }
}
