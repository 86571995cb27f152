import { html, useEffect, useMemo, useState } from "../lib/html.js";
import { post, readText, shop } from "../lib/api.js";
import { login, may, me } from "../lib/session.js";
import { useDebounced, useRead, useRoute } from "../lib/data.js";
import { useLive } from "../lib/live.js";
import { DayChart } from "../lib/chart.js";
import { href, setParams } from "../lib/router.js";
import { buyer, count, duration, money, number, percent, short, shortMoney, words } from "../lib/format.js";
import { Badge, Bones, Button, Card, Dialog, Field, Form, PageHead, Problem, Segments, When, note } from "../lib/ui.js";

const RANGES = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"]];
const DAY = 86_400_000;
const iso = (time) => new Date(time).toISOString().slice(0, 10);

/** Adds up a field of days. The amounts are sums for a trend, so that their last digit does not matter. */
const sum = (days, field) => days.reduce((total, day) => total + Number(day[field]), 0);

function Tile({ name, value, days, now, before, goodUp = true }) {
  const share = before > 0 ? (now - before) / before : null;
  const tone = share === null || Math.abs(share) < 0.005 ? "" : share > 0 === goodUp ? "good" : "bad";
  return html`<div class="tile">
    <p class="name">${name}</p>
    <p class="value">${value}</p>
    <p class="trend">${share === null ? "nothing to compare with" : html`<b class=${tone}>${percent(share)}</b> vs. prior ${days} days`}</p>
  </div>`;
}

function Sales({ days: count }) {
  // One answer has the days and those before, to compare with.
  const today = Date.now();
  const query = { from: iso(today - (2 * count - 1) * DAY), to: iso(today) };
  const read = useRead("/analytics/sales", query);
  const refresh = useDebounced(read.reload, 1_500);
  useLive((event) => (event.kind.startsWith("order.") || event.kind === "reset") && refresh());
  const { days, before } = useMemo(() => {
    const all = read.data?.days ?? [];
    return { days: all.slice(-count), before: all.slice(-2 * count, -count) };
  }, [read.data, count]);
  if (read.error) return html`<${Problem} error=${read.error} retry=${read.reload} />`;
  if (!read.data) return html`<div class="tiles">${[1, 2, 3, 4].map((i) => html`<div class="tile ghost" key=${i}><p class="name">…</p><p class="value">–</p><p class="trend">…</p></div>`)}</div>
    <div class="grid">${["Net revenue by day", "Orders by day"].map((title) => html`<${Card} key=${title} title=${title}><div class="chart"><${Bones} /></div><//>`)}</div>`;
  const { currency } = read.data;
  const net = sum(days, "net");
  const orders = sum(days, "orders");
  const mean = (of) => (sum(of, "orders") ? sum(of, "total") / sum(of, "orders") : 0);
  return html`
    <div class="tiles">
      <${Tile} days=${count} name="Net revenue" value=${money(net.toFixed(6), currency)} now=${net} before=${sum(before, "net")} />
      <${Tile} days=${count} name="Orders" value=${number(orders)} now=${orders} before=${sum(before, "orders")} />
      <${Tile} days=${count} name="Average order" value=${money(mean(days).toFixed(6), currency)} now=${mean(days)} before=${mean(before)} />
      <${Tile} days=${count} name="Units canceled" value=${number(sum(days, "canceled_units"))} now=${sum(days, "canceled_units")} before=${sum(before, "canceled_units")} goodUp=${false} />
    </div>
    <div class="grid">
      <${Card} title="Net revenue by day">
        <${DayChart} days=${days.map((d) => d.day)} values=${days.map((d) => Number(d.net))} kind="line" sync="sales" empty="Nothing was sold on these days."
          format=${(n) => money(n.toFixed(6), currency)} axis=${(n) => shortMoney(n, currency)}
          label=${`Net revenue by day, ${money(net.toFixed(6), currency)} in ${count} days`} />
        <${Figures} days=${days} currency=${currency} />
      <//>
      <${Card} title="Orders by day">
        <${DayChart} days=${days.map((d) => d.day)} values=${days.map((d) => d.orders)} kind="bars" sync="sales" tone="--second" empty="No orders on these days."
          format=${number} axis=${(n) => (Number.isInteger(n) ? short(n) : "")} label=${`Orders by day, ${number(orders)} in ${count} days`} />
        <p class="hint">Days are those of the shop (${read.data.time_zone}).${read.data.is_complete ? "" : " Some figures are still being computed."}</p>
      <//>
    </div>`;
}

