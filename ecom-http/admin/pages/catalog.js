import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { shop } from "../lib/api.js";
import { may } from "../lib/session.js";
import { useList, useRead, useRoute } from "../lib/data.js";
import { useLive } from "../lib/live.js";
import { href, params, setParams } from "../lib/router.js";
import { duration, list as listed, money, number, words } from "../lib/format.js";
import { Badge, Field, Icon, Listing, PageHead, Picture, Segments } from "../lib/ui.js";
import { Product } from "./product.js";

export default function Catalog({ id }) {
  return id ? html`<${Product} id=${id} />` : html`<${Browse} />`;
}

const SORTS = [["", "Newest first"], ["title_asc", "By title"], ["price_asc", "Lowest price"], ["price_desc", "Highest price"], ["rating_desc", "Best rated"]];
const FOUND_SORTS = [["", "By relevance"], ["price_asc", "Lowest price"], ["price_desc", "Highest price"], ["rating_desc", "Best rated"], ["created_desc", "Newest first"]];
const FILTERS = ["category", "brand", "tag", "availability", "min_price", "max_price", "min_rating"];

const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'" };
const plain = (text) => text.replace(/&(amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity]);

/** Returns the pieces of a highlighted text: every second one is a match. */
const pieces = (text) => text.split(/<\/?em>/).map(plain);

/** A text whose matches are marked. */
export function Marked({ text }) {
  return pieces(text).map((piece, i) => (i % 2 ? html`<mark key=${i}>${piece}</mark>` : piece));
}

/** Returns the words that were found in place of the typed ones. */
function corrected(search) {
  const typed = search.query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Set();
  for (const { title } of Object.values(search.highlights ?? {})) {
    pieces(title ?? "").forEach((piece, i) => i % 2 && found.add(piece.toLowerCase()));
  }
  const all = [...found].sort((a, b) => b.length - a.length);
  return all.filter((word, i) => !all.slice(0, i).some((longer) => longer.startsWith(word))).filter((word) => !typed.some((one) => word.startsWith(one) || one.startsWith(word))).slice(0, 4);
}

/** Returns the facets of a list that was not searched for, in the form of those of a search. */
const facetsOf = (filters) =>
  filters && {
    categories: filters.categories.slice(0, 12).map((c) => ({ value: c.id, label: c.name, count: c.count, filter: `category=${c.id}` })),
    brands: filters.brands.slice(0, 12).map((b) => ({ value: b.name, label: b.name, count: b.count, filter: new URLSearchParams({ brand: b.name }).toString() })),
  };

const FACETS = [["categories", "Category"], ["brands", "Brand"], ["prices", "Price"], ["availability", "Availability"], ["rating", "Rating"], ["tags", "Tag"]];

function Facets({ facets, chosen }) {
  const label = (name, value) => {
    if (name === "availability") return words(value.label);
    if (name === "rating") return `${"★".repeat(Number(value.value))} and more`;
    if (name === "prices") {
      const end = new URLSearchParams(value.filter).get("max_price");
      const { currency } = shop.value;
      return end ? `${money(value.value, currency)} – ${money(end, currency)}` : `${money(value.value, currency)} and more`;
    }
    return value.label;
  };
  const current = params();
  return html`<aside class="facets" aria-label="Filters">
    ${FACETS.filter(([name]) => facets?.[name]?.length > 0).map(([name, title]) => html`<details key=${name} open=${name !== "tags" && name !== "rating"}>
      <summary>${title}</summary>
      <ul>${facets[name].slice(0, 14).map((value) => {
        const filter = Object.fromEntries(new URLSearchParams(value.filter));
        const isChosen = Object.entries(filter).every(([key, one]) => chosen.getAll(key).includes(one));
        const next = isChosen ? Object.fromEntries(Object.keys(filter).map((key) => [key, undefined])) : filter;
        return html`<li key=${value.value}><a href=${href("/catalog", { ...current, cursor: undefined, page: undefined, ...next })} aria-current=${isChosen ? "true" : undefined}>
          <span>${label(name, value)}</span><small>${number(value.count)}</small></a></li>`;
      })}</ul>
    </details>`)}
  </aside>`;
}

/** On a narrow screen, the facets are behind a button. */
function FacetsFrame({ children }) {
  const [isNarrow, setNarrow] = useState(() => matchMedia("(max-width: 1100px)").matches);
  useEffect(() => {
    const media = matchMedia("(max-width: 1100px)");
    const follow = () => setNarrow(media.matches);
    media.addEventListener("change", follow);
    return () => media.removeEventListener("change", follow);
  }, []);
  return isNarrow ? html`<details class="filter-box"><summary>Filters</summary>${children}</details>` : children;
}

