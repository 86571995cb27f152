import { html, useEffect, useMemo, useState } from "../lib/html.js";
import { currentVersion, patch, post, write, written } from "../lib/api.js";
import { may, who } from "../lib/session.js";
import { useDebounced, useList, useOnce, useRead, useRoute } from "../lib/data.js";
import { useLive } from "../lib/live.js";
import { href, setParams } from "../lib/router.js";
import { buyer, country, list as listed, money, number, words } from "../lib/format.js";
import { Badge, Button, Card, Check, Dialog, Field, Form, Icon, Listing, Loading, PageHead, ParamField, Problem, Segments, Table, When, attempt, note } from "../lib/ui.js";

export default function Orders({ id }) {
  return id ? html`<${Order} id=${id} />` : html`<${List} />`;
}

const STATUSES = [["", "All"], ["pending", "Pending"], ["in_progress", "In progress"], ["delivered", "Delivered"], ["canceled", "Canceled"]];
const METHODS = [["", "Any delivery"], ["home_delivery", "Home delivery"], ["on_hand", "In the shop"], ["drive_thru", "Drive-through"]];
/** The number of an order, such as `ORD-2026-000123`. It becomes a part of a path of the API, so it has no other characters. */
const NUMBER = /^[a-z]+-\d+-\d+$/i;

