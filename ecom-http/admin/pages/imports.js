import { html, useRef, useState } from "../lib/html.js";
import { download, post, upload } from "../lib/api.js";
import { may, me } from "../lib/session.js";
import { useRead } from "../lib/data.js";
import { href } from "../lib/router.js";
import { bytes, count, number, percent, words } from "../lib/format.js";
import { Badge, Button, Card, Check, Field, Icon, PageHead, Problem, Table, When, attempt, note } from "../lib/ui.js";
import { usePolling } from "./jobs.js";

const FORMATS = [["", "Detect it from the file"], ["csv", "CSV with our columns"], ["shopify", "Shopify (CSV)"], ["woocommerce", "WooCommerce (CSV)"], ["json", "JSON"], ["ndjson", "NDJSON"], ["dead_letters", "Corrected records that an import rejected"]];
const typeOf = (name) =>
  /\.(csv|tsv)(\.gz)?$/i.test(name) ? "text/csv" : /\.(ndjson|jsonl)(\.gz)?$/i.test(name) ? "application/x-ndjson" : /\.json(\.gz)?$/i.test(name) ? "application/json" : "application/octet-stream";

export default function Imports() {
  const [file, setFile] = useState(null);
  const [options, setOptions] = useState({ format: "", source: "", create_categories: true });
  const [run, setRun] = useState(null);
  const [result, setResult] = useState(null);
  const [error, setError] = useState(null);
  const [isOver, setOver] = useState(false);
  const jobs = useRead(may("jobs:read") ? "/admin/jobs" : null, { kind: "import", cursor: "", per_page: 8 });

  const choose = (chosen) => {
    setFile(chosen ?? null);
    setResult(null);
    setError(null);
  };
  const start = async (dryRun) => {
    setError(null);
    setResult(null);
    setRun({ dryRun, sent: 0, counters: {} });
    try {
      const query = { ...options, dry_run: dryRun, create_categories: options.create_categories };
      const data = await upload("/ingest/products", file, { query, type: typeOf(file.name), onSent: (sent) => setRun((old) => old && { ...old, sent }) });
      setResult(data);
      note(dryRun ? "The file was checked, and nothing was written." : "The import is done.");
    } catch (reason) {
      setError(reason);
    } finally {
      setRun(null);
      if (may("jobs:read")) jobs.reload();
    }
  };
  const letters = (job) => attempt(() => download(`/admin/jobs/${job}/rejected`, `rejected-${job}.ndjson`));
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    choose(event.dataTransfer.files[0]);
  };
  return html`
    <${PageHead} title="Imports" note="Products from CSV, JSON, Shopify or WooCommerce. A file can be imported again: records that have not changed are not written." />
    <div class="split">
      <div class="stack">
        <${Card}>
          <div class="form">
            <div class=${`drop ${isOver ? "over" : ""}`} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
              <${Icon} name="imports" />
              <p>${file ? html`<b>${file.name}</b> <small>${bytes(file.size)}</small>` : html`<b>Drop a file here</b>, or click to choose one`}</p>
              <input type="file" aria-label="File to import" accept=".csv,.json,.ndjson,.jsonl,.gz" onChange=${(event) => choose(event.currentTarget.files[0])} disabled=${Boolean(run)} />
            </div>
            <div class="columns">
              <${Field} label="Format" options=${FORMATS} value=${options.format} onInput=${(format) => setOptions({ ...options, format })} error=${error?.of("format")} />
              <${Field} label="Source" value=${options.source} onInput=${(source) => setOptions({ ...options, source })} error=${error?.of("source")} placeholder="erp" hint="The system that the ids in the file belong to" />
            </div>
            <${Check} label="Create categories that do not exist" checked=${options.create_categories} onChange=${(create_categories) => setOptions({ ...options, create_categories })} />
            ${run && html`<${Progress} run=${run} />`}
            <${Problem} error=${error && !error.of("format") && !error.of("source") ? error : null} />
            <div class="actions end">
              <${Button} disabled=${!file || run} onClick=${() => start(true)}>Dry run<//>
              <${Button} kind="main" disabled=${!file || run} onClick=${() => start(false)}>Import<//>
            </div>
          </div>
        <//>
        ${result && html`<${Result} result=${result} onLetters=${() => letters(result.job_id)} onImport=${result.dry_run && file ? () => start(false) : undefined} />`}
      </div>
      <div class="stack">
        ${may("jobs:read") && html`<${Card} title="Earlier imports">
          <${Problem} error=${jobs.error} retry=${jobs.reload} />
          ${jobs.data?.length === 0 && html`<p class="empty">None yet.</p>`}
          <ul class="ranked">${jobs.data?.map((job) => html`<li key=${job.id}>
            <span><a href=${href(`/jobs/${job.id}`)}><${When} at=${job.created_at} exact /></a>
              <small class="sub block">${number(job.counters.read ?? 0)} read${job.parameters.dry_run ? ", dry run" : ""}${job.counters.rejected ? `, ${number(job.counters.rejected)} rejected` : ""}</small></span>
            <${Badge} of=${job.state} />
          </li>`)}</ul>
        <//><${Feeds} />`}
      </div>
    </div>`;
}

function Progress({ run }) {
  const [since] = useState(() => Date.now());
  // The job of the import counts while it runs.
  const jobs = useRead(may("jobs:read") ? "/admin/jobs" : null, { kind: "import", state: "running", cursor: "", per_page: 25 });
  usePolling(jobs.reload, true, 700);
  const isThis = (job) => job.created_by === me.value?.actor && Boolean(job.parameters.dry_run) === run.dryRun && Date.parse(job.created_at) > since - 60_000;
  const last = useRef({});
  const counters = jobs.data?.find(isThis)?.counters ?? last.current;
  last.current = counters;
  const isSent = run.sent >= 1;
  return html`<div class="progress" role="status">
    ${isSent ? html`<progress aria-label="Import"></progress>` : html`<progress aria-label="Upload" max="1" value=${run.sent}></progress>`}
    <p class="hint">${isSent ? "The file has arrived; the last records are being imported." : `${percent(run.sent).replace("+", "")} sent.`}
      ${counters.read ? ` ${number(counters.read)} records read${counters.rejected ? `, ${number(counters.rejected)} rejected` : ""}.` : ""}</p>
  </div>`;
}

function Result({ result, onLetters, onImport }) {
  const rejected = result.rows.filter((row) => row.result === "rejected");
  const counts = [["read", "Read"], ["inserted", "New"], ["updated", "Changed"], ["unchanged", "Unchanged"], ["rejected", "Rejected"], ["categories_created", "New categories"]];
  const unknown = Object.entries(result.unknown_fields);
  return html`<${Card} title=${result.dry_run ? "What an import would do" : "Result"} actions=${html`
      ${result.rejected > 0 && may("jobs:read") && html`<${Button} small icon="imports" onClick=${onLetters}>Download rejected records<//>`}
      ${onImport && html`<${Button} small kind="main" onClick=${onImport}>Import now<//>`}`}>
    <dl class="counts">${counts.map(([name, label]) => html`<div key=${name} class=${name === "rejected" && result.rejected ? "bad" : ""}><dt>${label}</dt><dd data-count=${name}>${number(result[name])}</dd></div>`)}</dl>
    ${result.ended_early && html`<div class="banner warn"><${Icon} name="alert" /><p><b>The file could not be read to its end.</b> Line ${number(result.ended_early.line)}: ${result.ended_early.reason}. The records before it are imported.</p></div>`}
    ${unknown.length > 0 && html`<p class="hint">Ignored, because unknown: ${unknown.map(([name, n]) => `${name} (${number(n)})`).join(", ")}.</p>`}
    ${rejected.length > 0 && html`<h3>Rejected</h3><${Table} label="Rejected records" rows=${rejected} rowKey=${(row) => row.index} columns=${[
      { key: "line", label: "Line", align: "end", cell: (row) => number(row.line) },
      { key: "id", label: "Record", narrow: false, cell: (row) => row.external_id ?? "–" },
      { key: "why", label: "Reason", cell: (row) => (row.error.details.length
          ? html`<ul>${row.error.details.map((detail, i) => html`<li key=${i}><b>${detail.field}</b> ${detail.message}</li>`)}</ul>` : row.error.message) },
    ]} />`}
    ${result.rows_are === "rejected" && result.rejected > rejected.length && html`<p class="hint">Download the rejected records to see all of them.</p>`}
  <//>`;
}

function Feeds() {
  const feeds = useRead("/admin/feeds");
  if (feeds.error) return html`<${Card} title="Feeds"><${Problem} error=${feeds.error} retry=${feeds.reload} /><//>`;
  if (!feeds.data?.length) return null;
  const start = (feed) => attempt(async () => {
    await post(`/admin/feeds/${encodeURIComponent(feed.name)}/run`);
    await feeds.reload();
  }, `“${feed.name}” is imported.`);
  return html`<${Card} title="Feeds"><ul class="ranked">${feeds.data.map((feed) => html`<li key=${feed.id}>
    <span><b>${feed.name}</b> <small>${words(feed.kind)}</small><small class="sub block">${feed.last_error ?? html`imported <${When} at=${feed.imported_at} />`}</small></span>
    ${feed.failures > 0 && html`<${Badge} tone="bad">${count(feed.failures, "failure")}<//>`}
    <${Button} small onClick=${() => start(feed)} disabled=${feed.running}>Run now<//>
  </li>`)}</ul><//>`;
}