/** The stock of all variants of a product. */
export function stockOf(product) {
  const tracked = product.skus.filter((sku) => sku.track_stock);
  if (tracked.length === 0) return html`<span class="muted">not tracked</span>`;
  return number(tracked.reduce((sum, sku) => sum + sku.available, 0));
}

const order = ["in_stock", "limited", "out_of_stock"];
const best = (product) => order.find((one) => product.skus.some((sku) => sku.availability_status === one)) ?? "out_of_stock";

function Browse() {
  const { query } = useRoute();
  const q = query.get("q") ?? "";
  const status = query.get("status") ?? "active";
  const sort = query.get("sort") ?? "";
  const filters = Object.fromEntries(FILTERS.filter((name) => query.has(name)).map((name) => [name, query.getAll(name)]));
  const isSearch = status === "active" && (q !== "" || ["tag", "min_rating"].some((name) => filters[name]));
  const page = Number(query.get("page") ?? 1);

  // The search log is for what shoppers search for.
  const found = useRead(isSearch ? "/products/search" : null, { q, ...filters, sort, facets: "all", highlight: true, page, per_page: 25, analytics: false });
  const listing = useList(isSearch ? null : "/products", { ...filters, status, sort });
  // The counts of the filters take longer than a page of a large catalog, so the page does not wait for them.
  const counts = useRead(isSearch ? null : "/products", { ...filters, status, include: "filters", per_page: 1, cursor: "" });
  const read = isSearch ? found : listing;
  const search = isSearch ? found.meta?.search : undefined;
  const rows = read.data ?? [];
  const [fresh, setFresh] = useState({});

  // Levels of stock follow the events; other changes of products load the page again.
  useLive((event) => {
    if (event.stock) {
      const levels = new Map(event.stock.map((change) => [change.sku_id, change]));
      if (!rows.some((product) => product.skus.some((sku) => levels.has(sku.id)))) return;
      read.set((all) => all.map((product) => ({
        ...product,
        skus: product.skus.map((sku) => {
          const level = levels.get(sku.id);
          if (!level || level.available === null) return sku;
          const state = level.available <= 0 ? "out_of_stock" : level.available <= sku.low_stock_threshold ? "limited" : "in_stock";
          return { ...sku, available: level.available, stock: level.on_hand, availability_status: state };
        }),
      })));
      setFresh((old) => ({ ...old, [event.aggregate_id]: event.id }));
    } else if (event.kind === "reset" || (event.kind.startsWith("product.") && rows.some((product) => product.id === event.aggregate_id))) read.reload();
  });

  const isFiltered = status !== "active" || Object.keys(filters).length > 0;
  const list = isSearch
    ? {
        ...found,
        rows,
        next: found.meta?.pagination?.has_next ? () => setParams({ page: page + 1 }, { keepCursor: true }) : undefined,
        back: page > 1 ? () => setParams({ page: page > 2 ? page - 1 : undefined }, { keepCursor: true }) : undefined,
        first: page > 1 ? () => setParams({}) : undefined,
      }
    : listing;
  const facets = search?.facets ?? facetsOf(counts.meta?.filters);
  // The rows stay as they are while the text of the search changes, until its result is there.
  const columns = useMemo(() => [
    { key: "title", label: "Product", class: "main", cell: (p) => html`<span class="with-picture">
        <${Picture} image=${p.images.find((image) => image.primary)} />
        <span><a class="row-link" href=${href(`/catalog/${p.id}`)}>${search?.highlights?.[p.id]?.title ? html`<${Marked} text=${search.highlights[p.id].title} />` : p.title}</a>
        <span class="sub">${[p.brand, p.categories[0]?.name, p.skus.length > 1 ? `${number(p.skus.length)} variants` : p.sku].filter(Boolean).join(" · ")}</span>
        <span class="sub narrow">${stockOf(p)} available</span></span></span>` },
    { key: "stock", label: "Available", align: "end", narrow: false, cell: (p) => html`<span key=${fresh[p.id]} class=${fresh[p.id] ? "flash" : ""} data-stock=${p.id}>${stockOf(p)}</span>` },
    { key: "state", label: "State", narrow: false, cell: (p) => (p.status === "active" ? html`<${Badge} of=${best(p)} />` : html`<${Badge} of=${p.status} />`) },
    { key: "price", label: "Price", align: "end", cell: (p) => html`${p.price_range && p.price_range.min !== p.price_range.max ? html`<small>from </small>` : ""}${money(p.lowest_price, p.currency)}
        ${Number(p.discount_percentage) > 0 && html`<span class="sub">−${number(p.discount_percentage)} %</span>`}` },
  ], [search, fresh]);
  const lastFacets = useRef(null);
  if (facets) lastFacets.current = facets;

  return html`
    <${PageHead} title="Catalog">
      ${may("products:write") && html`<a class="button main" href="#/catalog/new"><${Icon} name="plus" /><span>New product</span></a>`}
    <//>
    <${SearchBar} q=${q} />
    <div class="filters">
      ${may("products:read") && html`<${Segments} label="Status" value=${status} options=${[["active", "Active"], ["draft", "Drafts"], ["archived", "Archived"], ["any", "All"]]}
        onChange=${(next) => setParams({ status: next === "active" ? undefined : next, q: next === "active" ? q : undefined })} />`}
      <span class="grow"></span>
      <${Field} label="Sort" hideLabel value=${sort} options=${isSearch ? FOUND_SORTS : SORTS} onInput=${(next) => setParams({ sort: next })} />
    </div>
    <div class=${`browse ${rows.length === 0 && !isFiltered && !isSearch && !read.busy ? "bare" : ""}`}>
      <${FacetsFrame}><${Facets} facets=${facets ?? lastFacets.current} chosen=${query} /><//>
      <div>
        <div class="found" role="status" data-query=${search?.query ?? ""}>
          ${search && html`<span><b>${number(search.total_hits)}</b> ${search.total_hits === 1 ? "product" : "products"}</span>
            ${search.partial_hits > 0 && html`<span>and ${number(search.partial_hits)} that match some of the words</span>`}
            ${corrected(search).length > 0 && html`<span>found as <mark>${listed(corrected(search))}</mark></span>`}
            <span>${duration(search.took_ms)}</span>`}
          <${Chips} filters=${filters} facets=${facets ?? lastFacets.current} />
        </div>
        <${Listing} list=${list} what="products" label="Products"
          empty=${html`No products yet. ${may("products:write") && html`<a href="#/catalog/new">Create one</a>, or <a href="#/imports">import a file</a>.`}`}
          hint=${q && may("search:write") && html`<a href="#/search">A synonym</a> can lead to the right products.`}
          columns=${columns} />
      </div>
    </div>`;
}

