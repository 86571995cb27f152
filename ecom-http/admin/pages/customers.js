import { html, useState } from "../lib/html.js";
import { get, patch, post, remove } from "../lib/api.js";
import { may } from "../lib/session.js";
import { useList, useRead, useRoute } from "../lib/data.js";
import { useForm } from "../lib/form.js";
import { go, href, setParams } from "../lib/router.js";
import { country, money } from "../lib/format.js";
import { Badge, Button, Card, Dialog, Form, Listing, Loading, PageHead, ParamField, Problem, Segments, Table, When, attempt, confirm } from "../lib/ui.js";

export default function Customers({ id }) {
  return id ? html`<${Customer} id=${id} />` : html`<${List} />`;
}

const SORTS = [["", "Newest"], ["name_asc", "Name"], ["created_asc", "Oldest"]];
const FIELDS = [["first_name", "First name", "given-name"], ["last_name", "Last name", "family-name"], ["email", "Email address", "email"], ["telephone", "Telephone", "tel"]];

function List() {
  const { query } = useRoute();
  const text = query.get("q") ?? "";
  const sort = query.get("sort") ?? "";
  // An address finds one customer; anything else is the beginning of a name.
  const customers = useList("/customers", { [text.includes("@") ? "email" : "name"]: text, sort });
  const [isNew, setNew] = useState(false);
  return html`
    <${PageHead} title="Customers">
      ${may("customers:write") && html`<${Button} kind="main" icon="plus" onClick=${() => setNew(true)}>New customer<//>`}
    <//>
    <div class="filters">
      <${ParamField} label="Beginning of a name, or an email address" name="q" type="search" class="wide-field" />
      <${Segments} label="Sort" value=${sort} options=${SORTS} onChange=${(next) => setParams({ sort: next })} />
    </div>
    <${Listing} list=${customers} what="customers" label="Customers" empty="No customers yet. Guests who order without an account are in the orders."
      columns=${[
        { key: "name", label: "Name", cell: (one) => html`<a class="row-link" href=${href(`/customers/${one.id}`)}>${one.last_name}, ${one.first_name}</a><span class="sub narrow">${one.email}</span>` },
        { key: "email", label: "Email address", narrow: false, cell: (one) => one.email },
        { key: "telephone", label: "Telephone", narrow: false, cell: (one) => one.telephone ?? "–" },
        { key: "since", label: "Since", align: "end", narrow: false, cell: (one) => html`<${When} at=${one.created_at} />` },
      ]} />
    ${isNew && html`<${Edit} onClose=${() => setNew(false)} onDone=${(made) => go(`/customers/${made.id}`)} />`}`;
}

function Customer({ id }) {
  const read = useRead(`/customers/${id}`);
  const addresses = useRead(`/customers/${id}/addresses`, { cursor: "", per_page: 100 });
  const orders = useRead(may("orders:read") ? `/customers/${id}/orders` : null, { cursor: "", per_page: 10 });
  const [isOpen, setOpen] = useState(false);
  const customer = read.data;
  if (read.error && !customer) return html`<${PageHead} title="Customer" trail=${[["Customers", "/customers"]]} /><${Problem} error=${read.error} retry=${read.reload} />`;
  if (!customer) return html`<${PageHead} title="…" trail=${[["Customers", "/customers"]]} /><${Loading} />`;
  const erase = async () => {
    if (!(await confirm("Erase all personal data of this customer?", { text: "The name, the addresses and the carts are deleted for good. The orders stay, without the buyer. This cannot be undone.", action: "Erase", danger: true }))) return;
    if (await attempt(() => post(`/customers/${id}/erase`), "The personal data is erased.")) go("/customers");
  };
  const removeIt = async () => {
    if (!(await confirm("Delete this customer?", { text: "The customer can be restored.", action: "Delete", danger: true }))) return;
    if (await attempt(() => remove(`/customers/${id}`, customer.version), "The customer was deleted.")) go("/customers");
    else await read.reload();
  };
  return html`
    <${PageHead} title=${`${customer.first_name} ${customer.last_name}`} trail=${[["Customers", "/customers"]]} note=${html`Customer since <${When} at=${customer.created_at} />`}>
      ${may("customers:erase") && html`<${Button} kind="quiet" onClick=${erase}>Erase personal data…<//>`}
      ${may("customers:write") && html`<${Button} kind="danger" icon="trash" onClick=${removeIt}>Delete<//><${Button} kind="main" onClick=${() => setOpen(true)}>Edit<//>`}
    <//>
    <div class="split">
      <div class="stack">
        ${may("orders:read") && html`<${Card} title="Orders">
          <${Problem} error=${orders.error} retry=${orders.reload} />
          <${Table} label="Orders" rows=${orders.data ?? []} error=${orders.error} busy=${orders.busy && !orders.data} empty="No orders yet." columns=${[
            { key: "number", label: "Order", cell: (order) => html`<a class="row-link" href=${href(`/orders/${order.id}`)}>${order.number}</a>` },
            { key: "status", label: "Status", cell: (order) => html`<${Badge} of=${order.status} />` },
            { key: "placed", label: "Placed", align: "end", narrow: false, cell: (order) => html`<${When} at=${order.placed_at} />` },
            { key: "total", label: "Total", align: "end", cell: (order) => money(order.total, order.currency) },
          ]} />
          ${orders.meta?.pagination?.has_next && html`<p><a href=${href("/orders", { q: customer.email })}>All orders of this address</a></p>`}
        <//>`}
      </div>
      <div class="stack">
        <${Card} title="Contact"><dl class="facts">
          <dt>Email</dt><dd>${customer.email}</dd>
          <dt>Telephone</dt><dd>${customer.telephone ?? "–"}</dd>
          ${customer.source && html`<dt>Source</dt><dd>${customer.source} <small>${customer.external_id}</small></dd>`}
        </dl><//>
        <${Card} title="Addresses">
          <${Problem} error=${addresses.error} retry=${addresses.reload} />
          ${addresses.data?.length === 0 && html`<p class="hint">No addresses yet.</p>`}
          <ul class="stack">${addresses.data?.map((a) => html`<li key=${a.id}>${a.street} ${a.number}<br />${a.postal_code} ${a.city}<br /><small>${[a.region, a.country && country(a.country)].filter(Boolean).join(", ")}</small></li>`)}</ul>
        <//>
      </div>
    </div>
    ${isOpen && html`<${Edit} customer=${customer} onClose=${() => setOpen(false)} onDone=${(saved) => { read.set(saved); setOpen(false); }} />`}`;
}

function Edit({ customer, onClose, onDone }) {
  const names = FIELDS.map(([name]) => name);
  const { field, problem, submit } = useForm({
    names,
    row: customer,
    read: customer && (() => get(`/customers/${customer.id}`)),
    send: (changed, row, values, once) => {
      if (!customer) return post("/customers", { ...values, telephone: values.telephone || undefined }, { once });
      return patch(`/customers/${customer.id}`, { ...changed, ...(changed.telephone === "" ? { telephone: null } : {}) }, row.version);
    },
    done: onDone,
  });
  return html`<${Dialog} title=${customer ? "Edit the customer" : "New customer"} onClose=${onClose}>
    <${Form} class="form" onSubmit=${submit}>
      ${problem}
      ${FIELDS.map(([name, label, autocomplete]) => field(name, label, { autocomplete, required: name !== "telephone" }))}
      <div class="actions end"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="main">Save<//></div>
    <//>
  <//>`;
}
