import { html, useEffect } from "../lib/html.js";
import { download, post } from "../lib/api.js";
import { may, who } from "../lib/session.js";
import { useList, useRead, useRoute } from "../lib/data.js";
import { go, href, setParams } from "../lib/router.js";
import { duration, number, words } from "../lib/format.js";
import { Badge, Button, Card, Listing, Loading, PageHead, ParamField, Problem, Segments, Table, When, attempt, confirm } from "../lib/ui.js";

export default function Jobs({ id }) {
  return id ? html`<${Job} id=${id} />` : html`<${List} />`;
}

const STATES = [["", "All"], ["queued", "Waiting"], ["running", "Running"], ["succeeded", "Done"], ["failed", "Failed"], ["canceled", "Canceled"]];
const isOver = (job) => ["succeeded", "failed", "canceled"].includes(job.state);

/** Jobs have no live events, so what still runs is read again, a while apart. */
export function usePolling(reload, isNeeded, pause = 1_500) {
  useEffect(() => {
    if (!isNeeded) return undefined;
    const timer = setInterval(() => document.hidden || reload(), pause);
    return () => clearInterval(timer);
  }, [reload, isNeeded, pause]);
}

const took = (job) => (job.started_at && job.finished_at ? duration(new Date(job.finished_at) - new Date(job.started_at)) : "–");
const counters = (job) => Object.entries(job.counters).map(([name, n]) => `${words(name).toLowerCase()} ${number(n)}`).join(", ");

function Queues() {
  const queues = useRead("/admin/job-queues");
  usePolling(queues.reload, true, 4_000);
  const act = (queue, verb) => attempt(async () => {
    await post(`/admin/job-queues/${encodeURIComponent(queue.kind)}/${verb}`);
    await queues.reload();
  }, verb === "pause" ? `No more jobs of “${queue.kind}” begin.` : `Jobs of “${queue.kind}” begin again.`);
  return html`<${Card} title="Queues">
    <${Problem} error=${queues.error} retry=${queues.reload} />
    <${Table} label="Queues" rows=${queues.data ?? []} error=${queues.error} busy=${queues.busy && !queues.data} rowKey=${(queue) => queue.kind} columns=${[
      { key: "kind", label: "Kind", cell: (queue) => html`<b>${words(queue.kind)}</b> ${queue.paused && html`<${Badge} tone="warn">Paused<//>`}` },
      ...[["queued", "Waiting"], ["running", "Running"], ["succeeded", "Done"], ["failed", "Failed"]].map(([state, label]) => ({
        key: state, label, align: "end", narrow: state === "queued" || state === "failed",
        cell: (queue) => (queue.jobs[state] ? html`<a href=${href("/jobs", { kind: queue.kind, state })}>${state === "failed" ? html`<${Badge} tone="bad">${number(queue.jobs[state])}<//>` : number(queue.jobs[state])}</a>` : html`<span class="muted">0</span>`),
      })),
      { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (queue) => may("jobs:write") && (queue.paused
          ? html`<${Button} small onClick=${() => act(queue, "resume")} aria-label=${`Resume ${queue.kind}`}>Resume<//>`
          : html`<${Button} small kind="quiet" onClick=${() => act(queue, "pause")} aria-label=${`Pause ${queue.kind}`}>Pause<//>`) },
    ]} />
  <//>`;
}