/** The figures of the charts, for those who do not see them. */
function Figures({ days, currency }) {
  return html`<details><summary class="hint">Figures</summary><div class="table-frame"><table>
    <caption class="hidden">Sales by day</caption>
    <thead><tr><th scope="col">Day</th><th scope="col" class="end">Orders</th><th scope="col" class="end">Net revenue</th></tr></thead>
    <tbody>${[...days].reverse().map((d) => html`<tr key=${d.day}><td>${d.day}</td><td class="end">${number(d.orders)}</td><td class="end">${money(d.net, currency)}</td></tr>`)}</tbody>
  </table></div></details>`;
}

function LatestOrders() {
  const read = useRead("/orders", { cursor: "", per_page: 6 });
  const refresh = useDebounced(read.reload, 300);
  const [fresh, setFresh] = useState(new Set());
  useLive((event) => {
    if (event.kind === "order.placed") setFresh((old) => new Set([...old, event.aggregate_id]));
    if (event.kind.startsWith("order.") || event.kind === "reset") refresh();
  });
  return html`<${Card} title="Latest orders" actions=${html`<a href="#/orders">All orders</a>`}>
    <${Problem} error=${read.error} retry=${read.reload} />
    ${!read.data && !read.error && html`<${Bones} />`}
    ${read.data?.length === 0 && html`<p class="empty">No orders yet. New orders appear here at once.</p>`}
    <ul class="ranked">${read.data?.map((order) => html`<li key=${order.id} class=${fresh.has(order.id) ? "flash" : ""}>
      <span><a class="nowrap" href=${href(`/orders/${order.id}`)}>${order.number}</a><small class="sub">${buyer(order)} · <${When} at=${order.placed_at} /></small></span>
      <span class="end">${money(order.total, order.currency)}<span class="sub"><${Badge} of=${order.status} /></span></span>
    </li>`)}</ul>
  <//>`;
}

function LowStock() {
  const read = useRead("/analytics/low-stock", { cursor: "", per_page: 8 });
  const refresh = useDebounced(read.reload, 800);
  useLive((event) => (event.stock || event.kind === "stock.low" || event.kind === "reset") && refresh());
  return html`<${Card} title="Low stock">
    <${Problem} error=${read.error} retry=${read.reload} />
    ${!read.data && !read.error && html`<${Bones} />`}
    ${read.data?.length === 0 && html`<p class="empty">Every product has enough stock.</p>`}
    <ul class="ranked">${read.data?.map((sku) => html`<li key=${sku.sku_id}>
      <a href=${href(`/catalog/${sku.product_id}`)}>${sku.title} <small>${sku.code}</small></a>
      <${Badge} of=${sku.availability_status}>${sku.available <= 0 ? "none left" : `${number(sku.available)} left`}<//>
    </li>`)}</ul>
  <//>`;
}

function TopProducts({ days }) {
  const query = { cursor: "", per_page: 6, from: iso(Date.now() - (days - 1) * DAY) };
  const { data, error, reload } = useRead("/analytics/top-products", query);
  const most = Math.max(...(data ?? []).map((one) => Number(one.net_revenue)), 1);
  return html`<${Card} title="Best sellers">
    <${Problem} error=${error} retry=${reload} />
    ${!data && !error && html`<${Bones} />`}
    ${data?.length === 0 && html`<p class="empty">Nothing was sold on these days.</p>`}
    <ul class="ranked">${data?.map((one) => html`<li key=${one.product_id}>
      <span><a href=${href(`/catalog/${one.product_id}`)}>${one.title}</a>
        <span class="meter"><i style=${{ width: `${Math.max(0, (Number(one.net_revenue) / most) * 100)}%` }}></i></span></span>
      <span class="end">${money(one.net_revenue, one.currency)}<small class="sub">${count(one.net_units, "unit")}</small></span>
    </li>`)}</ul>
  <//>`;
}

