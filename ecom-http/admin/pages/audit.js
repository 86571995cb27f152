import { html, useState } from "../lib/html.js";
import { post } from "../lib/api.js";
import { may, who } from "../lib/session.js";
import { useList, useRoute } from "../lib/data.js";
import { href, setParams } from "../lib/router.js";
import { count, number, words } from "../lib/format.js";
import { Badge, Button, Card, Field, Icon, Listing, PageHead, ParamField, Problem, Table, When } from "../lib/ui.js";

const ENTITIES = ["product", "category", "review", "customer", "address", "user", "role", "api_key", "setting", "import"];
const PLACES = { product: "/catalog", customer: "/customers" };

export default function Audit() {
  return html`
    <${PageHead} title="Audit" note="Check the stock and the amounts, and see who has edited what." />
    <div class="stack">
      ${may("audit:run") && html`<${Check} />`}
      ${may("audit_log:read") && html`<${Log} />`}
    </div>`;
}

const places = { order: "/orders", product: "/catalog", customer: "/customers" };

function Check() {
  const [report, setReport] = useState(null);
  const [error, setError] = useState(null);
  const run = async () => {
    setError(null);
    try {
      setReport((await post("/admin/audit")).data);
    } catch (reason) {
      setError(reason);
    }
  };
  return html`<${Card} title="Check of the shop" actions=${html`<${Button} kind="main" onClick=${run}>Run the audit<//>`}>
    <p class="hint">Computes the stock of every variant from its ledger, and every amount of every order from its lines. It changes nothing, and the shop keeps running.</p>
    <${Problem} error=${error} />
    ${report && html`<div role="status" class="after">
      <p>${report.clean ? html`<${Badge} tone="good"><${Icon} name="check" />Everything is right<//>` : html`<${Badge} tone="bad">${count(report.findings.length, "finding")}<//>`}
        ${" "}<span class="muted">${number(report.skus)} variants and ${number(report.orders)} orders checked</span></p>
      ${!report.clean && html`<${Table} label="Findings" rows=${report.findings} rowKey=${(one) => one.id + one.message} columns=${[
        { key: "entity", label: "What", cell: (one) => (places[one.entity] ? html`<a href=${href(`${places[one.entity]}/${one.id}`)}>${words(one.entity)}</a>` : words(one.entity)) },
        { key: "message", label: "Finding", cell: (one) => one.message },
        { key: "id", label: "Id", narrow: false, cell: (one) => html`<code>${one.id}</code>` },
      ]} />`}
    </div>`}
  <//>`;
}

/** Returns words for an action, such as `api_key.created`. */
const action = (entry) => words(entry.action.replaceAll(".", " ")).replace(/^Api /, "API ");

const text = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function Log() {
  const { query } = useRoute();
  const filters = Object.fromEntries(["entity", "actor", "from", "until"].map((name) => [name, query.get(name) ?? ""]));
  const log = useList("/admin/audit-log", filters);
  const set = (name) => (value) => setParams({ [name]: value }, { replace: true });
  return html`<div>
    <h2 class="above">Edits</h2>
    <div class="filters">
      <${Field} label="What" value=${filters.entity} onInput=${set("entity")} options=${[["", "Everything"], ...ENTITIES.map((one) => [one, words(one)])]} />
      <${ParamField} label="Who (actor)" name="actor" placeholder="user:… or system" class="wide-field" />
      <${Field} label="From" type="date" value=${filters.from} onInput=${set("from")} />
      <${Field} label="Before" type="date" value=${filters.until} onInput=${set("until")} />
    </div>
    <${Listing} list=${log} what="edits" label="Edits" empty="No edits yet."
      columns=${[
        { key: "action", label: "Edit", cell: (one) => html`${PLACES[one.entity] ? html`<a href=${href(`${PLACES[one.entity]}/${one.entity_id}`)}><b>${action(one)}</b></a>` : html`<b>${action(one)}</b>`}<span class="sub narrow">by ${who(one.actor)}</span>` },
        { key: "by", label: "By", narrow: false, cell: (one) => html`<a href=${href("/audit", { ...filters, actor: one.actor })} title=${`Only edits of ${one.actor}`}>${who(one.actor)}</a>` },
        { key: "change", label: "Change", narrow: false, cell: (one) => html`<${Change} entry=${one} />` },
        { key: "at", label: "When", align: "end", cell: (one) => html`<${When} at=${one.occurred_at} />` },
      ]} />
  </div>`;
}

function Change({ entry }) {
  const before = entry.before ?? {};
  const after = entry.after ?? {};
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  if (names.length === 0) return "–";
  return html`<details><summary>${names.slice(0, 4).map(words).join(", ")}${names.length > 4 ? ` and ${names.length - 4} more` : ""}</summary>
    <dl class="facts">${names.map((name) => html`<dt key=${`t${name}`}>${words(name)}</dt><dd key=${`d${name}`}>${entry.before && html`<s class="muted">${text(before[name]).slice(0, 200)}</s> `}${text(after[name]).slice(0, 200)}</dd>`)}</dl></details>`;
}
