import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { call, get, patch, post, remove, shop, written } from "../lib/api.js";
import { may, who } from "../lib/session.js";
import { useOnce, useRead } from "../lib/data.js";
import { useLive } from "../lib/live.js";
import { go } from "../lib/router.js";
import { changes, draftOf, inputOf, merge, mergeImage, newDraft, newVariant, optionsOf, optionsText, patchOf, shown, withIds } from "../lib/merge.js";
import { count, date, list, money, number, signed, symbol, words } from "../lib/format.js";
import { Badge, Button, Card, Check, Dialog, Field, Form, Icon, Loading, PageHead, Picture, Problem, Table, When, attempt, confirm, note } from "../lib/ui.js";

const STATUSES = [["active", "Active: on sale"], ["draft", "Draft: not visible"], ["archived", "Archived: no longer sold"]];

// Edits that are not saved yet survive a reload in this tab.
const stored = {
  read: (id) => JSON.parse(sessionStorage.getItem(`ecom-admin.draft.${id}`) ?? "null"),
  write: (id, value) => (value ? sessionStorage.setItem(`ecom-admin.draft.${id}`, JSON.stringify(value)) : sessionStorage.removeItem(`ecom-admin.draft.${id}`)),
};

export function Product({ id }) {
  return id === "new" ? html`<${NewProduct} />` : html`<${ExistingProduct} id=${id} />`;
}

/** Returns the names of all categories by id, and what shows that they could not be read. */
function useCategories() {
  const { data, error, reload } = useRead("/categories/tree");
  const names = useMemo(() => {
    const all = new Map();
    const walk = (nodes, trail) => nodes.forEach((node) => {
      const names = [...trail, node.name];
      all.set(node.id, names.join(" › "));
      walk(node.children, names);
    });
    walk(data ?? [], []);
    return all;
  }, [data]);
  return [names, html`<${Problem} error=${error} retry=${reload} />`];
}

