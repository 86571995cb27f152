// Calls of the API. The page uses the same routes as everybody else, and the API checks every call; the page only does
// not offer what the API would refuse.

import { signal } from "./html.js";
import { base, root } from "./root.js";

/** The shop: its `currency`, the `version` of the server, and the `links` of its API. */
export const shop = signal(null);

/** Reads the links of the API, which also tell its path. */
export async function connect() {
  const response = await reached(root);
  if (!response.ok) throw new ApiError(response.status, await body(response));
  const { data, links } = await response.json();
  shop.value = { ...data, links, api: links.products.replace(/\/products$/, "") };
}

/** An error of the API. */
export class ApiError extends Error {
  constructor(status, answer, retryAfter) {
    const error = answer?.error ?? {};
    super(error.message ?? (status ? `The server answered with the status ${status}.` : "The server does not answer."));
    this.status = status;
    this.code = error.code ?? "UNREACHABLE";
    this.details = error.details ?? [];
    this.requestId = error.request_id;
    this.retryAfter = retryAfter;
  }

  /** Returns the message of a field, or undefined. */
  of(field) {
    return this.#message((name) => name === field);
  }

  /** Returns the message of a field or of one of its parts, or undefined. */
  within(field) {
    return this.#message((name) => name === field || name.startsWith(`${field}.`) || name.startsWith(`${field}[`));
  }

  #message(is) {
    const detail = this.details.find(({ field }) => field && is(field));
    // The detail of a conflict has no message of its own.
    return detail && (detail.message ?? this.message);
  }

  /** Whether the write may have been done all the same, because no answer tells. */
  get isUnknown() {
    return this.status === 0 || this.status >= 500;
  }

  /** Whether somebody else has changed the row since it was read. */
  get isConflict() {
    return this.code === "VERSION_CONFLICT";
  }
}

async function body(response) {
  if (response.status === 204 || response.status === 304) return null;
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Returns what a request gets, or fails with an error that says that no answer came. */
const reached = (request) =>
  request.catch((error) => {
    throw error.name === "AbortError" ? error : new ApiError(0);
  });

/** What authenticates the calls; `session.js` sets it. */
export const credentials = {
  /** Returns the value of `Authorization`, or null. */
  header: async () => null,
  /** Tries to get another credential after a refusal; returns whether there is one. */
  renew: async () => false,
};

/** Returns the URL of a path of the API. Parameters without a value are left out, and a list repeats its parameter. */
export function url(path, query = {}) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") q.append(name, one);
    }
  }
  // An empty cursor is the first page of a list that pages by cursor.
  if (query.cursor === "") q.append("cursor", "");
  const text = q.toString();
  const at = path.startsWith("/health") ? base : shop.value.api;
  return `${at}${path}${text ? `?${text}` : ""}`;
}

/** For how many seconds a call waits by itself if the server asks for it; a longer time is shown with the error. */
const LONGEST_WAIT = 5;

/** Returns a random key for a request that may be sent twice. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

/**
 * Returns the key of a request. A request that is sent again after a failure has the key of the one before, because that
 * one may have been done; any other request has a new key.
 */
function keyOf(once, request) {
  if (once.request !== request) Object.assign(once, { request, key: newKey() });
  return once.key;
}

/**
 * The rows that this page has written, by path. `last` ends with the last write that was begun, and `became` has the
 * version that a write of this page has made of another version.
 */
const rows = new Map();
const rowAt = (path) => {
  if (!rows.has(path)) rows.set(path, { last: Promise.resolve(), became: new Map() });
  return rows.get(path);
};

/** Returns the path of the row to which a path belongs, such as `/orders/…` for `/orders/…/start`. */
const rowOf = (path) => path.split("/", 3).join("/");

/** Returns the version that the writes of this page have made of a version of a row. */
export function currentVersion(path, version) {
  const { became } = rowAt(path);
  let current = version;
  while (became.has(current)) current = became.get(current);
  return current;
}

/**
 * For how many milliseconds a write of a row waits for its answer, because the writes after it wait as well. A server
 * takes at most half a minute unless it is configured otherwise, but a file may take long to get there.
 */
const LONGEST_WRITE = 60_000;
const LONGEST_UPLOAD = 300_000;

const SILENT = "The server has not answered in time, and may have saved this all the same. Try again, or load the page again to see what was saved.";

