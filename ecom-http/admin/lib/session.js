// Who uses the page.
//
// If the server keeps refresh tokens in a cookie (ECOM_REFRESH_COOKIE), no script can read them, and the page only keeps
// the access token, in memory. Otherwise, and for API keys, the credential is in the storage of this tab, which ends
// with the tab. It is never in `localStorage`.

import { signal, computed } from "./html.js";
import { actor } from "./format.js";
import { ApiError, call, credentials, get, shop } from "./api.js";

const KEY = "ecom-admin.session";
/** Notes that the last login of this browser got a cookie, so that a new tab may try to use it. It is no secret. */
const COOKIE = "ecom-admin.cookie";
/** The edits of this tab that are not saved, by page, and whose they are. */
const DRAFT = "ecom-admin.draft.";
const DRAFTS_OF = "ecom-admin.drafts-of";

/** The current session: null, or `{kind, access, accessUntil, refresh, key}`. */
let session = null;
/** The difference of the server's clock, in milliseconds. */
let skew = 0;

/** The caller: `{actor, anonymous, permissions, user}`; null before the login. */
export const me = signal(null);
const granted = computed(() => new Set(me.value?.permissions ?? []));

/** Returns whether the caller has all of these permissions. */
export const may = (...permissions) => permissions.every((permission) => granted.value.has(permission));

/** Returns who an actor is: "you" for the caller. */
export const who = (text) => (text === me.value?.actor ? "you" : actor(text));

const read = () => {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
};

function keep(next) {
  session = next;
  if (!next || next.kind === "cookie") sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, JSON.stringify(next));
}

// A tab that was duplicated has the same refresh token, which can be used only once. So a tab tells the others.
const tabs = new BroadcastChannel("ecom-admin.session");
const family = (refresh) => refresh?.slice(0, 20);
tabs.onmessage = ({ data }) => {
  if (data.kind === "renewed" && session?.refresh && family(session.refresh) === data.family) keep(data.session);
  if (data.kind === "ended" && session && (session.kind === "cookie" || family(session.refresh) === data.family)) {
    dropDrafts();
    ended();
  }
};

function dropDrafts() {
  Object.keys(sessionStorage).filter((key) => key.startsWith(DRAFT)).forEach((key) => sessionStorage.removeItem(key));
}

/** After a session has expired, its user finds its edits again. They are not for anybody else who logs in. */
function claimDrafts(actor) {
  if (sessionStorage.getItem(DRAFTS_OF) !== actor) dropDrafts();
  sessionStorage.setItem(DRAFTS_OF, actor);
}

function ended() {
  keep(null);
  me.value = null;
}

function take(tokens, headers) {
  const date = Date.parse(headers.get("date") ?? "");
  if (date) skew = date - Date.now();
  const next = {
    kind: tokens.refresh_token ? "token" : "cookie",
    access: tokens.access_token,
    accessUntil: Date.parse(tokens.access_expires_at),
    refresh: tokens.refresh_token,
  };
  if (next.kind === "cookie") localStorage.setItem(COOKIE, "1");
  keep(next);
  if (next.refresh) tabs.postMessage({ kind: "renewed", family: family(next.refresh), session: next });
}

/** Sends a request of a login. The header is required if the refresh token is a cookie. */
async function auth(path, json) {
  const response = await fetch(`${shop.value.api}/auth/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-requested-with": "ecom-admin" },
    body: JSON.stringify(json),
  }).catch(() => {
    throw new ApiError(0);
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, answer, Number(response.headers.get("retry-after")) || undefined);
  return { data: answer?.data, headers: response.headers };
}

const locked = (work) => (navigator.locks ? navigator.locks.request("ecom-admin.refresh", work) : work());

/** Exchanges the refresh token. Returns whether there is an access token that differs from `old`. */
const refresh = (old) =>
  locked(async () => {
    // Another call or tab may have done it in the meantime.
    if (session?.access && session.access !== old) return true;
    // Another call has learned that the session is over.
    if (old && !session) return false;
    try {
      const { data, headers } = await auth("refresh", session?.refresh ? { refresh_token: session.refresh } : {});
      take(data, headers);
      return true;
    } catch (error) {
      if (error.status !== 401 && error.status !== 422 && error.status !== 403) throw error;
      localStorage.removeItem(COOKIE);
      ended();
      return false;
    }
  });

credentials.header = async () => {
  if (!session) return null;
  if (session.kind === "key") return `Bearer ${session.key}`;
  // Half a minute early, so that the token does not expire on its way.
  if (session.accessUntil - skew - Date.now() < 30_000 && !(await refresh(session.access))) return null;
  return `Bearer ${session.access}`;
};

credentials.renew = async () => {
  if (!session || session.kind === "key") {
    if (session) ended();
    return false;
  }
  return refresh(session.access);
};

/** Reads who the caller is and what it may do. */
async function identify() {
  // Before both requests, so that neither is sent with a token that has expired.
  await credentials.header();
  const isUser = session && session.kind !== "key";
  const [{ data: caller }, { data: user }] = await Promise.all([get("/permissions"), isUser ? get("/auth/me") : { data: null }]);
  if (caller.anonymous && caller.permissions.length === 0) return false;
  claimDrafts(caller.actor);
  me.value = { ...caller, user, kind: session?.kind ?? "open" };
  return true;
}

/** Continues the session of this tab, if there is one. Returns whether somebody is logged in. */
export async function resume() {
  session = read();
  if (!session && localStorage.getItem(COOKIE) && !(await refresh(null))) return false;
  try {
    return await identify();
  } catch (error) {
    if (error.status !== 401) throw error;
    // The session was ended elsewhere, although its access token has not expired.
    if (session) ended();
    return false;
  }
}

/** Logs in by email address and password. */
export async function login(email, password) {
  const { data, headers } = await auth("login", { email, password });
  take(data, headers);
  await identify();
}

/** Uses an API key, until this tab is closed. */
export async function useKey(key) {
  keep({ kind: "key", key });
  try {
    await identify();
  } catch (error) {
    keep(null);
    throw error;
  }
}

export async function logout() {
  const { kind, refresh: token } = session ?? {};
  try {
    if (kind === "token") await auth("logout", { refresh_token: token });
    if (kind === "cookie") await auth("logout", {});
  } finally {
    localStorage.removeItem(COOKIE);
    dropDrafts();
    tabs.postMessage({ kind: "ended", family: family(token) });
    ended();
  }
}

/** Changes the password of the user. */
export const changePassword = (old_password, password) => call("POST", "/auth/password", { json: { old_password, password } });