function List() {
  const { query } = useRoute();
  const filters = { state: query.get("state") ?? "", kind: query.get("kind") ?? "" };
  const jobs = useList("/admin/jobs", filters);
  usePolling(jobs.reload, jobs.isFirst);
  const begin = async (path, input, what) => {
    const job = await attempt(() => post(path, input), `${what} waits to run.`);
    if (job?.data) go(`/jobs/${job.data.id}`);
  };
  return html`
    <${PageHead} title="Jobs">
      ${may("index:write") && html`<${Button} onClick=${() => begin("/admin/verify", { repair: true }, "The check of the index")}>Check the index<//>
        <${Button} onClick=${async () => (await confirm("Build a new search index?", { text: "Searches use the old index until the new one is ready.", action: "Build" })) && begin("/admin/reindex", undefined, "The new index")}>Rebuild the index<//>`}
      ${may("jobs:write") && html`<${Button} onClick=${() => begin("/analytics/rebuild", undefined, "The computation of all figures")}>Recompute the figures<//>`}
    <//>
    <div class="stack">
      <${Queues} />
      <div>
        <div class="filters">
          <${Segments} label="State" value=${filters.state} options=${STATES} onChange=${(state) => setParams({ state })} />
          <span class="grow"></span>
          <${ParamField} label="Kind" name="kind" placeholder="import, mail, reindex …" class="wide-field" />
        </div>
        <${Listing} list=${jobs} what="jobs" label="Jobs" empty="No jobs yet."
          columns=${[
            { key: "kind", label: "Job", cell: (job) => html`<a class="row-link" href=${href(`/jobs/${job.id}`)}>${words(job.kind)}</a><span class="sub">${job.last_error && job.state !== "succeeded" ? job.last_error : counters(job)}</span>` },
            { key: "state", label: "State", cell: (job) => html`<${Badge} of=${job.state} />` },
            { key: "attempts", label: "Attempts", align: "end", narrow: false, cell: (job) => number(job.attempts) },
            { key: "took", label: "Took", align: "end", narrow: false, cell: took },
            { key: "at", label: "Created", align: "end", narrow: false, cell: (job) => html`<${When} at=${job.created_at} />` },
            { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (job) => html`<${Actions} job=${job} onDone=${jobs.reload} small />` },
          ]} />
      </div>
    </div>`;
}

function Actions({ job, onDone, small }) {
  if (!may("jobs:write") || job.kind === "import") return null;
  const act = (verb, done) => attempt(async () => {
    await post(`/admin/jobs/${job.id}/${verb}`);
    await onDone();
  }, done);
  if (job.state === "failed" || job.state === "canceled") return html`<${Button} key="retry" small=${small} kind=${small ? "" : "main"} icon="refresh" onClick=${() => act("retry", "The job runs again.")}>Retry<//>`;
  if (!isOver(job)) return html`<${Button} key="cancel" small=${small} kind=${small ? "quiet" : "danger"} onClick=${() => act("cancel", "The job is canceled.")}>Cancel<//>`;
  return null;
}

function Job({ id }) {
  const read = useRead(`/admin/jobs/${id}`);
  const job = read.data;
  usePolling(read.reload, job && !isOver(job), 1_000);
  if (read.error && !job) return html`<${PageHead} title="Job" trail=${[["Jobs", "/jobs"]]} /><${Problem} error=${read.error} retry=${read.reload} />`;
  if (!job) return html`<${PageHead} title="…" trail=${[["Jobs", "/jobs"]]} /><${Loading} />`;
  return html`
    <${PageHead} title=${words(job.kind)} trail=${[["Jobs", "/jobs"]]} badge=${html`<${Badge} of=${job.state} />`} note=${html`Created <${When} at=${job.created_at} /> by ${who(job.created_by)}`}>
      ${job.kind === "import" && (job.counters.rejected ?? 0) > 0 && html`<${Button} icon="imports" onClick=${() => attempt(() => download(`/admin/jobs/${id}/rejected`, `rejected-${id}.ndjson`))}>Rejected records<//>`}
      <${Actions} job=${job} onDone=${read.reload} />
    <//>
    ${job.last_error && html`<div class="problem"><div><p><b>The last run failed.</b> ${job.last_error}</p></div></div>`}
    <div class="grid">
      <${Card} title="Progress"><dl class="counts">
        ${Object.entries(job.counters).map(([name, n]) => html`<div key=${name} class=${["rejected", "refused", "dropped"].includes(name) && n ? "bad" : ""}><dt>${words(name)}</dt><dd>${number(n)}</dd></div>`)}
        ${Object.keys(job.counters).length === 0 && html`<p class="hint">Nothing counted yet.</p>`}
      </dl><//>
      <${Card} title="Details"><dl class="facts">
        <dt>Attempts</dt><dd>${number(job.attempts)}</dd>
        <dt>Priority</dt><dd>${words(job.priority)}</dd>
        <dt>Runs after</dt><dd><${When} at=${job.run_after} exact /></dd>
        <dt>Began</dt><dd><${When} at=${job.started_at} exact /></dd>
        <dt>Ended</dt><dd><${When} at=${job.finished_at} exact /></dd>
        <dt>Took</dt><dd>${took(job)}</dd>
      </dl><//>
    </div>
    ${Object.keys(job.parameters).length > 0 && html`<${Card} title="Parameters" class="spaced"><pre tabindex="0">${JSON.stringify(job.parameters, null, 2)}</pre><//>`}`;
}
