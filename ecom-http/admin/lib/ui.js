// The parts of which the pages consist.

import { html, signal, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { dateTime, precise, relative, words } from "./format.js";
import { useDebounced, useRoute } from "./data.js";
import { base } from "./root.js";
import { filters, href, params, setParams } from "./router.js";

const ICONS = {
  overview: "M3 13h8V3H3zM13 21h8V11h-8zM3 21h8v-6H3zM13 3v6h8V3z",
  catalog: "M3 7l9-4 9 4v10l-9 4-9-4zM3 7l9 4 9-4M12 11v10",
  categories: "M4 5h6v6H4zM14 13h6v6h-6zM7 11v5h7",
  orders: "M6 3h12l2 5v13H4V8zM4 8h16M9 12a3 3 0 0 0 6 0",
  customers: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21a8 8 0 0 1 16 0",
  jobs: "M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.2 2.2M16.2 16.2l2.2 2.2M5.6 18.4l2.2-2.2M16.2 7.8l2.2-2.2",
  webhooks: "M9 8a3 3 0 1 1 4 2.8L16 16M7 12a4 4 0 1 0 4 5h6M17 13a3.5 3.5 0 1 1-2 6",
  imports: "M12 3v12M7 10l5 5 5-5M4 17v4h16v-4",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l5 5",
  audit: "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6zM8.5 12l2.5 2.5 4.5-5",
  account: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21a8 8 0 0 1 16 0",
  team: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2 20a7 7 0 0 1 14 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14a7 7 0 0 1 4 6",
  menu: "M4 6h16M4 12h16M4 18h16",
  close: "M5 5l14 14M19 5L5 19",
  plus: "M12 5v14M5 12h14",
  next: "M9 5l7 7-7 7",
  back: "M15 5l-7 7 7 7",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5",
  moon: "M20 14A8 8 0 1 1 10 4a6.5 6.5 0 0 0 10 10z",
  up: "M12 19V6M6 11l6-6 6 6",
  down: "M12 5v13M6 13l6 6 6-6",
  check: "M5 12l5 5 9-10",
  alert: "M12 4l9 16H3zM12 10v4M12 17v.5",
  pin: "M9 3h6l-1 7 4 3v2H6v-2l4-3zM12 15v6",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 14h10l1-14M10 11v6M14 11v6",
  refresh: "M20 11a8 8 0 0 0-14.5-4L3 9M4 13a8 8 0 0 0 14.5 4L21 15M3 4v5h5M21 20v-5h-5",
  logout: "M10 4H5v16h5M15 8l4 4-4 4M9 12h10",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.5v.1",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

/**
 * A button. While the promise that `onClick` returns is pending, it cannot be pressed again. It keeps the focus, which a
 * disabled button would lose. Buttons that take turns at one place need a `key` if they do different things: otherwise
 * the second one is still busy with the first, and a press that begins on one ends on the other.
 */
export function Button({ children, icon, kind = "", small, onClick, disabled, ...rest }) {
  const [busy, setBusy] = useState(false);
  const isBusy = useRef(false);
  const press = async (event) => {
    if (isBusy.current) return event.preventDefault();
    const result = onClick?.(event);
    if (!result?.then) return;
    isBusy.current = true;
    setBusy(true);
    await attempt(() => result);
    isBusy.current = false;
    setBusy(false);
  };
  const classes = `button ${kind} ${small ? "small" : ""} ${children ? "" : "bare"}`;
  // A button that shows only an icon has its name as a tooltip.
  const title = children ? undefined : rest["aria-label"];
  return html`<button type="button" title=${title} ...${rest} class=${classes} disabled=${disabled} aria-disabled=${busy ? "true" : undefined}
    aria-busy=${busy ? "true" : undefined} onClick=${press}>${icon && html`<${Icon} name=${icon} />`}${children && html`<span>${children}</span>`}</button>`;
}

/**
 * A form whose submit button cannot be pressed twice. `onSubmit` may return a promise. Then the first field that is not
 * valid gets the focus, or the message of the form is moved into view.
 */
export function Form({ children, onSubmit, ...rest }) {
  const busy = useRef(false);
  const submit = async (event) => {
    event.preventDefault();
    if (busy.current) return;
    busy.current = true;
    const form = event.currentTarget;
    const buttons = form.querySelectorAll("[type=submit]");
    buttons.forEach((button) => button.setAttribute("aria-busy", "true"));
    await attempt(() => onSubmit(event));
    busy.current = false;
    buttons.forEach((button) => button.removeAttribute("aria-busy"));
    setTimeout(() => {
      const refused = form.querySelector("[aria-invalid=true]");
      if (refused) refused.focus();
      else form.querySelector(".problem, .banner.warn")?.scrollIntoView({ block: "nearest" });
    });
  };
  return html`<form novalidate ...${rest} onSubmit=${submit}>${children}</form>`;
}

/** A text in a form, with its label, a hint and the error of the API, which disappears when the text changes. */
export function Field({ label, hint, error: reason, value, onInput, type = "text", options, rows, class: name = "", hideLabel, ...rest }) {
  const id = useId();
  const refused = useRef({});
  if (refused.current.reason !== reason) refused.current = { reason, value };
  const error = refused.current.value === value ? reason : undefined;
  const about = [error && `${id}-error`, hint && `${id}-hint`].filter(Boolean).join(" ") || undefined;
  const shared = { id, "aria-invalid": error ? "true" : undefined, "aria-describedby": about, ...rest };
  const input = (event) => onInput?.(event.currentTarget.value);
  let control;
  if (options) {
    control = html`<select ...${shared} value=${value} onChange=${input}>
      ${options.map(([key, text]) => html`<option key=${key} value=${key} selected=${key === value}>${text}</option>`)}
    </select>`;
  } else if (rows) {
    control = html`<textarea ...${shared} rows=${rows} value=${value ?? ""} onInput=${input}></textarea>`;
  } else {
    control = html`<input ...${shared} type=${type} value=${value ?? ""} onInput=${input} />`;
  }
  return html`<div class=${`field ${name}`}>
    <label for=${id} class=${hideLabel ? "hidden" : ""}>${label}</label>
    ${control}
    ${error && html`<p class="error" id=${`${id}-error`}><${Icon} name="alert" />${error}</p>`}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
  </div>`;
}

/**
 * A field whose text is the parameter `name` of the place. The place follows a moment after the last key, so that a list
 * is not read for every key.
 */
export function ParamField({ name, ...rest }) {
  const value = useRoute().query.get(name) ?? "";
  const [text, setText] = useState(value);
  const latest = useRef(text);
  const shown = useRef(value);
  useEffect(() => {
    // A link or the history of the browser has changed the place.
    if (value !== shown.current) type(value);
    shown.current = value;
  }, [value]);
  const follow = useDebounced(() => {
    const next = latest.current.trim();
    if (next === shown.current) return;
    shown.current = next;
    setParams({ [name]: next }, { replace: true });
  }, 250);
  const type = (next) => {
    latest.current = next;
    setText(next);
  };
  return html`<${Field} ...${rest} value=${text} onInput=${(next) => { type(next); follow(); }} />`;
}

export function Check({ label, checked, onChange, hint, ...rest }) {
  const id = useId();
  return html`<div class="check">
    <input type="checkbox" id=${id} checked=${checked} onChange=${(e) => onChange(e.currentTarget.checked)} ...${rest} />
    <label for=${id}>${label}${hint && html`<span class="hint">${hint}</span>`}</label>
  </div>`;
}

const TONES = {
  in_stock: "good", limited: "warn", out_of_stock: "bad", active: "good", draft: "plain", archived: "plain",
  pending: "info", in_progress: "warn", delivered: "good", canceled: "bad", open: "info", paid: "good", void: "plain",
  queued: "info", running: "warn", succeeded: "good", failed: "bad", up: "good", down: "bad", healthy: "good",
  degraded: "warn", unhealthy: "bad",
};

export function Badge({ children, of, tone }) {
  return html`<span class=${`badge ${tone ?? TONES[of] ?? "plain"}`}>${children ?? words(of)}</span>`;
}

/** A time, in words that follow the clock; the exact time is in its title. */
export function When({ at, exact }) {
  if (!at) return "–";
  return html`<time datetime=${at} title=${precise(at)}>${exact ? dateTime(at) : relative(at)}</time>`;
}

export function Card({ title, children, actions, class: name = "", level = 2, ...rest }) {
  const id = useId();
  const heading = title && (level === 2 ? html`<h2 id=${id}>${title}</h2>` : html`<h3 id=${id}>${title}</h3>`);
  return html`<section class=${`card ${name}`} aria-labelledby=${title ? id : undefined} ...${rest}>
    ${title && html`<header>${heading}${actions && html`<div class="actions">${actions}</div>`}</header>`}
    ${children}
  </section>`;
}

/** The head of a page. `trail` leads to the pages above: `[["Orders", "/orders"]]`. */
export function PageHead({ title, trail = [], children, badge, note }) {
  useEffect(() => {
    document.title = `${title} · ecom`;
  }, [title]);
  return html`<header class="page-head">
    <div>
      ${trail.length > 0 && html`<nav aria-label="Trail" class="trail">
        ${trail.map(([text, path]) => html`<a key=${path} href=${href(path)}>${text}</a>`)}
      </nav>`}
      <h1 tabindex="-1">${title} ${badge}</h1>
      ${note && html`<p class="note">${note}</p>`}
    </div>
    <div class="actions">${children}</div>
  </header>`;
}

const byId = (row) => row.id;

/**
 * A table. A column is `{key, label, cell, align, narrow}`; one with `narrow: false` is left out on small screens. If the
 * rows could not be read (`error`), the table shows nothing, because there may be some.
 */
export function Table({ columns, rows, label, busy, error, empty = "Nothing here.", rowKey = byId, rowClass }) {
  const name = (column) => `${column.align ?? ""} ${column.narrow === false ? "wide" : ""} ${column.class ?? ""}`;
  // Rows are rendered again only if they differ, or if the page makes other columns.
  const body = useMemo(() => rows.map((row) => html`<tr key=${rowKey(row)} class=${rowClass?.(row) ?? ""}>
    ${columns.map((column) => html`<td key=${column.key} class=${name(column)}>${column.cell(row)}</td>`)}
  </tr>`), [rows, columns, rowKey, rowClass]);
  if (rows.length === 0 && error && !busy) return null;
  if (rows.length === 0 && !busy) return html`<p class="empty">${empty}</p>`;
  return html`<div class="table-frame" aria-busy=${busy ? "true" : "false"}>
    <table>
      <caption class="hidden">${label}</caption>
      <thead><tr>
        ${columns.map((column) => html`<th key=${column.key} scope="col" class=${name(column)}>
          ${column.hideLabel ? html`<span class="hidden">${column.label}</span>` : column.label}</th>`)}
      </tr></thead>
      <tbody>
        ${body}
        ${rows.length === 0 && Array.from({ length: 6 }, (_, i) => html`<tr key=${i} class="ghost" aria-hidden="true">
          ${columns.map((column) => html`<td key=${column.key} class=${name(column)}><span class="bone"></span></td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

/**
 * The list of a page: its error, its table, and the links to its other pages. `list` is what `useList` returns, `what`
 * names the rows, `empty` is shown if there are none at all, and `hint` if none match the filters.
 */
export function Listing({ list, what, label, empty, hint, ...rest }) {
  return html`
    <${Problem} error=${list.error} retry=${list.reload} />
    <${Card} class="plain">
      <${Table} label=${label} rows=${list.rows} error=${list.error} busy=${list.busy && (list.isStale || !list.data)}
        empty=${filters().length > 0 ? html`<${NoMatch} what=${what} hint=${hint} />` : empty} ...${rest} />
      <${Pager} list=${list} what=${what} />
    <//>`;
}

/** Says that no row matches the filters of the place, and offers to clear them. The searched text is cleared last. */
function NoMatch({ what, hint }) {
  const { q } = params();
  const others = filters().filter((name) => name !== "q");
  const clear = () => {
    setParams(Object.fromEntries((others.length > 0 ? others : ["q"]).map((name) => [name, undefined])));
    // The button disappears.
    document.querySelector("main h1")?.focus({ preventScroll: true });
  };
  const wanted = [q && `“${q}”`, others.length > 0 && "the filters"].filter(Boolean).join(" and ");
  return html`No ${what} match ${wanted}. ${hint}<span class="block"><${Button} small onClick=${clear}>${others.length > 0 ? "Clear the filters" : "Clear the search"}<//></span>`;
}

/** Stands in for a list that is being read. */
export const Bones = () => html`<div class="ghost bones" aria-hidden="true"><span class="bone"></span><span class="bone"></span><span class="bone"></span></div>`;

/** Stands in for a page whose row is being read. */
export const Loading = () => html`<div class="split"><div class="card"><${Bones} /></div><div class="card"><${Bones} /></div></div>`;

/** The links between the pages of a list. */
export function Pager({ list, what = "rows" }) {
  if (!list.next && !list.first) return null;
  return html`<nav class="pager" aria-label=${`Pages of ${what}`}>
    ${list.first && html`<${Button} small onClick=${list.first}>First page<//>`}
    <span class="grow"></span>
    <${Button} small icon="back" disabled=${!list.back} onClick=${list.back}>Previous<//>
    <${Button} small disabled=${!list.next} onClick=${list.next}>Next<${Icon} name="next" /><//>
  </nav>`;
}

/** What is wrong, in words. */
export function Problem({ error, retry }) {
  if (!error) return null;
  const title = error.status === 403 ? "You may not see this." : error.status === 404 ? "This does not exist (any more)." : "This did not work.";
  return html`<div class="problem" role="alert">
    <${Icon} name="alert" />
    <div>
      <p><strong>${title}</strong> ${error.message}</p>
      ${error.retryAfter && html`<p class="hint">Try again in ${error.retryAfter} s.</p>`}
      ${error.requestId && error.status >= 500 && html`<p class="hint">Request ${error.requestId}</p>`}
    </div>
    ${retry && html`<${Button} small icon="refresh" onClick=${retry}>Try again<//>`}
  </div>`;
}

/** A choice of few values, of which one is chosen. */
export function Segments({ label, options, value, onChange }) {
  const id = useId();
  return html`<fieldset class="segments">
    <legend class="hidden">${label}</legend>
    ${options.map(([key, text]) => html`<label key=${key} class=${key === value ? "chosen" : ""}>
      <input type="radio" name=${id} value=${key} checked=${key === value} onChange=${() => onChange(key)} />
      <span>${text}</span>
    </label>`)}
  </fieldset>`;
}

/** Tabs, each of which has a place of its own. */
export function Tabs({ label, tabs }) {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(([text, to, current]) => html`<a key=${text} href=${to} aria-current=${current ? "page" : undefined}>${text}</a>`)}
  </nav>`;
}

/**
 * A window above the page. It is closed by Escape and by its button, and by a click beside it, unless `isKept`.
 *
 * It must not be inside a form, whose `onSubmit` would get its events, nor inside a disabled field set.
 */
export function Dialog({ title, children, onClose, wide, isKept }) {
  const ref = useRef(null);
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    dialog.querySelector("[autofocus], input:not([type=hidden]), select, textarea")?.focus();
    // Closing gives the focus back to where it was.
    return () => dialog.close();
  }, []);
  const outside = (event) => !isKept && event.target === ref.current && onClose();
  return html`<dialog ref=${ref} class=${wide ? "wide-dialog" : ""} aria-labelledby=${id} onMouseDown=${outside}
    onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <div class="dialog-body">
      <header><h2 id=${id}>${title}</h2><${Button} kind="quiet" icon="close" aria-label="Close" onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}

/** Shows a text that nobody can read again. */
export function Secret({ title, hint, text, onClose }) {
  // Browsers offer the clipboard to pages with HTTPS only.
  const copy = () => navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("The browser does not copy on a page without HTTPS. Select the text instead."));
  return html`<${Dialog} title=${title} isKept onClose=${onClose}>
    <p>${hint}</p>
    <pre tabindex="0">${text}</pre>
    <div class="actions end"><${Button} onClick=${() => attempt(copy, "Copied.")}>Copy<//><${Button} kind="main" onClick=${onClose}>I have stored it<//></div>
  <//>`;
}

const question = signal(null);

/** Asks a question and returns whether the answer is yes. */
export const confirm = (title, { text, action = "Yes", danger } = {}) =>
  new Promise((done) => (question.value = { title, text, action, danger, done }));

export function Questions() {
  const asked = question.value;
  if (!asked) return null;
  const answer = (yes) => {
    question.value = null;
    asked.done(yes);
  };
  return html`<${Dialog} title=${asked.title} onClose=${() => answer(false)}>
    ${asked.text && html`<p>${asked.text}</p>`}
    <footer class="actions end">
      <${Button} onClick=${() => answer(false)} autofocus>Cancel<//>
      <${Button} kind=${asked.danger ? "danger" : "main"} onClick=${() => answer(true)}>${asked.action}<//>
    </footer>
  <//>`;
}

const notes = signal([]);
let noteId = 0;

/** Shows a note for some seconds. */
export function note(text, { tone = "good", to } = {}) {
  const id = ++noteId;
  notes.value = [...notes.value.slice(-2), { id, text, tone, to }];
  setTimeout(() => (notes.value = notes.value.filter((one) => one.id !== id)), tone === "bad" ? 9_000 : 4_500);
}

/** Shows an error that belongs to no field. */
export const fail = (error) => note(error.message, { tone: "bad" });

/** Runs a call, and shows its error, or a note after it. Returns its result, or undefined. */
export async function attempt(work, done) {
  try {
    const result = await work();
    if (done) note(typeof done === "function" ? done(result) : done);
    return result ?? true;
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    fail(error);
    return undefined;
  }
}

export function Notes() {
  return html`<div class="notes" role="status">
    ${notes.value.map((one) => html`<p key=${one.id} class=${one.tone}>
      <${Icon} name=${one.tone === "bad" ? "alert" : "check"} />
      ${one.to ? html`<a href=${one.to}>${one.text}</a>` : html`<span>${one.text}</span>`}
    </p>`)}
  </div>`;
}

/** The picture of a product, or a mark in its place. */
export function Picture({ image, size = "small" }) {
  const [broken, setBroken] = useState(false);
  const url = typeof image === "string" ? image : image?.url;
  useEffect(() => setBroken(false), [url]);
  return html`<span class=${`picture ${size}`}>
    ${url && !broken
      ? html`<img src=${picture(url)} alt="" loading="lazy" decoding="async" onError=${() => setBroken(true)} />`
      : html`<${Icon} name="image" />`}
  </span>`;
}

/** Returns where the picture of a product is: a path begins at the place of the API. */
export const picture = (url) => (url.startsWith("/") ? `${base}${url}` : url);
