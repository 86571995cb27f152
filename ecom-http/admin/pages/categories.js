import { html, useMemo, useState } from "../lib/html.js";
import { get, patch, post, remove } from "../lib/api.js";
import { may } from "../lib/session.js";
import { useDebounced, useRead, useRoute } from "../lib/data.js";
import { useLive } from "../lib/live.js";
import { useForm } from "../lib/form.js";
import { href, setParams } from "../lib/router.js";
import { number } from "../lib/format.js";
import { Bones, Button, Card, Dialog, Form, Icon, PageHead, Problem, attempt, confirm } from "../lib/ui.js";

export default function Categories() {
  const { query } = useRoute();
  const tree = useRead("/categories/tree");
  const refresh = useDebounced(tree.reload, 400);
  useLive((event) => (event.kind.startsWith("category.") || event.kind === "reset") && refresh());
  const [editing, setEditing] = useState(null);
  const open = new Set(query.getAll("open"));
  const all = useMemo(() => {
    const rows = [];
    const walk = (nodes, trail) => nodes.forEach((node) => {
      rows.push({ ...node, name: [...trail, node.name].join(" › "), own: node.name });
      walk(node.children, [...trail, node.name]);
    });
    walk(tree.data ?? [], []);
    return rows;
  }, [tree.data]);
  const toggle = (slug) => {
    const next = new Set(open);
    if (!next.delete(slug)) next.add(slug);
    setParams({ open: [...next] }, { replace: true });
  };
  /** Opens the categories above one that was just saved. */
  const reveal = (parentId) => {
    const parent = all.find((one) => one.id === parentId);
    if (parent) setParams({ open: [...new Set([...open, ...all.filter((one) => `${parent.path}/`.startsWith(`${one.path}/`)).map((one) => one.slug)])] }, { replace: true });
  };
  const removeIt = async (node) => {
    if (!(await confirm(`Delete “${node.name}”?`, { text: "A category with products or other categories below it is not deleted.", action: "Delete", danger: true }))) return;
    await attempt(() => remove(`/categories/${node.id}`, node.version), "The category was deleted.");
    tree.reload();
  };
  const canWrite = may("categories:write");
  const branch = (nodes) => html`<ul>${nodes.map((node) => html`<li key=${node.id}>
    <div class="node">
      ${node.children.length > 0
        ? html`<button type="button" class="twist" aria-expanded=${open.has(node.slug) ? "true" : "false"} aria-label=${`Categories below ${node.name}`} onClick=${() => toggle(node.slug)}><${Icon} name="next" /></button>`
        : html`<span class="twist"></span>`}
      <a class="name" href=${href("/catalog", { category: node.id })}>${node.name}</a>
      <small class="count">${number(node.subtree_product_count)}<span class="words"> ${node.subtree_product_count === 1 ? "product" : "products"}</span></small>
      ${canWrite && html`<${Button} small kind="quiet" onClick=${() => setEditing(node)} aria-label=${`Edit ${node.name}`}>Edit<//>
        <${Button} small kind="quiet" icon="plus" onClick=${() => setEditing({ parent_id: node.id })} aria-label=${`New category below ${node.name}`} />
        ${node.subtree_product_count === 0 && node.children.length === 0 && html`<${Button} small kind="quiet" icon="trash" aria-label=${`Delete ${node.name}`} onClick=${() => removeIt(node)} />`}`}
    </div>
    ${open.has(node.slug) && node.children.length > 0 && branch(node.children)}
  </li>`)}</ul>`;
  return html`
    <${PageHead} title="Categories">
      ${all.some((node) => node.children.length > 0) && html`<${Button} onClick=${() => setParams({ open: open.size ? [] : all.filter((node) => node.children.length).map((node) => node.slug) }, { replace: true })}>${open.size ? "Close all" : "Open all"}<//>`}
      ${canWrite && html`<${Button} kind="main" icon="plus" onClick=${() => setEditing({ parent_id: null })}>New category<//>`}
    <//>
    <${Problem} error=${tree.error} retry=${tree.reload} />
    <${Card}>
      ${tree.data?.length === 0 && html`<p class="empty">No categories yet. Shoppers browse the catalog by category, and a category can contain others.</p>`}
      ${!tree.data && !tree.error && html`<${Bones} />`}
      <div class="tree">${branch(tree.data ?? [])}</div>
    <//>
    ${editing && html`<${Edit} category=${editing} all=${all} onClose=${() => setEditing(null)} onDone=${(saved) => { setEditing(null); tree.reload(); reveal(saved?.parent_id); }} />`}`;
}

function Edit({ category, all, onClose, onDone }) {
  const isNew = !category.id;
  const below = all.filter((one) => isNew || !(one.id === category.id || one.path.startsWith(`${category.path}/`)));
  const nullable = (changed) => Object.fromEntries(Object.entries(changed).map(([name, value]) => [name, value === "" && name !== "name" ? null : value]));
  const { field, problem, submit } = useForm({
    names: ["name", "parent_id", "slug", "description"],
    row: category,
    read: isNew ? undefined : () => get(`/categories/${category.id}`),
    send: (changed, row, values, once) =>
      isNew
        ? post("/categories", { name: values.name, slug: values.slug || undefined, description: values.description || undefined, parent_id: values.parent_id || null }, { once })
        : patch(`/categories/${category.id}`, nullable(changed), row.version),
    done: onDone,
    message: isNew ? "The category was created." : "Saved.",
  });
  return html`<${Dialog} title=${isNew ? "New category" : `Edit ${category.name}`} onClose=${onClose}>
    <${Form} class="form" onSubmit=${submit}>
      ${problem}
      ${field("name", "Name", { required: true, maxlength: 100 })}
      ${field("parent_id", "Below", { options: [["", "(top level)"], ...below.map((one) => [one.id, one.name])], shown: (id) => all.find((one) => one.id === id)?.name ?? "(top level)" })}
      ${field("slug", "Name in URLs", { hint: "Made from the name if empty" })}
      ${field("description", "Description", { rows: 3 })}
      <div class="actions end"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="main">Save<//></div>
    <//>
  <//>`;
}
