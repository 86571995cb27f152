// The URL is the state of the page: `#/orders?status=pending` is the page of orders with that filter, so that a reload,
// the history of the browser and a link that somebody sends all lead to the same view. The page uses the part behind
// `#`, because then it works at any path at which the application serves it.

import { signal } from "./html.js";

function read() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { text: location.hash.slice(1), path: path || "/", query: new URLSearchParams(query) };
}

/** The current place: `path`, such as `/orders`, `query`, and both as `text`. */
export const route = signal(read());

addEventListener("hashchange", () => (route.value = read()));
addEventListener("popstate", () => (route.value = read()));

/** Returns the link to a place. Parameters without a value are left out. */
export function href(path, query = {}) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") q.append(name, one);
    }
  }
  const text = q.toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

/** Goes to a place. With `replace`, the current one is left out of the history. */
export function go(path, query = {}, { replace = false, depth = 0 } = {}) {
  history[replace ? "replaceState" : "pushState"]({ depth }, "", href(path, query));
  route.value = read();
}

/** Returns the parameters of the current place, as an object. */
export function params() {
  const all = {};
  for (const name of new Set(route.value.query.keys())) {
    const values = route.value.query.getAll(name);
    all[name] = values.length > 1 ? values : values[0];
  }
  return all;
}

/** The parameters of a page that filter no list. */
const OTHERS = ["sort", "cursor", "page", "tab", "days", "open"];

/** Returns the names of the parameters of the current place that filter its list. */
export const filters = () => [...new Set(route.value.query.keys())].filter((name) => !OTHERS.includes(name));

/** Changes some parameters of the current place. A list that they change starts at its first page. */
export function setParams(changes, { replace = false, keepCursor = false } = {}) {
  const next = { ...params(), ...changes };
  if (!keepCursor) {
    delete next.cursor;
    delete next.page;
  }
  // How many pages of a list lie behind this one in the history.
  const depth = keepCursor ? (history.state?.depth ?? 0) + 1 : 0;
  go(route.value.path, next, { replace, depth });
}
