// Reading from the API in components.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { get } from "./api.js";
import { params, route, setParams } from "./router.js";

/**
 * Reads a path and returns `{data, meta, error, busy, isStale, reload, set}`. While another path is read, the old data
 * stays, so that the page does not flicker: they are stale, and `busy` is true. A path that is null is not read. `reload`
 * returns a promise of the new data, or of undefined if they could not be read.
 */
export function useRead(path, query) {
  const [state, setState] = useState({});
  const key = path === null ? null : JSON.stringify([path, query]);
  const running = useRef(null);
  const load = useCallback(() => {
    if (key === null) return undefined;
    const before = running.current;
    // A reload waits for the request before it: with a steady stream of events, each would end the one before, and none
    // would be shown.
    if (before?.key === key && !before.stop.signal.aborted) return (before.next ??= before.done.then(() => (before.stop.signal.aborted ? undefined : read())));
    before?.stop.abort();
    return read();

    function read() {
      const now = { key, stop: new AbortController() };
      running.current = now;
      now.done = send(now.stop.signal).finally(() => {
        if (running.current === now && !now.next) running.current = null;
      });
      return now.done;
    }

    async function send(signal) {
      try {
        const { data, meta } = await get(path, query, { signal });
        if (!signal.aborted) setState({ data, meta, key });
        return data;
      } catch (error) {
        if (error.name !== "AbortError") setState((old) => ({ ...(old.key === key ? old : {}), error, key }));
        return undefined;
      }
    }
  }, [key]);
  // An effect that waits for the next frame would send the request of each key of a search a frame later.
  useLayoutEffect(() => {
    load();
    return () => running.current?.stop.abort();
  }, [load]);
  const set = useCallback((change) => setState((old) => ({ ...old, data: typeof change === "function" ? change(old.data) : change })), []);
  const isStale = state.key !== key;
  return { ...state, isStale, busy: isStale && key !== null, reload: load, set };
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

/**
 * Returns a function that runs another one after no call has come for `pause` milliseconds, but at the latest `most`
 * milliseconds after the first call, so that calls that never pause have their effect, too.
 */
export function useDebounced(run, pause, most = 3 * pause) {
  const latest = useRef(run);
  latest.current = run;
  const timer = useRef(null);
  const first = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback((...values) => {
    clearTimeout(timer.current);
    const now = performance.now();
    first.current ??= now;
    timer.current = setTimeout(() => {
      first.current = null;
      latest.current(...values);
    }, Math.max(0, Math.min(pause, first.current + most - now)));
  }, [pause, most]);
}

/** Returns what a form gives to `call` as `once`: it remembers the idempotency key of a request until it succeeds. */
export const useOnce = () => useRef({}).current;

/** Returns the current place, and renders the component again when it changes. */
export const useRoute = () => route.value;
