// Reading from the API in components.

import { useEffect, useRef, useState, useCallback } from "./html.js";
import { get } from "./api.js";
import { params, route, setParams } from "./router.js";

/**
 * Reads a path and returns `{data, meta, error, busy, reload, set}`. While another path is read, the old data stays, so
 * that the page does not flicker. A path that is null is not read.
 */
export function useRead(path, query) {
  const [state, setState] = useState({ busy: path !== null });
  const key = path === null ? null : JSON.stringify([path, query]);
  const running = useRef(null);
  const load = useCallback(async () => {
    running.current?.abort();
    if (key === null) return;
    const stop = new AbortController();
    running.current = stop;
    setState((old) => ({ ...old, busy: true }));
    try {
      const { data, meta } = await get(path, query, { signal: stop.signal });
      if (!stop.signal.aborted) setState({ data, meta, busy: false, key });
    } catch (error) {
      if (error.name !== "AbortError") setState((old) => ({ ...(old.key === key ? old : {}), error, busy: false, key }));
    }
  }, [key]);
  useEffect(() => {
    load();
    return () => running.current?.abort();
  }, [load]);
  const set = useCallback((change) => setState((old) => ({ ...old, data: typeof change === "function" ? change(old.data) : change })), []);
  return { ...state, isStale: state.key !== key, reload: load, set };
}

/**
 * Reads a list, a page at a time by cursor, and returns what `useRead` does with the links to further pages. The cursor
 * is in the URL, and the pages before are in the history of the browser.
 */
export function useList(path, query, { size = 25 } = {}) {
  const cursor = params().cursor ?? "";
  const read = useRead(path, { ...query, per_page: size, cursor });
  const next = read.meta?.pagination?.next_cursor;
  return {
    ...read,
    rows: read.data ?? [],
    isFirst: cursor === "",
    next: next && (() => setParams({ cursor: next }, { keepCursor: true })),
    back: history.state?.depth > 0 ? () => history.back() : undefined,
    first: cursor === "" ? undefined : () => setParams({}),
  };
}

/** Returns a function that runs another one after no call has come for a while. */
export function useDebounced(run, pause) {
  const latest = useRef(run);
  latest.current = run;
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback((...values) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(...values), pause);
  }, [pause]);
}

/** Returns what a form gives to `call` as `once`: it remembers the idempotency key of a request until it succeeds. */
export const useOnce = () => useRef({}).current;

/** Returns the current place, and renders the component again when it changes. */
export const useRoute = () => route.value;