function NoResults({ days }) {
  const query = { cursor: "", per_page: 8, from: iso(Date.now() - (days - 1) * DAY) };
  const { data, error, reload } = useRead("/analytics/zero-results", query);
  return html`<${Card} title="Searches without results" actions=${may("search:write") && html`<a href="#/search">Add synonyms</a>`}>
    <${Problem} error=${error} retry=${reload} />
    ${!data && !error && html`<${Bones} />`}
    ${data?.length === 0 && html`<p class="empty">Every search has found something.</p>`}
    <ul class="ranked">${data?.map((term) => html`<li key=${term.query}>
      <a href=${href("/catalog", { q: term.query })}>${term.query}</a>
      <small>${number(term.without_result)} of ${number(term.searches)} searches</small>
    </li>`)}</ul>
  <//>`;
}

function Health() {
  const read = useRead("/health");
  const names = { database: "Database", search: "Search index", search_fallback: "Second index", cache: "Cache", rate_limiter: "Rate limiter" };
  const health = read.data;
  return html`<${Card} title="Health" actions=${html`<${Button} small kind="quiet" icon="refresh" aria-label="Check again" onClick=${read.reload} />`}>
    <${Problem} error=${read.error} retry=${read.reload} />
    ${!health && !read.error && html`<${Bones} />`}
    ${health && html`<ul class="ranked">
      ${Object.entries(health.dependencies).map(([name, one]) => html`<li key=${name}>
        <span><b>${names[name] ?? words(name)}</b> <small>${one.adapter}${one.refused ? `: ${one.refused}` : ""}</small></span>
        <small>${duration(one.latency_ms)}</small>
        <${Badge} of=${one.status} />
      </li>`)}
      <li><span><b>Connections</b> <small>to the database</small></span><small>${number(health.pool.in_use)} of ${number(health.pool.max)} in use${health.pool.waiting ? `, ${number(health.pool.waiting)} wait` : ""}</small></li>
      <li><span><b>Cache hits</b></span><small>${health.cache.hits + health.cache.misses > 0 ? percent(health.cache.hits / (health.cache.hits + health.cache.misses)).replace("+", "") : "–"}</small></li>
    </ul>`}
  <//>`;
}

function Background() {
  const queues = useRead("/admin/job-queues");
  useLive(useDebounced(queues.reload, 2_000));
  const total = (state) => (queues.data ?? []).reduce((n, queue) => n + (queue.jobs[state] ?? 0), 0);
  const paused = (queues.data ?? []).filter((queue) => queue.paused);
  return html`<${Card} title="Background work" actions=${html`<a href="#/jobs">Jobs</a>`}>
    <${Problem} error=${queues.error} retry=${queues.reload} />
    ${!queues.data && !queues.error && html`<${Bones} />`}
    ${queues.data && html`<ul class="ranked">
      <li><span><b>Waiting jobs</b></span><a href=${href("/jobs", { state: "queued" })}>${number(total("queued"))}</a></li>
      <li><span><b>Running jobs</b></span><a href=${href("/jobs", { state: "running" })}>${number(total("running"))}</a></li>
      <li><span><b>Failed jobs</b> <small>wait for you</small></span><a href=${href("/jobs", { state: "failed" })}><${Badge} tone=${total("failed") ? "bad" : "good"}>${number(total("failed"))}<//></a></li>
      ${paused.map((queue) => html`<li key=${queue.kind}><span><b>${words(queue.kind)}</b> <small>does not start jobs</small></span><${Badge} tone="warn">Paused<//></li>`)}
      <${Lag} />
    </ul>`}
  <//>`;
}