function List() {
  const { query } = useRoute();
  const q = query.get("q") ?? "";
  const isNumber = NUMBER.test(q);
  const filters = { email: q, ...Object.fromEntries(["status", "delivery_method", "from", "until", "sort"].map((name) => [name, query.get(name) ?? ""])) };
  const listing = useList(isNumber ? null : "/orders", filters);
  // A number leads to one order.
  const found = useRead(isNumber ? `/orders/${q.toUpperCase()}` : null);
  const orders = isNumber
    ? { ...found, rows: found.data && !found.isStale ? [found.data] : [], error: found.error?.status === 404 ? undefined : found.error, isFirst: true }
    : listing;
  const refresh = useDebounced(orders.reload, 250);
  const [fresh, setFresh] = useState(new Set());
  const [waiting, setWaiting] = useState(0);
  useLive((event) => {
    if (!event.kind.startsWith("order.") && event.kind !== "reset") return;
    if (event.kind === "order.placed") {
      setFresh((old) => new Set([...old, event.aggregate_id]));
      if (!orders.isFirst) setWaiting((n) => n + 1);
    }
    // New orders come first; a later page stays as it is, so that no row jumps away.
    if (orders.isFirst || orders.rows.some((order) => order.id === event.aggregate_id)) refresh();
  });
  const set = (name) => (value) => setParams({ [name]: value }, { replace: true });
  return html`
    <${PageHead} title="Orders" />
    <div class="filters">
      <${Segments} label="Status" value=${filters.status} options=${STATUSES} onChange=${(status) => setParams({ status })} />
    </div>
    <div class="filters">
      <${ParamField} label="Order number, or email address of the buyer" name="q" type="search" class="wide-field" />
      <${Field} label="Delivery" value=${filters.delivery_method} options=${METHODS} onInput=${set("delivery_method")} class="own-row" />
      <${Field} label="From" type="date" value=${filters.from} onInput=${set("from")} />
      <${Field} label="Before" type="date" value=${filters.until} onInput=${set("until")} />
    </div>
    ${waiting > 0 && html`<div class="banner" role="status"><${Icon} name="orders" /><p class="grow">${waiting === 1 ? "A new order came in." : `${number(waiting)} new orders came in.`}</p>
      <${Button} small onClick=${() => { setWaiting(0); setParams({}); }}>Show<//></div>`}
    <${Listing} list=${orders} what="orders" label="Orders" empty="No orders yet. New orders appear here at once." hint="Numbers and email addresses must be complete." rowClass=${(order) => (fresh.has(order.id) ? "new" : "")}
      columns=${[
        { key: "number", label: "Order", cell: (order) => html`<a class="row-link nowrap" href=${href(`/orders/${order.id}`)}>${order.number}</a><span class="sub">${buyer(order)}</span>` },
        { key: "status", label: "Status", narrow: false, cell: (order) => html`<${Badge} of=${order.status} />` },
        { key: "items", label: "Items", narrow: false, cell: (order) => html`<span class="sub">${listed(order.lines.slice(0, 2).map((line) => `${number(line.quantity)} × ${line.title}`))}${order.lines.length > 2 ? ` and ${order.lines.length - 2} more` : ""}</span>` },
        { key: "placed", label: "Placed", align: "end", narrow: false, cell: (order) => html`<${When} at=${order.placed_at} />` },
        { key: "total", label: "Total", align: "end", cell: (order) => html`<b>${money(order.total, order.currency)}</b><span class="narrow"><${Badge} of=${order.status} /></span>` },
      ]} />`;
}

const VERBS = {
  placed: "Placed", edited: "Lines edited", started: "Work started", delivered: "Delivered", canceled: "Canceled",
  units_canceled: "Units canceled", billed: "Bill changed", patched: "Delivery changed", deleted: "Deleted",
  restored: "Restored", erased: "Personal data erased",
};

function address(a) {
  return [[a.street, a.number].filter(Boolean).join(" "), [a.postal_code, a.city].filter(Boolean).join(" "), [a.region, a.country && country(a.country)].filter(Boolean).join(", ")].filter(Boolean).join("\n");
}

function Order({ id }) {
  const read = useRead(`/orders/${id}`, { include_deleted: may("deleted:read") ? true : undefined });
  const history = useRead(`/orders/${id}/history`, { include_deleted: may("deleted:read") ? true : undefined });
  const bills = useRead(may("bills:read") ? `/orders/${id}/bills` : null);
  const [dialog, setDialog] = useState(null);
  const once = useOnce();
  const order = read.data;
  const reload = () => Promise.all([read.reload(), history.reload(), may("bills:read") && bills.reload()]);
  useLive((event) => (event.aggregate_id === id || event.kind === "reset") && reload());

  if (read.error && !order) return html`<${PageHead} title="Order" trail=${[["Orders", "/orders"]]} /><${Problem} error=${read.error} retry=${read.reload} />`;
  if (!order) return html`<${PageHead} title="…" trail=${[["Orders", "/orders"]]} /><${Loading} />`;

  // The version shows whether somebody else has moved the order on in the meantime.
  const move = (verb, done) => attempt(async () => {
    try {
      await post(`/orders/${id}/${verb}`, undefined, { version: order.version, once });
    } finally {
      await reload();
    }
  }, done);
  const canWrite = may("orders:write") && !order.deleted_at;
  const canCancel = canWrite && ["pending", "in_progress"].includes(order.status);
  const { currency } = order;
  const names = new Map(order.lines.map((line) => [line.id, line.title]));

  return html`
    <${PageHead} title=${order.number} trail=${[["Orders", "/orders"]]} badge=${html`<${Badge} of=${order.status} />${order.deleted_at && html` <${Badge} tone="bad">Deleted<//>`}`}
      note=${html`Placed <${When} at=${order.placed_at} /> by ${buyer(order)}`}>
      ${may("bills:read") && html`<${Button} key="explain" onClick=${() => setDialog("explain")}>Explain the amounts<//>`}
      ${canCancel && html`<${Button} key="cancel" kind="danger" onClick=${() => setDialog("cancel")}>Cancel…<//>`}
      ${canWrite && order.status === "pending" && html`<${Button} key="start" kind="main" onClick=${() => move("start", "Work on the order has started.")}>Start the work<//>`}
      ${canWrite && order.status === "in_progress" && html`<${Button} key="deliver" kind="main" onClick=${() => move("deliver", "The order is delivered.")}>Mark as delivered<//>`}
    <//>
    <div class="split">
      <div class="stack">
        <${Card} title="Items">
          <${Table} label="Lines" rows=${order.lines} empty="This order has no items." rowClass=${(line) => (line.canceled === line.quantity ? "muted" : "")} columns=${[
            { key: "title", label: "Item", cell: (line) => html`${line.product_id ? html`<a class="row-link" href=${href(`/catalog/${line.product_id}`)}>${line.title}</a>` : html`<b>${line.title}</b>`}
              <span class="sub">${[line.code, Object.values(line.options).join(", ")].filter(Boolean).join(" · ")}</span>` },
            { key: "quantity", label: "Units", align: "end", cell: (line) => html`${number(line.quantity)}${line.canceled > 0 && html`<span class="sub" data-canceled=${line.id}>${number(line.canceled)} canceled</span>`}` },
            { key: "price", label: "Price", align: "end", narrow: false, cell: (line) => html`${money(line.unit_price, currency)}${line.list_price !== line.unit_price && html`<span class="sub"><s>${money(line.list_price, currency)}</s></span>`}` },
            { key: "total", label: "Total", align: "end", cell: (line) => money(line.total, currency) },
          ]} />
        <//>
        <${Card} title="Amounts">
          <dl class="facts spread">
            <dt>Subtotal</dt><dd>${money(order.subtotal, currency)}</dd>
            ${Number(order.shipping) !== 0 && html`<dt>Shipping</dt><dd>${money(order.shipping, currency)}</dd>`}
            ${Number(order.discount) !== 0 && html`<dt>Discount</dt><dd>−${money(order.discount, currency)}</dd>`}
            ${Number(order.tax_added) !== 0 && html`<dt>Tax</dt><dd>${money(order.tax_added, currency)}</dd>`}
            <dt class="total">Total</dt><dd class="total">${money(order.total, currency)}</dd>
            ${Number(order.tax_included) !== 0 && html`<dt>Includes tax</dt><dd>${money(order.tax_included, currency)}</dd>`}
          </dl>
        <//>
        ${may("bills:read") && html`<${Bills} order=${order} bills=${bills} onDone=${reload} />`}
      </div>
      <div class="stack">
        <${Delivery} order=${order} canWrite=${canCancel} onDone=${reload} />
        <${Card} title="Buyer">
          <dl class="facts">
            <dt>Name</dt><dd>${order.customer_id && may("customers:read") ? html`<a href=${href(`/customers/${order.customer_id}`)}>${buyer(order)}</a>` : buyer(order)}${order.customer_id ? "" : html` <small>guest</small>`}</dd>
            <dt>Email</dt><dd>${order.customer.email ?? "–"}</dd>
            <dt>Telephone</dt><dd>${order.customer.telephone ?? "–"}</dd>
          </dl>
        <//>
        <${Card} title="History">
          <${Problem} error=${history.error} retry=${history.reload} />
          <ol class="history">${[...(history.data ?? [])].reverse().map((entry) => html`<li key=${entry.seq}>
            <b>${VERBS[entry.kind] ?? words(entry.kind)}</b>${entry.kind === "billed" && entry.data.paid ? ": paid" : ""}
            ${entry.data.lines?.length > 0 && html`<p class="hint">${entry.data.lines.map((line) => `${names.get(line.line_id) ?? "a removed line"}: ${line.quantity !== undefined ? number(line.quantity) : `${number(line.from)} → ${number(line.to)}`}`).join("; ")}</p>`}
            <p class="hint"><${When} at=${entry.at} exact /> by ${who(entry.actor)}</p>
          </li>`)}</ol>
        <//>
      </div>
    </div>
    ${dialog === "cancel" && html`<${Cancel} order=${order} onClose=${() => setDialog(null)} onDone=${reload} />`}
    ${dialog === "explain" && html`<${Explain} order=${order} onClose=${() => setDialog(null)} />`}`;
}

function Delivery({ order, canWrite, onDone }) {
  const [tracking, setTracking] = useState(order.tracking ?? "");
  const [error, setError] = useState(null);
  useEffect(() => setTracking(order.tracking ?? ""), [order.tracking]);
  const save = async () => {
    setError(null);
    try {
      await patch(`/orders/${order.id}`, { tracking: tracking || null }, order.version);
      note("Saved.");
    } catch (reason) {
      setError(reason);
    }
    await onDone();
  };
  return html`<${Card} title="Delivery">
    <dl class="facts">
      <dt>Method</dt><dd>${METHODS.find(([key]) => key === order.delivery_method)?.[1]}</dd>
      ${order.shipping_address && html`<dt>Ship to</dt><dd>${address(order.shipping_address).split("\n").map((line) => html`<span key=${line}>${line}<br /></span>`)}</dd>`}
      ${order.billing_address && html`<dt>Bill to</dt><dd>${address(order.billing_address).split("\n").map((line) => html`<span key=${line}>${line}<br /></span>`)}</dd>`}
      ${!canWrite && html`<dt>Tracking</dt><dd>${order.tracking ?? "–"}</dd>`}
    </dl>
    ${canWrite && html`<${Form} class="options-row" onSubmit=${save}>
      <${Field} label="Tracking reference" value=${tracking} onInput=${setTracking} error=${error && (error.of("tracking") ?? error.message)} />
      ${tracking !== (order.tracking ?? "") && html`<${Button} type="submit">Save<//>`}
    <//>`}
  <//>`;
}

function Bills({ order, bills, onDone }) {
  // The payment is a change of the order, too. It increases the version of the order by one; anything more is an edit of
  // somebody else.
  const pay = (bill) => attempt(() => write(`/orders/${order.id}`, order.version, async (version) => {
    let latest;
    try {
      await patch(`/bills/${bill.id}`, { paid: true }, bill.version);
    } finally {
      [latest] = await onDone();
    }
    return { data: latest?.version === version + 1 ? latest : undefined };
  }), bill.kind === "bill" ? "The bill is paid." : "The refund is recorded.");
  const name = (bill) => (bill.kind === "bill" ? "Bill" : "Credit note");
  return html`<${Card} title="Bills">
    <${Problem} error=${bills.error} retry=${bills.reload} />
    <${Table} label="Bills" rows=${bills.data ?? []} error=${bills.error} busy=${bills.busy && !bills.data} empty="No bills." columns=${[
      { key: "number", label: "Number", cell: (bill) => html`<b class="nowrap">${bill.number}</b><span class="sub">${name(bill)} · ${words(bill.payment_type)} · <${When} at=${bill.date} /></span>` },
      { key: "status", label: "Status", cell: (bill) => html`<${Badge} of=${bill.status}>${bill.kind !== "bill" && bill.status === "open" ? "To refund" : bill.kind !== "bill" && bill.status === "paid" ? "Refunded" : undefined}<//>
        ${may("bills:write") && bill.status === "open" && html` <${Button} small onClick=${() => pay(bill)}>${bill.kind === "bill" ? "Mark as paid" : "Mark as refunded"}<//>`}` },
      { key: "total", label: "Total", align: "end", cell: (bill) => html`${bill.kind !== "bill" ? "−" : ""}${money(bill.total, bill.currency)}` },
    ]} />
  <//>`;
}

function Cancel({ order, onClose, onDone }) {
  const path = `/orders/${order.id}`;
  const lines = order.lines.filter((line) => line.quantity > line.canceled);
  // The order follows the events of others. After a change, the first press of the button only confirms that it was seen.
  const [seen, setSeen] = useState(order.version);
  const [isSending, setSending] = useState(false);
  // Which version a write of this page has made is known when the write ends. `settled` is a version of the order that
  // was shown when no such write was under way any more, so it does not come from one whose version is not known yet.
  const [settled, setSettled] = useState(order.version);
  useEffect(() => void written(path).then(() => setSettled(order.version)), [order.version]);
  // A request without an answer, which may have been done: pressing the button again repeats it as it was.
  const [unanswered, setUnanswered] = useState(null);
  const once = useOnce();
  const [isWhole, setWhole] = useState(false);
  const [units, setUnits] = useState({});
  const [error, setError] = useState(null);
  const left = (line) => line.quantity - line.canceled;
  const chosen = lines.map((line) => ({ line_id: line.id, quantity: isWhole ? left(line) : Number(units[line.id] ?? 0) })).filter((one) => one.quantity !== 0);
  const total = chosen.reduce((sum, one) => sum + one.quantity, 0);
  const choice = JSON.stringify([isWhole, units]);
  const isRepeated = unanswered?.choice === choice;
  const isOther = settled === order.version && currentVersion(path, order.version) !== currentVersion(path, seen);
  const isChanged = isOther && !isSending && !isRepeated;
  const submit = async () => {
    setError(null);
    if (isChanged) return setSeen(order.version);
    // The API cancels a whole order without a version, and so also the lines that somebody has added in the meantime. If
    // all units that are left are named, it does the same, but checks the version. An order without units has none to name.
    let input;
    setSending(true);
    try {
      await write(path, seen, (version, signal) => {
        input = isRepeated ? unanswered.input : { lines: chosen, version };
        return post(`${path}/cancel`, input, { once, signal });
      });
      note(isWhole ? "The order is canceled, and its stock is back." : `${number(total)} ${total === 1 ? "unit is" : "units are"} canceled, and the stock is back.`);
      await onDone();
      onClose();
    } catch (reason) {
      setError(reason);
      setUnanswered(reason.isUnknown ? { choice, input } : null);
      if (reason.isConflict) {
        const [latest] = await onDone();
        if (latest) setSeen(latest.version);
      }
      setSending(false);
    }
  };
  return html`<${Dialog} title=${`Cancel ${order.number}`} onClose=${onClose}>
    <${Form} class="form" onSubmit=${submit}>
      <p class="hint">Stock goes back at once. Paid bills get credit notes, and open bills become void or get credit notes.</p>
      <${Check} label="The whole order" checked=${isWhole} onChange=${setWhole} />
      <${Table} label="Units to cancel" rowKey=${(line) => line.id} rows=${lines} empty="No units are left." columns=${[
        { key: "title", label: "Item", cell: (line) => html`<b>${line.title}</b><span class="sub">${line.code}</span>` },
        { key: "left", label: "Left", align: "end", cell: (line) => number(left(line)) },
        { key: "cancel", label: "Cancel", align: "end", cell: (line) => (isWhole ? number(left(line)) : html`<input class="units" type="number" inputmode="numeric" min="0" max=${left(line)} aria-label=${`Units of ${line.title} to cancel`}
            value=${units[line.id] ?? ""} placeholder="0" onInput=${(event) => setUnits({ ...units, [line.id]: event.currentTarget.value })} />`) },
      ]} />
      ${error?.isConflict || isChanged ? html`<div class="banner warn" role="alert"><${Icon} name="alert" /><p>Somebody else has changed this order in the meantime. This window shows its current state: check the units and try again.</p></div>` : html`<${Problem} error=${error} />`}
      <div class="actions end"><${Button} onClick=${onClose}>Keep the order<//>
        <${Button} type="submit" kind="danger" disabled=${!isWhole && total === 0}>${isWhole ? "Cancel the whole order" : total === 1 ? "Cancel 1 unit" : total === 0 ? "Cancel units" : `Cancel ${number(total)} units`}<//></div>
    <//>
  <//>`;
}

function Explain({ order, onClose }) {
  const { data, error, reload } = useRead(`/orders/${order.id}/explain`);
  const groups = useMemo(() => {
    const all = new Map();
    for (const amount of data?.amounts ?? []) {
      if (!all.has(amount.of.id)) all.set(amount.of.id, { label: amount.of.label, amounts: [] });
      all.get(amount.of.id).amounts.push(amount);
    }
    return [...all.values()].reverse();
  }, [data]);
  return html`<${Dialog} title="How the amounts are computed" wide onClose=${onClose}>
    <${Problem} error=${error} retry=${reload} />
    <div class="stack">${groups.map((group, i) => html`<section key=${i} class="explain"><h3 class="first-up">${group.label}</h3>
      ${group.amounts.filter((one) => Number(one.amount) !== 0 || one.parts.length > 1).map((one) => html`<details key=${one.of.name} open=${i === 0 && one.of.name === "due"}>
        <summary><span>${words(one.of.name)}</span><b>${money(one.amount, data.currency)}</b></summary>
        <p class="formula">${one.formula}</p>
        <dl class="facts spread">${one.parts.map((part, n) => html`<dt key=${`l${n}`}>${part.label}</dt><dd key=${`a${n}`}>${money(part.amount, data.currency)}</dd>`)}</dl>
      </details>`)}
    </section>`)}</div>
  <//>`;
}
