import { html, useEffect, useRef, useState } from "../lib/html.js";
import { get, put } from "../lib/api.js";
import { may } from "../lib/session.js";
import { useRead, useRoute } from "../lib/data.js";
import { href } from "../lib/router.js";
import { count, money, number } from "../lib/format.js";
import { Button, Card, Check, Dialog, Field, Icon, PageHead, Picture, Problem, Tabs, When, note } from "../lib/ui.js";
import { Marked } from "./catalog.js";

export default function Search() {
  const { query } = useRoute();
  const tab = query.get("tab") ?? "synonyms";
  const [searched, setSearched] = useState(0);
  return html`
    <${PageHead} title="Search settings" note="Changes apply to the next search; the index is not rebuilt." />
    <${Tabs} label="Settings" tabs=${[["Synonyms", href("/search"), tab === "synonyms"], ["Pins and rules", href("/search", { tab: "rules" }), tab === "rules"]]} />
    <div class="split">
      ${tab === "rules" ? html`<${Rules} onSaved=${() => setSearched(searched + 1)} />` : html`<${Synonyms} onSaved=${() => setSearched(searched + 1)} />`}
      <${Trial} key=${searched} />
    </div>`;
}

/** Shows what a search finds with the saved settings. */
function Trial() {
  const [q, setQ] = useState(sessionStorage.getItem("ecom-admin.trial") ?? "");
  const found = useRead(q ? "/products/search" : null, { per_page: 8, q, highlight: true, analytics: false });
  const type = (text) => {
    setQ(text);
    sessionStorage.setItem("ecom-admin.trial", text);
  };
  const search = found.meta?.search;
  return html`<${Card} title="Try a search">
    <${Field} label="Text" type="search" value=${q} onInput=${type} placeholder="as a shopper would type it" />
    <${Problem} error=${found.error} />
    ${search && q && html`<p class="hint" role="status">${number(search.total_hits)} found${search.partial_hits ? `, ${number(search.partial_hits)} in part` : ""}</p>
    <ul class="ranked">${found.data.map((p) => html`<li key=${p.id}><span class="with-picture"><${Picture} image=${p.images.find((image) => image.primary)} />
      <a href=${href(`/catalog/${p.id}`)}>${search.highlights?.[p.id]?.title ? html`<${Marked} text=${search.highlights[p.id].title} />` : p.title}</a></span><small>${money(p.lowest_price, p.currency)}</small></li>`)}</ul>`}
  <//>`;
}