function SearchBar({ q }) {
  const input = useRef(null);
  const [text, setText] = useState(q);
  // The URL follows the text while somebody types; otherwise the text follows the URL.
  useEffect(() => {
    if (document.activeElement !== input.current) setText(q);
  }, [q]);
  useEffect(() => {
    const focus = (event) => {
      const isTyping = event.target.closest("input, textarea, select, dialog");
      if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        input.current.focus();
      }
    };
    addEventListener("keydown", focus);
    return () => removeEventListener("keydown", focus);
  }, []);
  const type = (next) => {
    setText(next);
    setParams({ q: next.trim(), status: undefined, sort: undefined }, { replace: true });
  };
  return html`<search class="searchbar filters"><div class="field wide-field">
    <label class="hidden" for="q">Search the catalog</label>
    <${Icon} name="search" />
    <input id="q" type="search" ref=${input} value=${text} placeholder="Search by title, brand or code; typos are fine  ( / )" autocomplete="off"
      maxlength="500" onInput=${(event) => type(event.currentTarget.value)} />
  </div></search>`;
}

function Chips({ filters, facets }) {
  const names = useMemo(() => new Map((facets?.categories ?? []).map((one) => [one.value, one.label])), [facets]);
  const entries = Object.entries(filters).flatMap(([name, values]) => values.map((value) => [name, value]));
  if (entries.length === 0) return null;
  const text = (name, value) =>
    name === "category" ? names.get(value) ?? "Category"
      : name === "min_price" ? `from ${money(value, shop.value.currency)}`
        : name === "max_price" ? `to ${money(value, shop.value.currency)}`
          : name === "min_rating" ? `${value} ★ and more` : name === "availability" ? words(value) : value;
  return html`<span class="chips">${entries.map(([name, value]) => html`<span class="chip" key=${name + value}>${text(name, value)}
    <button type="button" aria-label=${`Remove the filter ${text(name, value)}`}
      onClick=${() => setParams({ [name]: filters[name].filter((one) => one !== value) })}>×</button></span>`)}</span>`;
}
