// The frame of the page: navigation, the page of the current place, and the login in front of it.

import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./lib/html.js";
import { connect, shop } from "./lib/api.js";
import { logout, may, me, resume } from "./lib/session.js";
import { live, start, stop } from "./lib/live.js";
import { href, route } from "./lib/router.js";
import { switchTheme, theme } from "./lib/theme.js";
import { Button, Icon, Notes, Problem, Questions, attempt } from "./lib/ui.js";
import { Login } from "./pages/login.js";

/**
 * The pages: the first part of the path, the name, the permissions without which a page is not offered, and whether
 * `new` stands for a row that is not there yet.
 */
const PAGES = [
  { at: "", name: "Overview", icon: "overview", file: "overview", needs: [] },
  { at: "orders", name: "Orders", icon: "orders", file: "orders", needs: ["orders:read"] },
  { at: "catalog", name: "Catalog", icon: "catalog", file: "catalog", needs: [], hasNew: true },
  { at: "categories", name: "Categories", icon: "categories", file: "categories", needs: [] },
  { at: "customers", name: "Customers", icon: "customers", file: "customers", needs: ["customers:read"] },
  { at: "search", name: "Search settings", icon: "search", file: "search", needs: ["search:read"] },
  { at: "imports", name: "Imports", icon: "imports", file: "imports", needs: ["import:run", "products:write", "categories:write"] },
  { at: "jobs", name: "Jobs", icon: "jobs", file: "jobs", needs: ["jobs:read"] },
  { at: "webhooks", name: "Webhooks", icon: "webhooks", file: "webhooks", needs: ["webhooks:read"] },
  { at: "audit", name: "Audit", icon: "audit", file: "audit", needs: [], any: ["audit:run", "audit_log:read"] },
  { at: "team", name: "Team", icon: "team", file: "team", needs: [], any: ["users:read", "api_keys:read"] },
  { at: "account", name: "Account", icon: "account", file: "account", needs: [], isHidden: true },
];

/** An id of the API. The paths of the page have no others, so that no path of the API is made of other texts. */
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const isId = (page, id) => !id || ID.test(id) || (id === "new" && page.hasNew);

const isOffered = (page) => may(...page.needs) && (!page.any || page.any.some((one) => may(one)));

const loaded = new Map();

/** Loads the file of a page. */
const load = (file) => import(`./pages/${file}.js`).then(
  (module) => loaded.set(file, module.default),
  (error) => loaded.set(file, () => html`<${Problem} error=${error} retry=${() => location.reload()} />`),
);

/** Returns the page of a file, once it is loaded. */
function usePage(file) {
  const [, again] = useState(0);
  useLayoutEffect(() => {
    if (!loaded.has(file)) load(file).then(() => again((n) => n + 1));
  }, [file]);
  return loaded.get(file);
}

/** Returns the page and the id of the current place. */
function place() {
  const [, first = "", id] = route.value.path.split("/");
  const page = PAGES.find((one) => one.at === first);
  return { first, id, page };
}

function Navigation({ current, onGo }) {
  return html`<ul>
    ${PAGES.filter((page) => !page.isHidden && isOffered(page)).map((page) => html`<li key=${page.at}>
      <a href=${href(`/${page.at}`)} onClick=${onGo} aria-current=${page.at === current ? "page" : undefined}>
        <${Icon} name=${page.icon} /><span>${page.name}</span>
      </a>
    </li>`)}
  </ul>`;
}

const LIVE = { on: "Live", connecting: "Connecting…", off: "Not live" };

function Frame() {
  const { path } = route.value;
  const { first, id, page } = place();
  const Page = usePage(page && isOffered(page) && isId(page, id) ? page.file : "missing");
  const [isOpen, setOpen] = useState(false);
  const main = useRef(null);
  const before = useRef(path);

  // A new page begins at its head, for those who see it and for those who hear it.
  useEffect(() => {
    if (before.current === path) return;
    before.current = path;
    setOpen(false);
    scrollTo(0, 0);
    requestAnimationFrame(() => main.current?.querySelector("h1")?.focus({ preventScroll: true }));
  }, [path]);

  useEffect(() => {
    start();
    const close = (event) => event.key === "Escape" && setOpen(false);
    addEventListener("keydown", close);
    return () => {
      removeEventListener("keydown", close);
      stop();
    };
  }, []);

  const name = me.value.user?.name || me.value.user?.email || (me.value.kind === "key" ? "API key" : "Everybody");
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="bar">
      <${Button} kind="quiet" icon=${isOpen ? "close" : "menu"} class="burger" aria-label="Menu" aria-expanded=${isOpen ? "true" : "false"}
        onClick=${() => setOpen(!isOpen)} />
      <a class="brand" href="#/"><img src="icon.svg" alt="" /> <span>ecom</span></a>
    </header>
    <nav class=${`side ${isOpen ? "open" : ""}`} aria-label="Main">
      <a class="brand" href="#/"><img src="icon.svg" alt="" /> <span>ecom</span></a>
      <${Navigation} current=${first} onGo=${() => setOpen(false)} />
      <div class="foot">
        <p class=${`live ${live.value}`} title="Changes of others appear at once while the page is live.">
          <span class="dot"></span><span>${LIVE[live.value]}</span>
        </p>
        <a href="#/account" aria-current=${first === "account" ? "page" : undefined}><${Icon} name="account" /><span>${name}</span></a>
        <div class="row">
          <${Button} kind="quiet" icon=${theme.value === "dark" ? "sun" : "moon"} onClick=${switchTheme}
            aria-label=${theme.value === "dark" ? "Use light colors" : "Use dark colors"} />
          ${me.value.kind !== "open" && html`<${Button} kind="quiet" icon="logout" aria-label="Log out" onClick=${() => attempt(logout)} />`}
          <span class="grow"></span>
          <small>${shop.value.version}</small>
        </div>
      </div>
    </nav>
    <main id="main" tabindex="-1" ref=${main} data-place=${Page && route.value.text}>
      ${Page ? html`<${Page} key=${`${page?.at}/${id ?? ""}`} id=${id} />` : html`<p class="hidden" role="status">Loading</p>`}
    </main>`;
}

function App({ error }) {
  return html`
    ${error ? html`<main class="center"><${Problem} error=${error} retry=${() => location.reload()} /></main>`
      : me.value ? html`<${Frame} />` : html`<${Login} />`}
    <${Questions} />
    <${Notes} />`;
}

async function begin() {
  let error;
  // The page of the place is loaded while the API is asked who uses it.
  load(place().page?.file ?? "missing");
  try {
    await connect();
    await resume();
  } catch (reason) {
    error = reason;
  }
  render(html`<${App} error=${error} />`, document.getElementById("app"));
}

begin();