/** Edits a setting as a whole. If somebody else has saved it in the meantime, both versions are shown, to choose from. */
function useSetting(path, name, onSaved) {
  const read = useRead(path);
  const [draft, setDraft] = useState(null);
  const latest = useRef(draft);
  latest.current = draft;
  const [version, setVersion] = useState(null);
  const [error, setError] = useState(null);
  const [theirs, setTheirs] = useState(null);
  const canWrite = may("search:write");
  const key = `ecom-admin.draft.${name}`;
  useEffect(() => {
    if (!read.data || draft) return;
    const kept = JSON.parse(sessionStorage.getItem(key) ?? "null");
    setDraft(kept?.draft ?? read.data[name]);
    setVersion(kept?.version ?? read.data.version);
  }, [read.data]);
  const isDirty = draft !== null && read.data && JSON.stringify(draft) !== JSON.stringify(read.data[name]);
  useEffect(() => {
    if (isDirty) sessionStorage.setItem(key, JSON.stringify({ draft, version }));
    else if (draft) sessionStorage.removeItem(key);
  }, [draft, isDirty]);
  const show = (data) => {
    read.set(data);
    setDraft(data[name]);
    setVersion(data.version);
    setTheirs(null);
    sessionStorage.removeItem(key);
  };
  const save = async (from = version) => {
    setError(null);
    try {
      const { data } = await put(path, { [name]: draft }, from);
      const now = latest.current;
      show(data);
      // What was typed while the settings were saved stays.
      if (now !== draft) setDraft(now);
      note("Saved.");
      onSaved();
    } catch (reason) {
      if (!reason.isConflict) return setError(reason);
      try {
        setTheirs((await get(path)).data);
      } catch (failure) {
        setError(failure);
      }
    }
  };
  // The entries of the other side, and those of this one that it lacks.
  const combine = () => {
    const isTheirs = (mine) => theirs[name].some((other) => JSON.stringify(other) === JSON.stringify(mine));
    read.set(theirs);
    setDraft([...theirs[name], ...draft.filter((mine) => !isTheirs(mine))]);
    setVersion(theirs.version);
    setTheirs(null);
  };
  const bar = html`
    ${theirs && html`<div class="banner warn" role="alert"><${Icon} name="alert" />
      <p class="grow"><b>Somebody else has saved these settings</b> <${When} at=${theirs.updated_at} />: ${count(theirs[name].length, "entry", "entries")} there, ${number(draft.length)} here.</p>
      <${Button} small onClick=${() => show(theirs)}>Use theirs<//>
      <${Button} small onClick=${combine}>Combine both<//>
      <${Button} small onClick=${() => save(theirs.version)}>Keep mine<//></div>`}
    <${Problem} error=${error && error.details.length === 0 ? error : null} />
    ${isDirty && canWrite && html`<div class="savebar" role="status"><p><b>Not saved yet</b></p><${Button} onClick=${() => { setError(null); show(read.data); }}>Discard<//><${Button} kind="main" onClick=${() => save()}>Save<//></div>`}`;
  return { read, draft, setDraft, error, canWrite, bar };
}

/** Returns the first message of the API about a part of a setting. */
const about = (error, prefix) => error?.details.find((detail) => detail.field === prefix || detail.field?.startsWith(`${prefix}.`) || detail.field?.startsWith(`${prefix}[`))?.message;

function Synonyms({ onSaved }) {
  const { read, draft, setDraft, error, canWrite, bar } = useSetting("/search/synonyms", "synonyms", onSaved);
  if (read.error) return html`<${Problem} error=${read.error} retry=${read.reload} />`;
  if (!draft) return html`<${Card} title="Synonyms"><p class="hint">…</p><//>`;
  const set = (i, change) => setDraft(draft.map((entry, n) => (n === i ? { ...entry, ...change } : entry)));
  return html`<div class="stack"><${Card} title="Synonyms" actions=${canWrite && html`<${Button} small icon="plus" onClick=${() => setDraft([{ synonyms: [] }, ...draft])}>Add an entry<//>`}>
    ${draft.length === 0 && html`<p class="empty">No synonyms yet. Words of one entry find each other's products: “sofa, couch, settee”.</p>`}
    <fieldset disabled=${!canWrite}><ul class="variants">${draft.map((entry, i) => html`<li key=${i} class="variant">
      ${entry.input !== undefined && html`<${Field} label="A search for" value=${entry.input} onInput=${(input) => set(i, { input })} error=${about(error, `synonyms[${i}].input`)} />`}
      <${Words} label=${entry.input !== undefined ? "also finds" : "Words that mean the same"} words=${entry.synonyms} change=${(synonyms) => set(i, { synonyms })} error=${about(error, `synonyms[${i}]`)} />
      <div class="actions"><${Check} label="One way only" checked=${entry.input !== undefined} onChange=${(on) => set(i, { input: on ? "" : undefined })} /><span class="grow"></span>
        <${Button} small kind="quiet" icon="trash" onClick=${() => setDraft(draft.filter((_, n) => n !== i))}>Remove<//></div>
    </li>`)}</ul></fieldset>
  <//>${bar}</div>`;
}

/** Words as a text, separated by commas; the text stays as it is typed. */
function Words({ words, change, ...rest }) {
  const [text, setText] = useState(words.join(", "));
  const parse = (value) => value.split(",").map((word) => word.trim()).filter(Boolean);
  useEffect(() => {
    if (JSON.stringify(parse(text)) !== JSON.stringify(words)) setText(words.join(", "));
  }, [words]);
  return html`<${Field} ...${rest} value=${text} placeholder="sofa, couch, settee" onInput=${(value) => { setText(value); change(parse(value)); }} />`;
}

function Rules({ onSaved }) {
  const { read, draft, setDraft, error, canWrite, bar } = useSetting("/search/rules", "rules", onSaved);
  const [picking, setPicking] = useState(null);
  const [titles, setTitles] = useState({});
  const ids = [...new Set((draft ?? []).flatMap((rule) => [...(rule.pin ?? []), ...(rule.hide ?? [])]))].filter((id) => !titles[id]);
  useEffect(() => {
    ids.forEach(async (id) => {
      const name = await get(`/products/${id}`, { fields: "id,title" }).then(
        ({ data }) => data.title,
        (reason) => (reason.status === 404 ? "(deleted product)" : id),
      );
      setTitles((old) => ({ ...old, [id]: name }));
    });
  }, [ids.join()]);
  if (read.error) return html`<${Problem} error=${read.error} retry=${read.reload} />`;
  if (!draft) return html`<${Card} title="Rules"><p class="hint">…</p><//>`;
  const set = (i, change) => setDraft(draft.map((rule, n) => (n === i ? { ...rule, ...change } : rule)));
  const products = (rule, i, name, title, icon) => html`<div><p class="label">${title}</p>
    <div class="chips">${(rule[name] ?? []).map((id) => html`<span class="chip" key=${id}><${Icon} name=${icon} />${titles[id] ?? "…"}
      <button type="button" aria-label=${`Remove ${titles[id]}`} onClick=${() => set(i, { [name]: rule[name].filter((one) => one !== id) })}>×</button></span>`)}
      ${canWrite && html`<${Button} small icon="plus" onClick=${() => setPicking({ i, name })}>Add<//>`}</div>
    ${about(error, `rules[${i}].${name}`) && html`<p class="field"><span class="error">${about(error, `rules[${i}].${name}`)}</span></p>`}</div>`;
  return html`<div class="stack"><${Card} title="Rules" actions=${canWrite && html`<${Button} small icon="plus" onClick=${() => setDraft([...draft, { name: `Rule ${draft.length + 1}`, query: "", query_match: "is", disabled: false }])}>Add a rule<//>`}>
    ${draft.length === 0 && html`<p class="empty">No rules yet. A rule pins products to the top of a search, or hides some.</p>`}
    <fieldset disabled=${!canWrite}><ul class="variants">${draft.map((rule, i) => html`<li key=${i} class="variant">
      <div class="columns">
        <${Field} label="Name" value=${rule.name} onInput=${(name) => set(i, { name })} error=${about(error, `rules[${i}].name`)} />
        <${Field} label="If the search" value=${rule.query_match} options=${[["is", "is exactly"], ["contains", "contains"]]} onInput=${(query_match) => set(i, { query_match })} />
        <${Field} label="Words" value=${rule.query ?? ""} onInput=${(text) => set(i, { query: text || undefined })} error=${about(error, `rules[${i}].query`) ?? about(error, `rules[${i}]`)} />
      </div>
      ${products(rule, i, "pin", "Pinned to the top, in this order", "pin")}
      ${products(rule, i, "hide", "Hidden", "close")}
      ${rule.boost?.length > 0 && html`<p class="hint">${count(rule.boost.length, "boost")}, which only the API edits.</p>`}
      <div class="actions"><${Check} label="In use" checked=${!rule.disabled} onChange=${(on) => set(i, { disabled: !on })} /><span class="grow"></span>
        <${Button} small kind="quiet" icon="trash" onClick=${() => setDraft(draft.filter((_, n) => n !== i))}>Remove<//></div>
    </li>`)}</ul></fieldset>
  <//>${bar}
  ${picking && html`<${Pick} onClose=${() => setPicking(null)} onPick=${(product) => {
    setTitles({ ...titles, [product.id]: product.title });
    set(picking.i, { [picking.name]: [...new Set([...(draft[picking.i][picking.name] ?? []), product.id])] });
    setPicking(null);
  }} />`}</div>`;
}

/** Finds a product. */
function Pick({ onPick, onClose }) {
  const [text, setText] = useState("");
  const found = useRead("/products/search", { per_page: 8, q: text.trim(), analytics: false });
  return html`<${Dialog} title="Choose a product" onClose=${onClose}>
    <${Field} label="Search" type="search" value=${text} onInput=${setText} />
    <${Problem} error=${found.error} />
    <ul class="ranked">${found.data?.map((p) => html`<li key=${p.id}><span class="with-picture"><${Picture} image=${p.images.find((image) => image.primary)} /><span>${p.title}</span></span>
      <${Button} small onClick=${() => onPick(p)} aria-label=${`Choose ${p.title}`}>Choose<//></li>`)}</ul>
  <//>`;
}
