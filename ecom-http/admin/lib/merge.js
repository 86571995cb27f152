// Edits of a product in the page, and their merge with edits of somebody else.
//
// A draft is compared field by field. A field that only one side has changed takes the value of that side; a field that
// both have changed to different values is a conflict, which the user decides.

import { decimal, list, whole } from "./format.js";

const LABELS = {
  title: "Title", slug: "Name in URLs", description: "Description", brand: "Brand", status: "Status",
  categories: "Categories", tags: "Tags", images: "Images", discount_percentage: "Discount",
  warranty_information: "Warranty", shipping_information: "Shipping", attributes: "Attributes", variants: "Variants",
};
const VARIANT_LABELS = {
  code: "Code", options: "Options", price: "Price", low_stock_threshold: "Low-stock threshold",
  track_stock: "Stock is tracked", barcode: "Barcode", weight: "Weight",
};
const SIMPLE = Object.keys(LABELS).filter((name) => name !== "variants");
const OF_VARIANT = Object.keys(VARIANT_LABELS);

// The sizes of an image are only there if the shop knows them.
const imageInput = ({ url, alt, primary, width, height }) => ({ url, alt: orNull(alt), primary, ...(width && height ? { width, height } : {}) });
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const orNull = (text) => (text === "" || text === undefined ? null : text);

/** Returns the draft of a new product. */
export const newDraft = () => ({
  title: "", slug: "", description: "", brand: "", status: "active", categories: [], tags: [], images: [],
  discount_percentage: "0", warranty_information: "", shipping_information: "", attributes: {},
  variants: ["new-1"], byKey: { "new-1": newVariant() },
});

export const newVariant = () => ({
  code: "", options: {}, price: "", low_stock_threshold: "5", track_stock: true, barcode: "", weight: "", stock: "0",
  kept: {},
});

/** Returns the draft of a product as the API has it. Edits of the draft are saved as edits of its `version`. */
export function draftOf(product) {
  const byKey = {};
  for (const sku of product.skus) {
    byKey[sku.id] = {
      // The server can be set to return amounts as numbers.
      code: sku.code, options: sku.option_values, price: String(sku.price), low_stock_threshold: String(sku.low_stock_threshold),
      track_stock: sku.track_stock, barcode: sku.barcode ?? "", weight: String(sku.weight ?? ""),
      // What the page does not edit, and what a replacement without it would clear.
      kept: { attributes: sku.attributes, dimensions: sku.dimensions },
    };
  }
  return {
    version: product.version,
    title: product.title, slug: product.slug, description: product.description ?? "", brand: product.brand ?? "",
    status: product.status, categories: product.categories.map((c) => c.id), tags: product.tags,
    images: product.images.map((image) => ({ ...image, alt: image.alt ?? "" })),
    discount_percentage: String(product.discount_percentage), warranty_information: product.warranty_information ?? "",
    shipping_information: product.shipping_information ?? "", attributes: product.attributes,
    variants: product.skus.map((sku) => sku.id), byKey,
  };
}

function variantInput(key, variant) {
  const { code, options, price, low_stock_threshold, track_stock, barcode, weight, kept, stock } = variant;
  const isNew = key.startsWith("new-");
  return {
    ...(isNew ? {} : { id: key }),
    ...(code ? { code } : {}),
    option_values: options, price: orNull(decimal(price)), track_stock, barcode: orNull(barcode), weight: orNull(decimal(weight)),
    low_stock_threshold: low_stock_threshold === "" ? null : whole(low_stock_threshold),
    ...(kept.attributes ? { attributes: kept.attributes } : {}),
    ...(kept.dimensions ? { dimensions: kept.dimensions } : {}),
    // The stock of a variant that exists is changed by its ledger only.
    ...(isNew && track_stock ? { stock: whole(stock || "0") } : {}),
  };
}

/** Returns the input that creates a product. */
export function inputOf(draft) {
  const input = {};
  for (const name of SIMPLE) {
    const value = name === "discount_percentage" ? decimal(draft[name]) : draft[name];
    if ((value !== "" || name === "title") && !(name === "discount_percentage" && Number(value) === 0)) input[name] = value;
  }
  input.images = draft.images.map(imageInput);
  input.skus = draft.variants.map((key) => variantInput(key, draft.byKey[key]));
  return input;
}

const variantsDiffer = (a, b) =>
  !same(a.variants, b.variants) || b.variants.some((key) => OF_VARIANT.some((name) => !same(a.byKey[key]?.[name], b.byKey[key][name])));

/** Returns the patch that turns `base` into `draft`. */
export function patchOf(base, draft) {
  const patch = {};
  for (const name of SIMPLE) {
    if (same(base[name], draft[name])) continue;
    if (name === "attributes") {
      const removed = Object.keys(base.attributes).filter((key) => !(key in draft.attributes));
      patch.attributes = { ...Object.fromEntries(removed.map((key) => [key, null])), ...draft.attributes };
    } else if (name === "images") {
      patch.images = draft.images.map(imageInput);
    } else if (name === "discount_percentage") {
      patch[name] = orNull(decimal(draft[name]));
    } else patch[name] = orNull(draft[name]);
  }
  if (variantsDiffer(base, draft)) patch.skus = draft.variants.map((key) => variantInput(key, draft.byKey[key]));
  return patch;
}