function NewProduct() {
  const [draft, setDraft] = useState(() => stored.read("new")?.draft ?? newDraft());
  const [error, setError] = useState(null);
  // Files that are uploaded once the product exists.
  const [files, setFiles] = useState([]);
  useEffect(() => {
    // A reload keeps the texts, but no script can keep files.
    const warn = (event) => files.length > 0 && event.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [files]);
  const [categories, noCategories] = useCategories();
  // The key is kept with the draft, because somebody who gets no answer may reload the page.
  const [once] = useState(() => stored.read("new")?.once ?? {});
  useEffect(() => stored.write("new", { draft, once }), [draft]);
  const create = async () => {
    setError(null);
    try {
      const { data } = await post("/products", inputOf(draft), { once });
      stored.write("new", null);
      note(`“${data.title}” was created.`);
      let latest = data;
      for (const file of files) latest = (await addImage(latest, file, data.title)) ?? latest;
      go(`/catalog/${data.id}`);
    } catch (reason) {
      stored.write("new", { draft, once });
      setError(reason);
    }
  };
  return html`
    <${PageHead} title="New product" trail=${[["Catalog", "/catalog"]]} />
    ${noCategories}
    <${Form} onSubmit=${create}>
      <${General} error=${error} />
      <${Editor} draft=${draft} change=${setDraft} error=${error} categories=${categories} isNew waiting=${files}
        upload=${(chosen) => setFiles([...files, ...chosen])} dismiss=${(file) => setFiles(files.filter((one) => one !== file))} />
      <div class="savebar"><p>${draft.status === "active" ? "The product goes on sale at once." : "The product is not on sale yet."}</p>
        <${Button} onClick=${() => { setDraft(newDraft()); setFiles([]); setError(null); }}>Clear<//>
        <${Button} type="submit" kind="main">Create product<//></div>
    <//>`;
}

/**
 * Stores a file as an image of a product that was read with `version`. Returns the product with the image, or undefined
 * if the file was refused.
 */
async function addImage({ id, version }, file, alt) {
  const sent = { query: { alt }, text: file, type: file.type, version };
  const answer = await attempt(() => call("POST", `/products/${id}/images`, sent), `“${file.name}” was added.`);
  return answer?.data;
}

/** An error, as far as it is about no field that the page shows. */
function General({ error }) {
  if (!error) return null;
  const isShown = error.details.length > 0 && error.details.every((detail) => /^(title|slug|description|brand|status|discount_percentage|tags|images\[\d+\]\.(url|alt)|skus\[\d+\]\.(code|price|stock|barcode|weight|low_stock_threshold|option_values)|warranty_information|shipping_information)/.test(detail.field ?? ""));
  if (isShown) return html`<div class="problem" role="alert"><${Icon} name="alert" /><p><strong>Some fields are not valid.</strong> They are marked below.</p></div>`;
  return html`<${Problem} error=${error} />`;
}

function ExistingProduct({ id }) {
  const [product, setProduct] = useState(null);
  const [base, setBase] = useState(null);
  const [draft, setDraft] = useState(null);
  const [error, setError] = useState(null);
  const [failure, setFailure] = useState(null);
  const [merging, setMerging] = useState(null);
  const [theirs, setTheirs] = useState(null);
  const [restored, setRestored] = useState(false);
  const [ledger, setLedger] = useState(null);
  const [categories, noCategories] = useCategories();
  const canEdit = may("products:write");
  const state = useRef({});
  state.current = { product, base, draft };
  const uploading = useRef(null);

  const pending = base && draft ? changes(base, draft) : [];
  const isDirty = pending.length > 0;

  const show = (next) => {
    setProduct(next);
    setBase(draftOf(next));
    setDraft(draftOf(next));
    setTheirs(null);
    stored.write(id, null);
  };

  const load = async () => {
    try {
      const { data } = await get(`/products/${id}`, { include_deleted: may("deleted:read") ? true : undefined });
      setFailure(null);
      const kept = stored.read(id);
      if (!kept) return show(data);
      setProduct(data);
      // The draft stays one of the version that it began with. If somebody else has saved the product since then, the
      // API refuses to save the draft, and both edits are merged.
      setBase(kept.base);
      setDraft(kept.draft);
      setTheirs(data.version === kept.base.version ? null : data);
      setRestored(true);
    } catch (reason) {
      setFailure(reason);
    }
  };
  useEffect(() => void load(), [id]);

  // What is edited is kept until it is saved or discarded.
  useEffect(() => {
    if (isDirty) stored.write(id, { base, draft });
    else if (base) stored.write(id, null);
  }, [draft, base]);
  useEffect(() => {
    const warn = (event) => isDirty && event.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [isDirty]);

  // Changes of others: levels of stock are shown at once, and edits are merged or announced.
  useLive(async (event) => {
    const now = state.current;
    if (!now.product) return;
    if (event.kind === "reset" || event.aggregate_id === id) {
      if (event.stock) {
        const levels = new Map(event.stock.map((change) => [change.sku_id, change]));
        setProduct((old) => ({ ...old, skus: old.skus.map((sku) => {
          const level = levels.get(sku.id);
          return level && level.available !== null ? { ...sku, stock: level.on_hand, available: level.available, flash: event.id } : sku;
        }) }));
        return;
      }
      // The event can be that of a write of this page whose answer has not come yet, but should come soon.
      await Promise.race([written(`/products/${id}`), new Promise((done) => setTimeout(done, 10_000))]);
      const { data } = await get(`/products/${id}`).catch(() => ({}));
      const current = state.current;
      if (!data || data.version <= current.product.version) return;
      if (changes(current.base, current.draft).length === 0) {
        note(`Somebody changed ${list(changes(current.base, draftOf(data)).slice(0, 3)) || "this product"}.`, { tone: "info" });
        show(data);
      } else setTheirs(data);
    }
  });

  /** Saves the edits that turn `from`, the product as it was read, into `wanted`. */
  const save = async (wanted, from) => {
    setError(null);
    const before = state.current.draft;
    try {
      const { data } = await patch(`/products/${id}`, patchOf(from, wanted), from.version);
      setMerging(null);
      setRestored(false);
      const latest = draftOf(data);
      const [old, now] = [before, state.current.draft].map((one) => withIds(one, wanted.variants, latest.variants));
      show(data);
      // What was typed while the product was saved stays.
      if (changes(old, now).length > 0) setDraft(merge(old, now, latest).merged);
      note("Saved.");
    } catch (reason) {
      if (!reason.isConflict) {
        setMerging(null);
        return setError(reason);
      }
      try {
        const { data } = await get(`/products/${id}`);
        // What was typed since the save began is merged, too.
        begin(data, merge(before, state.current.draft, wanted).merged, from);
      } catch (failure) {
        setMerging(null);
        setError(failure);
      }
    }
  };

  /** Saves what the form has after the uploads that are under way, which change the form. */
  const saveForm = async () => {
    await uploading.current;
    await save(state.current.draft, state.current.base);
  };

  /** Stores files as images of the product, which adds them at once; other edits stay in the form. */
  const upload = async (files) => {
    const before = uploading.current;
    uploading.current = (async () => {
      await before;
      await addImages(files);
    })();
    await uploading.current;
  };
  const addImages = async (files) => {
    for (const file of files) {
      const saved = await addImage({ id, version: state.current.base.version }, file, state.current.draft.title);
      if (!saved) return;
      const current = state.current;
      const latest = draftOf(saved);
      const merged = mergeImage(current.base, current.draft, latest);
      setProduct(saved);
      setBase(latest);
      setDraft(merged);
      state.current = { product: saved, base: latest, draft: merged };
    }
  };

  /** Merges the draft with the product as somebody else has saved it. Asks only about fields that both have changed. */
  const begin = (data, wanted, from) => {
    const latest = draftOf(data);
    const result = merge(from, wanted, latest);
    setTheirs(data);
    setMerging({ ...result, data, latest });
  };

  if (failure) return html`<${PageHead} title="Product" trail=${[["Catalog", "/catalog"]]} /><${Problem} error=${failure} retry=${load} />`;
  if (!draft) return html`<${PageHead} title="…" trail=${[["Catalog", "/catalog"]]} /><${Loading} />`;

  const removeIt = async () => {
    if (!(await confirm(`Delete “${product.title}”?`, { text: "The product is hidden everywhere and can be restored.", action: "Delete", danger: true }))) return;
    if (await attempt(() => remove(`/products/${id}`, product.version), "The product was deleted.")) {
      stored.write(id, null);
      go("/catalog");
    }
  };
  const restore = () => attempt(async () => show((await post(`/products/${id}/restore`, { version: product.version })).data), "The product was restored.");

  return html`
    <${PageHead} title=${product.title} trail=${[["Catalog", "/catalog"]]} badge=${product.deleted_at ? html`<${Badge} tone="bad">Deleted<//>` : html`<${Badge} of=${product.status} />`}
      note=${html`Version ${product.version} · edited <${When} at=${product.updated_at} /> by ${who(product.updated_by)}`}>
      ${canEdit && !product.deleted_at && html`<${Button} kind="danger" icon="trash" onClick=${removeIt}>Delete<//>`}
      ${canEdit && product.deleted_at && html`<${Button} onClick=${restore}>Restore<//>`}
    <//>
    ${restored && isDirty && html`<div class="banner"><${Icon} name="alert" /><p class="grow">Your edits from before the reload are still here, and not saved yet.</p>
      <${Button} small onClick=${() => { setRestored(false); show(theirs ?? product); }}>Discard them<//></div>`}
    ${theirs && isDirty && html`<div class="banner warn" role="status"><${Icon} name="alert" />
      <p class="grow"><b>Somebody else has saved this product</b> while you edit it: ${list(changes(base, draftOf(theirs)).slice(0, 4)) || "no field that you see here"}.</p>
      <${Button} small onClick=${() => begin(theirs, draft, base)}>Merge<//></div>`}
    ${noCategories}
    <${Form} onSubmit=${saveForm}>
      <${General} error=${error} />
      <${Editor} draft=${draft} change=${setDraft} base=${base} error=${error} categories=${categories} product=${product} upload=${upload} openStock=${setLedger} readOnly=${!canEdit || product.deleted_at} />
      ${isDirty && html`<div class="savebar" role="status"><p><b>Not saved:</b> ${list(pending.slice(0, 4))}${pending.length > 4 ? ` and ${pending.length - 4} more` : ""}</p>
        <${Button} onClick=${() => { setError(null); show(theirs ?? product); }}>Discard<//>
        <${Button} type="submit" kind="main">Save<//></div>`}
    <//>
    ${product.skus.filter((sku) => sku.id === ledger).map((sku) => html`<${StockDialog} key=${sku.id} sku=${sku} onClose=${() => setLedger(null)} />`)}
    ${merging && html`<${Merge} state=${merging} categories=${categories} onClose=${() => setMerging(null)}
      onSave=${(merged) => save(merged, merging.latest)} />`}`;
}

/** Asks which value each field gets that two people have changed. */
function Merge({ state, categories, onClose, onSave }) {
  const [choices, setChoices] = useState(state.conflicts.map(() => "yours"));
  const apply = () => {
    const merged = structuredClone(state.merged);
    state.conflicts.forEach((conflict, i) => conflict.choose(merged, conflict[choices[i]]));
    return onSave(merged);
  };
  const side = (conflict, i, which, title) => html`<label>
    <input type="radio" name=${`conflict-${i}`} checked=${choices[i] === which} onChange=${() => setChoices(choices.with(i, which))} />
    <span><b>${title}</b>${shown(conflict.kind, conflict[which], categories)}</span></label>`;
  return html`<${Dialog} title="Somebody else changed this product" wide onClose=${onClose}>
    ${state.taken.length > 0 && html`<p class="hint">Taken over from the other edit: ${list(state.taken)}.</p>`}
    ${state.conflicts.length === 0 ? html`<p>You have changed other fields, so both edits fit together.</p>` : html`
      <p>You both changed ${state.conflicts.length === 1 ? "this field" : "these fields"}. Choose what to keep; all your other edits stay.</p>
      <ul class="merge">${state.conflicts.map((conflict, i) => html`<li key=${conflict.label}>
        <p><b>${conflict.label}</b> <small>was ${shown(conflict.kind, conflict.base, categories)}</small></p>
        <div class="sides" role="radiogroup" aria-label=${conflict.label}>${side(conflict, i, "yours", "Yours")}${side(conflict, i, "theirs", "Theirs")}</div>
      </li>`)}</ul>`}
    <div class="actions end"><${Button} onClick=${onClose}>Back to the form<//><${Button} kind="main" onClick=${apply}>Save the merged product<//></div>
  <//>`;
}

function Editor({ draft, change, base, error, categories, product, upload, openStock, waiting, dismiss, isNew, readOnly }) {
  const set = (name) => (value) => change({ ...draft, [name]: value });
  const changed = (name) => (base && JSON.stringify(base[name]) !== JSON.stringify(draft[name]) ? "changed" : "");
  const field = (name, label, more = {}) => html`<${Field} label=${label} value=${draft[name]} onInput=${set(name)} error=${error?.of(name)} class=${changed(name)} name=${name} ...${more} />`;
  return html`<fieldset disabled=${readOnly}><div class="split">
    <div class="stack">
      <${Card} title="Basics"><div class="form">
        ${field("title", "Title", { maxlength: 255, required: true, autofocus: isNew })}
        ${field("description", "Description", { rows: 5 })}
      </div><//>
      <${Variants} draft=${draft} change=${change} base=${base} error=${error} product=${product} openStock=${openStock} readOnly=${readOnly} />
      <${Images} images=${draft.images} change=${set("images")} error=${error} title=${draft.title} upload=${!readOnly && upload} waiting=${waiting} dismiss=${dismiss} readOnly=${readOnly} />
    </div>
    <div class="stack">
      <${Card} title="Sale"><div class="form">
        ${field("status", "Status", { options: STATUSES })}
        ${field("discount_percentage", "Discount in percent", { inputmode: "decimal", hint: "On the price of every variant" })}
      </div><//>
      <${Card} title="Organization"><div class="form">
        ${field("brand", "Brand", { maxlength: 100 })}
        <${Tags} tags=${draft.tags} change=${set("tags")} error=${error?.within("tags")} class=${changed("tags")} />
        <${CategoryPicker} chosen=${draft.categories} change=${set("categories")} categories=${categories} readOnly=${readOnly} />
      </div><//>
      <${Card} title="More"><div class="form">
        ${field("slug", "Name in URLs", { hint: isNew || draft.slug === "" ? "Made from the title if empty" : undefined })}
        ${field("warranty_information", "Warranty", { maxlength: 255 })}
        ${field("shipping_information", "Shipping", { maxlength: 255 })}
        ${product && html`<dl class="facts">
          <dt>Rating</dt><dd>${product.review_count > 0 ? `${number(product.rating)} ★ from ${count(product.review_count, "review")}` : "No reviews yet"}</dd>
          <dt>Created</dt><dd>${date(product.created_at)}</dd>
          ${product.source && html`<dt>Source</dt><dd>${product.source} <small>${product.external_id}</small></dd>`}
        </dl>`}
      </div><//>
    </div>
  </div></fieldset>`;
}

/** Tags as a text; the text stays as it is typed. */
function Tags({ tags, change, error, class: name }) {
  const [text, setText] = useState(tags.join(", "));
  const parse = (value) => value.split(",").map((tag) => tag.trim()).filter(Boolean);
  useEffect(() => {
    if (JSON.stringify(parse(text)) !== JSON.stringify(tags)) setText(tags.join(", "));
  }, [tags]);
  return html`<${Field} label="Tags" value=${text} hint="Separated by commas" error=${error} class=${name} onInput=${(value) => { setText(value); change(parse(value)); }} />`;
}

function CategoryPicker({ chosen, change, categories, readOnly }) {
  const [filter, setFilter] = useState("");
  const wanted = filter.toLowerCase();
  // A few categories are all shown; among many, those of the product are shown until somebody looks for others.
  const isShort = categories.size <= 12 && !readOnly;
  const rows = [...categories].filter(([id, name]) => (wanted ? name.toLowerCase().includes(wanted) : isShort || chosen.includes(id)));
  return html`<div class="field">
    <span class="label">Categories</span>
    ${!readOnly && categories.size > 12 && html`<${Field} hideLabel label="Find a category" type="search" placeholder="Find a category" value=${filter} onInput=${setFilter} />`}
    ${rows.length > 0 ? html`<div class="category-list" tabindex="0" role="group" aria-label="Categories">${rows.slice(0, 60).map(([id, name]) => html`<${Check} key=${id} label=${name} checked=${chosen.includes(id)}
      onChange=${(on) => change(on ? [...chosen, id] : chosen.filter((one) => one !== id))} />`)}
      ${rows.length > 60 && html`<p class="hint">${count(rows.length - 60, "more category", "more categories")}: type more of the name.</p>`}</div>` : html`<p class="hint">${wanted ? "No category matches." : categories.size === 0 && may("categories:write") ? html`The shop has no categories yet. <a href="#/categories">Create some</a>; this form keeps what you have typed.` : "In no category."}</p>`}
  </div>`;
}

function Images({ images, change, error, title, upload, waiting = [], dismiss, readOnly }) {
  const files = useRef(null);
  const set = (i, name, value) => change(images.map((image, n) => (n === i ? { ...image, [name]: value } : name === "primary" ? { ...image, primary: false } : image)));
  const send = async () => {
    const chosen = [...files.current.files];
    files.current.value = "";
    await upload(chosen);
  };
  const actions = html`
    ${upload && html`<input type="file" class="hidden" ref=${files} multiple accept="image/jpeg,image/png,image/webp" tabindex="-1" aria-label="Image files" onChange=${send} />
      <${Button} small icon="up" onClick=${() => files.current.click()}>Upload<//>`}
    <${Button} small icon="plus" onClick=${() => change([...images, { url: "", alt: title, primary: images.length === 0 }])}>Add an address<//>`;
  return html`<${Card} title="Images" actions=${!readOnly && actions}>
    ${images.length + waiting.length === 0 && html`<p class="hint">No images yet. ${upload ? "JPEG, PNG and WebP files can be uploaded." : ""}</p>`}
    ${waiting.length > 0 && html`<p class="hint">These files are uploaded when the product is created:</p>
      <p class="chips">${waiting.map((file, i) => html`<span class="chip" key=${i}><${Icon} name="image" />${file.name}
        <button type="button" aria-label=${`Remove ${file.name}`} onClick=${() => dismiss(file)}>×</button></span>`)}</p>`}
    <ul class="images">${images.map((image, i) => html`<li key=${i}>
      <${Picture} image=${image} size="medium" />
      <div class="form">
        <${Field} label="Address" value=${image.url} onInput=${(value) => change(images.map((one, n) => (n === i ? { url: value, alt: one.alt, primary: one.primary } : one)))} error=${error?.of(`images[${i}].url`)} placeholder="https://… or /images/…" />
        <${Field} label="Alternative text, for people who do not see the image" value=${image.alt} onInput=${(value) => set(i, "alt", value)} error=${error?.of(`images[${i}].alt`)} />
        <div class="actions"><${Check} label="Main image" checked=${image.primary} onChange=${() => set(i, "primary", true)} /><span class="grow"></span>
          <${Button} small kind="quiet" icon="trash" onClick=${() => change(images.filter((_, n) => n !== i))}>Remove<//></div>
      </div>
    </li>`)}</ul>
  <//>`;
}

function Variants({ draft, change, base, error, product, openStock, readOnly }) {
  const add = () => {
    const key = `new-${Date.now()}`;
    const last = draft.byKey[draft.variants.at(-1)];
    change({ ...draft, variants: [...draft.variants, key], byKey: { ...draft.byKey, [key]: { ...newVariant(), price: last?.price ?? "" } } });
  };
  return html`<${Card} title=${draft.variants.length > 1 ? "Variants" : "Price and stock"} actions=${!readOnly && html`<${Button} small icon="plus" onClick=${add}>Add variant<//>`}>
    ${error?.of("skus") && html`<${Problem} error=${{ message: error.of("skus") }} />`}
    <ul class="variants">${draft.variants.map((key, i) => html`<${Variant} key=${key} id=${key} index=${i} draft=${draft} change=${change} base=${base} error=${error}
      sku=${product?.skus.find((sku) => sku.id === key)} isOnly=${draft.variants.length === 1} openStock=${openStock} readOnly=${readOnly} />`)}</ul>
  <//>`;
}

function Variant({ id, index, draft, change, base, error, sku, isOnly, openStock, readOnly }) {
  const variant = draft.byKey[id];
  const [options, setOptions] = useState(optionsText(variant.options));
  useEffect(() => {
    if (JSON.stringify(optionsOf(options)) !== JSON.stringify(variant.options)) setOptions(optionsText(variant.options));
  }, [variant.options]);
  const set = (name) => (value) => change({ ...draft, byKey: { ...draft.byKey, [id]: { ...variant, [name]: value } } });
  const changed = (name) => (base?.byKey[id] && JSON.stringify(base.byKey[id][name]) !== JSON.stringify(variant[name]) ? "changed" : "");
  const field = (name, label, more = {}) => html`<${Field} label=${label} value=${variant[name]} onInput=${set(name)} class=${changed(name)}
    error=${error?.of(`skus[${index}].${name === "options" ? "option_values" : name}`) ?? (isOnly ? error?.of(name) : undefined)} ...${more} />`;
  return html`<li class="variant">
    <header hidden=${isOnly && !sku}>
      <h3>${variant.code || Object.values(variant.options).join(", ") || "New variant"} ${sku && html`<${Badge} of=${sku.availability_status} />`}</h3>
      ${sku ? html`<${Stock} sku=${sku} onOpen=${() => openStock(sku.id)} />` : null}
    </header>
    <div class="columns">
      ${field("price", `Price in ${symbol(shop.value.currency)}`, { inputmode: "decimal", required: true })}
      ${field("code", "Code (SKU)", { maxlength: 100, hint: sku ? undefined : "Made from the title if empty" })}
      ${!sku && variant.track_stock && field("stock", "Pieces in stock", { inputmode: "numeric" })}
      ${!(isOnly && Object.keys(variant.options).length === 0 && options === "") || !sku
        ? html`<${Field} label="Options" placeholder="size: M, color: red" hint="What distinguishes the variants, each with a colon" value=${options} class=${changed("options")} error=${error?.within(`skus[${index}].option_values`)}
            onInput=${(text) => { setOptions(text); set("options")(optionsOf(text)); }} />` : null}
      ${field("low_stock_threshold", "Low stock at", { inputmode: "numeric", hint: "Stock is low at this number of pieces or fewer" })}
      ${field("barcode", "Barcode", { maxlength: 100 })}
      ${field("weight", "Weight", { inputmode: "decimal" })}
    </div>
    <div class="actions">
      <${Check} label="Track the stock" checked=${variant.track_stock} onChange=${set("track_stock")} />
      <span class="grow"></span>
      ${sku && sku.final_price !== sku.price && html`<small>sold for ${money(sku.final_price, sku.currency)} with the discount</small>`}
      ${!isOnly && !readOnly && html`<${Button} small kind="quiet" icon="trash" onClick=${() => change({ ...draft, variants: draft.variants.filter((key) => key !== id) })}>Remove<//>`}
    </div>
  </li>`;
}

function Stock({ sku, onOpen }) {
  if (!sku.track_stock) return null;
  return html`<div class="stock">
    <span><span key=${sku.flash} class=${sku.flash ? "flash" : ""} data-level=${sku.id}><b>${number(sku.available)}</b></span> available${sku.reserved > 0 ? `, ${number(sku.reserved)} reserved` : ""}</span>
    ${/* A link to the ledger also works in a form that is read-only. */ ""}
    ${(may("stock:adjust") || may("stock:read")) && html`<a class="button small" role="button" href="#" onClick=${(event) => { event.preventDefault(); onOpen(); }}
      onKeyDown=${(event) => event.key === " " && (event.preventDefault(), onOpen())}>${may("stock:adjust") ? "Adjust stock" : "Ledger"}</a>`}
  </div>`;
}

const REASONS = [["received", "Received goods"], ["adjustment", "Correction after a count"], ["returned", "Returned by a customer"], ["damaged", "Damaged, lost or given away"]];

function StockDialog({ sku, onClose }) {
  const [values, setValues] = useState({ delta: "", reason: "received", reference: "" });
  const [error, setError] = useState(null);
  const [rows, setRows] = useState([]);
  const [next, setNext] = useState("");
  const once = useOnce();
  const set = (name) => (value) => setValues((old) => ({ ...old, [name]: value }));
  const more = async (cursor = next) => {
    if (!may("stock:read")) return;
    try {
      const { data, meta } = await get(`/skus/${sku.id}/stock/movements`, { cursor, per_page: 10 });
      setRows((old) => (cursor === "" ? data : [...old, ...data]));
      setNext(meta.pagination.next_cursor ?? null);
    } catch (reason) {
      setError(reason);
    }
  };
  useEffect(() => void more(""), [sku.available]);
  const delta = Number(values.delta.replace("−", "-"));
  const adjust = async () => {
    setError(null);
    try {
      await post(`/skus/${sku.id}/stock`, { delta: Number.isInteger(delta) ? delta : values.delta, reason: values.reason, reference: values.reference || undefined }, { once });
      note(`Stock of ${sku.code}: ${signed(delta)}.`);
      setValues({ ...values, delta: "", reference: "" });
      more("");
    } catch (reason) {
      setError(reason);
    }
  };
  return html`<${Dialog} title=${`Stock of ${sku.code}`} wide onClose=${onClose}>
    <dl class="counts"><div><dt>In stock</dt><dd>${number(sku.stock)}</dd></div><div><dt>Reserved</dt><dd>${number(sku.reserved)}</dd></div><div><dt>Available</dt><dd>${number(sku.available)}</dd></div></dl>
    ${may("stock:adjust") && html`<${Form} class="form" onSubmit=${adjust}>
      <div class="columns">
        <${Field} label="Change" name="delta" value=${values.delta} onInput=${set("delta")} inputmode="text" placeholder="+10 or -2" error=${error?.of("delta")}
          hint=${values.delta && Number.isInteger(delta) && delta !== 0 ? `${number(sku.stock)} becomes ${number(sku.stock + delta)}` : "Pieces that come in or go out"} autofocus />
        <${Field} label="Reason" name="reason" value=${values.reason} options=${REASONS} onInput=${set("reason")} error=${error?.of("reason")} />
        <${Field} label="Reference" name="reference" value=${values.reference} onInput=${set("reference")} placeholder="Delivery note …" error=${error?.of("reference")} />
      </div>
      ${error && !error.of("delta") && !error.of("reason") && !error.of("reference") && html`<${Problem} error=${error} />`}
      <div class="actions end"><${Button} type="submit" kind="main">Adjust stock<//></div>
    <//>`}
    ${may("stock:read") && html`<h3>Ledger</h3>
      <${Table} label="Ledger of stock" rows=${rows} empty="No movements yet." columns=${[
        { key: "delta", label: "Change", cell: (row) => html`<b>${signed(row.delta)}</b>` },
        { key: "reason", label: "Reason", cell: (row) => html`${words(row.reason)}${row.reference && html`<span class="sub">${row.reference}</span>`}` },
        { key: "by", label: "By", narrow: false, cell: (row) => who(row.created_by) },
        { key: "at", label: "When", align: "end", cell: (row) => html`<${When} at=${row.created_at} />` },
      ]} />
      ${next && html`<div class="actions"><${Button} small onClick=${() => more()}>Show earlier<//></div>`}`}
  <//>`;
}
