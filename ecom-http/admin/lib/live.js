// Live events: one stream of server-sent events for the whole page. A browser cannot send a token with it, so each stream
// is opened by a ticket. After an interruption it goes on after the last event, so that nothing is missed.

import { signal, useEffect, useRef } from "./html.js";
import { post, url } from "./api.js";
import { me } from "./session.js";

/** The state of the stream: `off`, `connecting` or `on`. */
export const live = signal("off");

/** How long a tab that nobody sees keeps its stream: browsers open only six connections to a host. */
const HIDDEN = 60_000;

const listeners = new Set();
let source = null;
let wanted = false;
let last = null;
let failures = 0;
let timer = null;
let hiding = null;

const tell = (event) => listeners.forEach((listener) => listener(event));

async function open() {
  clearTimeout(timer);
  if (!wanted || source) return;
  live.value = "connecting";
  let ticket;
  try {
    // Without logins (ECOM_AUTH=off) there is nobody to give a ticket to, and none is needed.
    if (me.value?.kind !== "open") ticket = (await post("/events/ticket")).data.ticket;
  } catch {
    return again();
  }
  if (!wanted || source) return;
  const stream = new EventSource(url("/events", { ticket, last_event_id: last }));
  source = stream;
  const note = (event) => {
    if (event.lastEventId) last = event.lastEventId;
  };
  stream.onopen = () => {
    live.value = "on";
    failures = 0;
  };
  stream.onmessage = (event) => {
    note(event);
    tell(JSON.parse(event.data));
  };
  stream.addEventListener("reset", (event) => {
    note(event);
    tell({ kind: "reset" });
  });
  // The last message of a stream. A new one needs a new ticket, so the browser must not reconnect by itself.
  stream.addEventListener("end", () => close());
  stream.onerror = () => close();
  const close = () => {
    stream.close();
    if (source === stream) {
      source = null;
      again();
    }
  };
}

function again() {
  live.value = "connecting";
  clearTimeout(timer);
  timer = setTimeout(open, Math.min(1_000 * 2 ** failures++, 30_000));
}

function shut() {
  clearTimeout(timer);
  source?.close();
  source = null;
  live.value = "off";
}

export function start() {
  wanted = true;
  open();
}

export function stop() {
  wanted = false;
  last = null;
  shut();
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(shut, HIDDEN);
  else if (wanted && !source) open();
});

/** Calls a function with each live event while the component is shown. `{kind: "reset"}` means: load everything again. */
export function useLive(handler) {
  const latest = useRef(handler);
  latest.current = handler;
  useEffect(() => {
    const listener = (event) => latest.current(event);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
}