/** Returns the names of the fields in which two drafts differ, for people. */
export function changes(base, draft) {
  const names = SIMPLE.filter((name) => !same(base[name], draft[name])).map((name) => LABELS[name]);
  for (const key of draft.variants) {
    const [old, now] = [base.byKey[key], draft.byKey[key]];
    if (!old) names.push(`New variant ${now.code}`.trim());
    else for (const name of OF_VARIANT) if (!same(old[name], now[name])) names.push(variantLabel(name, now, draft));
  }
  for (const key of base.variants) if (!draft.byKey[key] || !draft.variants.includes(key)) names.push(`Removed variant ${base.byKey[key].code}`);
  return names;
}

const variantLabel = (name, variant, draft) => (draft.variants.length > 1 ? `${VARIANT_LABELS[name]} of ${variant.code}` : VARIANT_LABELS[name]);

/**
 * Merges two drafts that began with `base`. Returns the merged draft, in which conflicts have `yours`, the conflicts,
 * and the names of the fields that were taken from `theirs`. Each conflict has `choose(draft, value)`.
 */
export function merge(base, yours, theirs) {
  const merged = structuredClone(yours);
  const conflicts = [];
  const taken = [];
  const decide = (label, b, y, t, set, kind) => {
    if (same(t, b) || same(t, y)) return;
    if (same(y, b)) {
      set(merged, t);
      taken.push(label);
    } else conflicts.push({ label, kind, base: b, yours: y, theirs: t, choose: set });
  };
  for (const name of SIMPLE) {
    decide(LABELS[name], base[name], yours[name], theirs[name], (draft, value) => (draft[name] = value), name);
  }
  // Variants that one side has added stay, and those that one side has removed go.
  const removed = base.variants.filter((key) => !yours.variants.includes(key) || !theirs.variants.includes(key));
  const added = theirs.variants.filter((key) => !base.variants.includes(key) && !yours.variants.includes(key));
  merged.variants = [...yours.variants.filter((key) => !removed.includes(key)), ...added];
  for (const key of added) {
    merged.byKey[key] = theirs.byKey[key];
    taken.push(`New variant ${theirs.byKey[key].code}`);
  }
  for (const key of merged.variants) {
    const [b, y, t] = [base.byKey[key], yours.byKey[key], theirs.byKey[key]];
    if (!b || !y || !t) continue;
    merged.byKey[key].kept = t.kept;
    for (const name of OF_VARIANT) {
      decide(variantLabel(name, t, theirs), b[name], y[name], t[name], (draft, value) => (draft.byKey[key][name] = value), name);
    }
  }
  return { merged, conflicts, taken };
}

/**
 * Returns a draft in which the new variants that were saved have their ids. `sent` has the keys of the variants that
 * were sent, and `saved` has their ids in the same order.
 */
export function withIds(draft, sent, saved) {
  const idOf = (key) => (key.startsWith("new-") && saved[sent.indexOf(key)]) || key;
  const byKey = Object.fromEntries(Object.entries(draft.byKey).map(([key, variant]) => [idOf(key), variant]));
  return { ...draft, variants: draft.variants.map(idOf), byKey };
}

/** Merges a draft with the product after an image was added to it. */
export function mergeImage(base, yours, theirs) {
  const { merged } = merge(base, yours, theirs);
  const added = theirs.images.filter((image) => !base.images.some((one) => one.url === image.url) && !merged.images.some((one) => one.url === image.url));
  return { ...merged, images: [...merged.images, ...added] };
}

/** Returns a value of a draft as text. `categories` has the names of categories by id. */
export function shown(kind, value, categories = new Map()) {
  if (value === null || value === "" || (Array.isArray(value) && value.length === 0)) return "(empty)";
  if (kind === "categories") return list(value.map((id) => categories.get(id) ?? id));
  if (kind === "tags") return list(value);
  if (kind === "images") return value.map((image) => image.url).join("\n");
  if (kind === "options" || kind === "attributes") return optionsText(value) || "(empty)";
  if (kind === "track_stock") return value ? "Yes" : "No";
  if (kind === "discount_percentage") return `${value} %`;
  return String(value);
}

/** Returns options as text, such as `size: M, color: red`. */
export const optionsText = (options) =>
  Object.entries(options).map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");

/** Reads the text of options. */
export function optionsOf(text) {
  const options = {};
  for (const part of text.split(",")) {
    const at = part.indexOf(":");
    const name = (at < 0 ? part : part.slice(0, at)).trim();
    if (name) options[name] = at < 0 ? "" : part.slice(at + 1).trim();
  }
  return options;
}