/** Returns the samples of a metric in the text format of Prometheus, with their labels. */
function samples(text, name) {
  const found = [];
  for (const [, labels, value] of text.matchAll(new RegExp(`^${name}\\{([^}]*)\\} (\\S+)`, "gm"))) {
    found.push({ labels: Object.fromEntries([...labels.matchAll(/(\w+)="([^"]*)"/g)].map((label) => label.slice(1))), value: Number(value) });
  }
  return found;
}

/** How far background work is behind. The metrics tell, if the server has them. */
function Lag() {
  const [text, setText] = useState("");
  useEffect(() => {
    if (!shop.value.links.metrics) return undefined;
    const look = () => document.hidden || readText(shop.value.links.metrics).then(setText, () => setText(""));
    look();
    const timer = setInterval(look, 10_000);
    return () => clearInterval(timer);
  }, []);
  const seconds = [
    ...samples(text, "ecom_index_lag_seconds").map((one) => ["Search index", one.labels.index === "fallback" ? "the second one" : "", one.value]),
    ...samples(text, "ecom_outbox_lag_seconds").map((one) => ["Events", `for ${words(one.labels.consumer).toLowerCase()}`, one.value]),
  ];
  return seconds.map(([name, about, lag]) => html`<li key=${name + about}><span><b>${name}</b> <small>${about}</small></span>
    <${Badge} tone=${lag > 60 ? "bad" : lag > 5 ? "warn" : "good"}>${lag < 1 ? "up to date" : `${duration(lag * 1000)} behind`}<//></li>`);
}

/** What somebody does first who uses the first API key: a login of its own. */
function OwnLogin() {
  const [isOpen, setOpen] = useState(false);
  const [values, setValues] = useState({ email: "", password: "", name: "" });
  const [error, setError] = useState(null);
  const set = (name) => (value) => setValues({ ...values, [name]: value });
  const create = async () => {
    setError(null);
    try {
      await post("/users", { ...values, name: values.name || undefined, roles: ["admin"] });
      await login(values.email, values.password);
      note("You are logged in with your own login.");
    } catch (reason) {
      setError(reason);
    }
  };
  return html`<div class="banner">
    <p class="grow"><b>You use an API key.</b> Create a login of your own, so that the history of the shop shows who did what.</p>
    <${Button} kind="main" onClick=${() => setOpen(true)}>Create my login<//>
    ${isOpen && html`<${Dialog} title="Create my login" onClose=${() => setOpen(false)}>
      <${Form} class="form" onSubmit=${create}>
        <${Field} label="Your name" value=${values.name} onInput=${set("name")} error=${error?.of("name")} autocomplete="name" />
        <${Field} label="Email address" type="email" value=${values.email} onInput=${set("email")} error=${error?.of("email")} autocomplete="username" />
        <${Field} label="Password" type="password" value=${values.password} onInput=${set("password")} error=${error?.of("password")}
          hint="8 to 256 characters" autocomplete="new-password" />
        ${error && error.details.length === 0 && html`<${Problem} error=${error} />`}
        <div class="actions end"><${Button} type="submit" kind="main">Create and log in<//></div>
      <//>
    <//>`}
  </div>`;
}

function FirstSteps() {
  const { data } = useRead("/products", { cursor: "", per_page: 1, status: may("products:read") ? "any" : undefined });
  if (!data || data.length > 0) return null;
  return html`<${Card} title="Your shop is empty">
    <ol class="steps">
      <li><span><a href="#/categories">Create categories</a>, such as “Lamps”. You can also do this later.</span></li>
      <li><span><a href="#/catalog/new">Create a product</a> with its price and stock, or <a href="#/imports">import a file</a> from Shopify, WooCommerce, or your own.</span></li>
      <li><span>Products that are <b>active</b> are on sale at once. Orders appear on this page while they come in.</span></li>
    </ol>
  <//>`;
}

export default function Overview() {
  const asked = useRoute().query.get("days");
  const days = RANGES.some(([range]) => range === asked) ? Number(asked) : 30;
  const hasFigures = may("analytics:read");
  return html`
    <${PageHead} title="Overview">
      ${hasFigures && html`<${Segments} label="Days" options=${RANGES} value=${String(days)} onChange=${(next) => setParams({ days: next === "30" ? undefined : next }, { replace: true })} />`}
    <//>
    ${me.value.permissions.length === 0 && html`<div class="banner warn"><p><b>Your login has no role in this shop.</b> Ask somebody who manages it for one.</p></div>`}
    ${me.value.kind === "key" && may("users:write") && html`<${OwnLogin} />`}
    <div class="stack">
      ${may("products:write") && html`<${FirstSteps} />`}
      ${hasFigures && html`<${Sales} days=${days} />`}
      <div class="grid loose">
        <div class="stack">
          ${may("orders:read") && html`<${LatestOrders} />`}
          ${hasFigures && html`<${TopProducts} days=${days} />`}
          <${Health} />
        </div>
        <div class="stack">
          ${hasFigures && html`<${LowStock} />`}
          ${hasFigures && html`<${NoResults} days=${days} />`}
          ${may("jobs:read") && html`<${Background} />`}
        </div>
      </div>
    </div>`;
}