/** Returns the result of `send(signal)`. After `limit` milliseconds without one, it fails and aborts the signal. */
async function inTime(limit, send) {
  const stop = new AbortController();
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => {
      failed(new ApiError(0, { error: { message: SILENT } }));
      stop.abort();
    }, limit);
  });
  try {
    return await Promise.race([send(stop.signal), late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Begins a write of a row that the page shows with `version`, after the writes of this page that are under way. `send`
 * gets the version that they have made of it, and a signal that is aborted after `limit` milliseconds, and returns
 * `{data}` with the row after the write.
 *
 * So a button that is pressed just after another edit, before the page shows what that edit has done, is not refused as
 * if somebody else had changed the row. If somebody else has changed it, `send` gets a version that the API refuses. A
 * write that gets no answer fails after the limit, so that it does not stop those after it.
 */
export function write(path, version, send, limit = LONGEST_WRITE) {
  const row = rowAt(path);
  const done = row.last.then(async () => {
    const before = currentVersion(path, version);
    const answer = await inTime(limit, (signal) => send(before, signal));
    const after = answer?.data?.version;
    if (after > before) row.became.set(before, after);
    return answer;
  });
  row.last = done.catch(() => {});
  return done;
}

/** Returns a promise that ends with the writes of a row that are under way. */
export const written = (path) => rowAt(path).last;

/**
 * Calls the API and returns `{data, meta, links, headers}`.
 *
 * `version` is sent as `If-Match`, as `write` describes. `once` is for a POST that must not happen twice: it gets an
 * idempotency key and is sent again if the connection breaks. `once` is an object that the form keeps (`useOnce`), and
 * which remembers the key until the request succeeds, so that somebody who presses the button again repeats the same
 * request. Requests whose responses have a secret (users, API keys, webhooks) take no key.
 */
export function call(method, path, options = {}) {
  if (options.version === undefined) return send(method, path, options);
  const limit = options.text instanceof Blob ? LONGEST_UPLOAD : LONGEST_WRITE;
  return write(rowOf(path), options.version, (version, signal) => send(method, path, { ...options, version, signal }), limit);
}

async function send(method, path, { query, json, text, type, version, once, signal: stop }) {
  const headers = { accept: "application/json" };
  let content = text;
  if (json !== undefined) {
    content = JSON.stringify(json);
    headers["content-type"] = "application/json";
  } else if (type) headers["content-type"] = type;
  if (version !== undefined) headers["if-match"] = `"${version}"`;
  if (once) headers["idempotency-key"] = keyOf(once, JSON.stringify([method, path, query, content]));
  for (let attempt = 0; ; attempt++) {
    const authorization = await credentials.header();
    if (authorization) headers.authorization = authorization;
    else delete headers.authorization;
    let response;
    let answer;
    try {
      response = await reached(fetch(url(path, query), { method, headers, body: content, signal: stop }));
      // The connection can also break while the body arrives.
      answer = await reached(body(response));
    } catch (error) {
      if (error.name !== "AbortError" && attempt < 2 && (method === "GET" || once)) {
        await new Promise((done) => setTimeout(done, 300 * 2 ** attempt));
        continue;
      }
      throw error;
    }
    if (response.ok && once) once.request = undefined;
    // The report of health is the only answer without an envelope.
    if (response.ok) return { ...(answer && !("data" in answer) ? { data: answer } : answer), headers: response.headers };
    if (response.status === 401 && attempt === 0 && (await credentials.renew())) continue;
    const wait = Number(response.headers.get("retry-after")) || 0;
    if (response.status === 503 && attempt < 2 && wait <= LONGEST_WAIT && (method === "GET" || once)) {
      await new Promise((done) => setTimeout(done, (wait || 1) * 1000));
      continue;
    }
    throw new ApiError(response.status, answer, wait || undefined);
  }
}

export const get = (path, query, options) => call("GET", path, { query, ...options });
export const post = (path, json, options) => call("POST", path, { json, ...options });
export const patch = (path, json, version) => call("PATCH", path, { json, version });
export const put = (path, json, version) => call("PUT", path, { json, version });
export const remove = (path, version) => call("DELETE", path, { version });

/** Returns the text at one of the links of the API. */
export async function readText(link) {
  const authorization = await credentials.header();
  const response = await reached(fetch(link, { headers: authorization ? { authorization } : {} }));
  if (!response.ok) throw new ApiError(response.status, null);
  return reached(response.text());
}

/** Saves the response of a path as a file. */
export async function download(path, name, query) {
  const authorization = await credentials.header();
  const response = await reached(fetch(url(path, query), { headers: authorization ? { authorization } : {} }));
  if (!response.ok) throw new ApiError(response.status, await body(response));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await reached(response.blob()));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Sends a file to an import, and calls `onSent(share)` while it goes. Returns the result of the import.
 *
 * `fetch` does not tell how much of a body was sent, so this is an `XMLHttpRequest`.
 */
export async function upload(path, file, { query, type, onSent }) {
  const authorization = await credentials.header();
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", url(path, query));
    request.setRequestHeader("content-type", type);
    if (authorization) request.setRequestHeader("authorization", authorization);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onload = () => {
      const { status, response } = request;
      const wait = Number(request.getResponseHeader("retry-after")) || undefined;
      // A proxy can answer with something else than the API does.
      if (status < 300 && response?.data) done(response.data);
      else failed(new ApiError(status, response, wait));
    };
    request.onerror = () => failed(new ApiError(0));
    request.send(file);
  });
}
