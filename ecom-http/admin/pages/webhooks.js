import { html, useState } from "../lib/html.js";
import { patch, post, remove } from "../lib/api.js";
import { may } from "../lib/session.js";
import { useList, useRead, useRoute } from "../lib/data.js";
import { href, setParams } from "../lib/router.js";
import { count, duration, number, words } from "../lib/format.js";
import { Badge, Button, Card, Check, Dialog, Field, Form, Listing, PageHead, Problem, Secret, Segments, Table, When, attempt, confirm, note } from "../lib/ui.js";
import { usePolling } from "./jobs.js";

/** The kinds of events that receivers ask for most often; others can be typed. */
const KINDS = [
  "order.placed", "order.updated", "order.started", "order.delivered", "order.units_canceled", "order.canceled", "order.paid",
  "product.created", "product.updated", "product.deleted", "stock.changed", "stock.low", "customer.created", "customer.updated",
];
const STATES = [["", "All"], ["pending", "Pending"], ["succeeded", "Delivered"], ["failed", "Failed"]];

export default function Webhooks() {
  const { query } = useRoute();
  // A shop has at most 100 webhooks (`Webhook::MAX`), so this is all of them.
  const hooks = useRead("/webhooks", { cursor: "", per_page: 100 });
  const filters = { state: query.get("state") ?? "", webhook_id: query.get("webhook_id") ?? "" };
  const deliveries = useList("/webhooks/deliveries", filters);
  usePolling(() => { deliveries.reload(); hooks.reload(); }, deliveries.isFirst, 3_000);
  const [isNew, setNew] = useState(false);
  const [secret, setSecret] = useState(null);
  const [shown, setShown] = useState(null);
  const canWrite = may("webhooks:write");
  const urls = new Map((hooks.data ?? []).map((hook) => [hook.id, hook.url]));
  const act = (work, done) => attempt(async () => {
    try {
      return await work();
    } finally {
      await Promise.all([hooks.reload(), deliveries.reload()]);
    }
  }, done);
  const rotate = async (hook) => {
    if (!(await confirm("Replace the secret?", { text: "The new secret is shown once. The current one stays valid for one more day.", action: "Replace" }))) return;
    const answer = await act(() => post(`/webhooks/${hook.id}/rotate-secret`));
    if (answer?.data) setSecret(answer.data);
  };
  const removeIt = async (hook) => {
    if (await confirm("Delete this webhook?", { text: `${hook.url} gets no more events, and its deliveries are deleted.`, action: "Delete", danger: true })) {
      await act(() => remove(`/webhooks/${hook.id}`, hook.version), "The webhook was deleted.");
    }
  };
  return html`
    <${PageHead} title="Webhooks">
      ${canWrite && html`<${Button} kind="main" icon="plus" onClick=${() => setNew(true)}>New webhook<//>`}
    <//>
    <div class="stack">
      <${Card} title="Receivers">
        <${Problem} error=${hooks.error} retry=${hooks.reload} />
        <${Table} label="Webhooks" rows=${hooks.data ?? []} error=${hooks.error} busy=${hooks.busy && !hooks.data} empty="No webhooks yet. A webhook sends the events of the shop to another system." columns=${[
          { key: "url", label: "Receiver", cell: (hook) => html`<b class="url">${hook.url}</b><span class="sub">${hook.description ?? ""} ${hook.events.join(", ")}</span>` },
          { key: "state", label: "State", cell: (hook) => (hook.enabled
              ? html`<${Badge} tone=${hook.failures ? "warn" : "good"}>${hook.failures ? count(hook.failures, "failure") : "On"}<//>`
              : html`<${Badge} tone="plain">${hook.off_reason ? `Off: ${words(hook.off_reason).toLowerCase()}` : "Off"}<//>`) },
          { key: "last", label: "Last delivery", align: "end", narrow: false, cell: (hook) => html`<${When} at=${hook.succeeded_at} />` },
          { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (hook) => canWrite && html`<div class="actions wrap">
            <${Button} small onClick=${() => act(() => post(`/webhooks/${hook.id}/test`), "A test was sent.")}>Test<//>
            <${Button} small onClick=${() => act(() => patch(`/webhooks/${hook.id}`, { enabled: !hook.enabled }, hook.version), hook.enabled ? "The webhook is off." : "The webhook is on.")}>${hook.enabled ? "Pause" : "Switch on"}<//>
            <${Button} small kind="quiet" onClick=${() => rotate(hook)}>New secret<//>
            <${Button} small kind="quiet" icon="trash" aria-label=${`Delete ${hook.url}`} onClick=${() => removeIt(hook)} />
          </div>` },
        ]} />
      <//>
      <div>
        <h2 class="above">Deliveries</h2>
        <div class="filters">
          <${Segments} label="State" value=${filters.state} options=${STATES} onChange=${(state) => setParams({ state })} />
          <span class="grow"></span>
          <${Field} label="Receiver" value=${filters.webhook_id} onInput=${(webhook_id) => setParams({ webhook_id })} options=${[["", "All receivers"], ...urls]} class="wide-field" />
        </div>
        <${Listing} list=${deliveries} what="deliveries" label="Deliveries" empty="No deliveries yet."
          columns=${[
            { key: "kind", label: "Event", cell: (one) => html`<a class="row-link" href=${href("/webhooks", {})} onClick=${(event) => { event.preventDefault(); setShown(one); }}>${one.kind}</a><span class="sub">${one.error ?? urls.get(one.webhook_id) ?? ""}</span>` },
            { key: "state", label: "State", cell: (one) => html`<${Badge} of=${one.state} />` },
            { key: "status", label: "Answer", align: "end", narrow: false, cell: (one) => (one.status ? html`${one.status}<span class="sub">${one.duration_ms != null ? duration(one.duration_ms) : ""}</span>` : "–") },
            { key: "attempts", label: "Attempts", align: "end", narrow: false, cell: (one) => number(one.attempts) },
            { key: "at", label: "Event at", align: "end", narrow: false, cell: (one) => html`<${When} at=${one.created_at} />` },
            { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (one) => canWrite && html`<${Button} small icon="refresh" onClick=${() => act(() => post(`/webhooks/deliveries/${one.id}/replay`), "It is delivered again.")}>Replay<//>` },
          ]} />
      </div>
    </div>
    ${isNew && html`<${Create} onClose=${() => setNew(false)} onDone=${(made) => { setNew(false); setSecret(made); hooks.reload(); }} onUnknown=${hooks.reload} />`}
    ${secret && html`<${Secret} title="The secret of the webhook" hint="The receiver verifies signatures with it. Nobody can read it again." text=${secret.secret} onClose=${() => setSecret(null)} />`}
    ${shown && html`<${Dialog} title=${shown.kind} wide onClose=${() => setShown(null)}>
      <dl class="facts"><dt>State</dt><dd><${Badge} of=${shown.state} /></dd><dt>Last attempt</dt><dd><${When} at=${shown.attempted_at} exact /></dd>
        ${shown.next_attempt_at && html`<dt>Next attempt</dt><dd><${When} at=${shown.next_attempt_at} exact /></dd>`}
        ${shown.error && html`<dt>Error</dt><dd>${shown.error}</dd>`}${shown.response && html`<dt>Answer</dt><dd><code>${shown.response}</code></dd>`}</dl>
      <h3>Message</h3><pre tabindex="0">${JSON.stringify(shown.payload, null, 2)}</pre>
    <//>`}`;
}

function Create({ onClose, onDone, onUnknown }) {
  const [values, setValues] = useState({ url: "", description: "", events: ["order.placed"], other: "" });
  const [error, setError] = useState(null);
  const submit = async () => {
    setError(null);
    const events = [...values.events, ...values.other.split(/[\s,]+/).filter(Boolean)];
    try {
      onDone((await post("/webhooks", { url: values.url, description: values.description || undefined, events })).data);
      note("The webhook was created.");
    } catch (reason) {
      setError(reason);
      if (reason.isUnknown) onUnknown();
    }
  };
  const toggle = (kind) => (on) => setValues({ ...values, events: on ? [...values.events, kind] : values.events.filter((one) => one !== kind) });
  const aboutEvents = error?.details.find((detail) => detail.field?.startsWith("events"))?.message;
  return html`<${Dialog} title="New webhook" onClose=${onClose}><${Form} class="form" onSubmit=${submit}>
    <${Field} label="URL of the receiver" type="url" placeholder="https://…" value=${values.url} onInput=${(url) => setValues({ ...values, url })} error=${error?.of("url")} />
    <${Field} label="Description" value=${values.description} onInput=${(description) => setValues({ ...values, description })} error=${error?.of("description")} />
    <fieldset class="form"><legend class="label">Events</legend><div class="columns tight">${KINDS.map((kind) => html`<${Check} key=${kind} label=${kind} checked=${values.events.includes(kind)} onChange=${toggle(kind)} />`)}</div></fieldset>
    <${Field} label="Other kinds of events" value=${values.other} onInput=${(other) => setValues({ ...values, other })} error=${aboutEvents} placeholder="review.created, cart.updated" />
    ${error && error.details.length === 0 && html`<${Problem} error=${error} />`}
    ${error?.isUnknown && html`<p class="hint">The webhook may have been created all the same. Look in the list before you try again, and delete a webhook whose secret you have not seen.</p>`}
    <div class="actions end"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="main">Create<//></div>
  <//><//>`;
}
