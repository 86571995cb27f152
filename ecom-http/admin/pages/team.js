import { html, useState } from "../lib/html.js";
import { get, patch, post, remove } from "../lib/api.js";
import { may, me } from "../lib/session.js";
import { useList, useRead, useRoute } from "../lib/data.js";
import { href } from "../lib/router.js";
import { useForm } from "../lib/form.js";
import { date, words } from "../lib/format.js";
import { Badge, Button, Check, Dialog, Field, Form, Listing, PageHead, ParamField, Problem, Secret, Tabs, When, attempt, confirm, note } from "../lib/ui.js";

export default function Team() {
  const { query } = useRoute();
  const tab = query.get("tab") ?? (may("users:read") ? "users" : "keys");
  const tabs = [
    may("users:read") && ["Users", href("/team"), tab === "users"],
    may("api_keys:read") && ["API keys", href("/team", { tab: "keys" }), tab === "keys"],
  ].filter(Boolean);
  return html`
    <${PageHead} title="Team" note="Who may log in, and which machines have a key." />
    <${Tabs} label="Team" tabs=${tabs} />
    ${tab === "keys" ? html`<${Keys} />` : html`<${Users} />`}`;
}

function Users() {
  const { query } = useRoute();
  const email = query.get("email") ?? "";
  const users = useList("/users", { email });
  const roles = useRead(may("roles:read") ? "/roles" : null);
  const [editing, setEditing] = useState(null);
  const canWrite = may("users:write");
  const names = (roles.data ?? []).map((role) => role.name);
  const block = async (user) => {
    const isBlocked = Boolean(user.blocked_at);
    if (!isBlocked && !(await confirm(`Block ${user.email}?`, { text: "All sessions of the user end at once.", action: "Block", danger: true }))) return;
    await attempt(() => patch(`/users/${user.id}`, { blocked: !isBlocked }, user.version), isBlocked ? "The user may log in again." : "The user is blocked.");
    users.reload();
  };
  return html`
    <div class="filters"><${ParamField} label="Email address" name="email" type="search" class="wide-field" />
      ${canWrite && html`<${Button} kind="main" icon="plus" onClick=${() => setEditing({})}>New user<//>`}</div>
    <${Problem} error=${roles.error} retry=${roles.reload} />
    <${Listing} list=${users} what="users" label="Users" empty="No users yet."
      columns=${[
        { key: "name", label: "User", cell: (user) => html`<b>${user.name ?? user.email}</b><span class="sub">${user.email}</span>` },
        { key: "roles", label: "Roles", cell: (user) => html`<span class="chips">${user.roles.map((role) => html`<${Badge} key=${role} tone=${role === "admin" ? "info" : "plain"}>${role}<//>`)}${user.blocked_at && html`<${Badge} tone="bad">blocked<//>`}</span>` },
        { key: "since", label: "Since", align: "end", narrow: false, cell: (user) => html`<${When} at=${user.created_at} />` },
        { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (user) => canWrite && user.id !== me.value.user?.id && html`<div class="actions wrap">
          <${Button} small onClick=${() => setEditing(user)} aria-label=${`Edit ${user.email}`}>Edit<//>
          <${Button} small kind="quiet" onClick=${() => block(user)} aria-label=${`${user.blocked_at ? "Unblock" : "Block"} ${user.email}`}>${user.blocked_at ? "Unblock" : "Block"}<//></div>` },
      ]} />
    ${editing && html`<${User} user=${editing} roles=${names} onClose=${() => setEditing(null)} onDone=${() => { setEditing(null); users.reload(); }} />`}`;
}

function User({ user, roles, onClose, onDone }) {
  const isNew = !user.id;
  const { values, set, field, problem, submit } = useForm({
    names: isNew ? ["name", "email", "password"] : ["name", "email"],
    lists: ["roles"],
    row: isNew ? { roles: ["staff"] } : user,
    read: isNew ? undefined : () => get(`/users/${user.id}`),
    send: (changed, row, values) =>
      isNew
        ? post("/users", { ...values, name: values.name || undefined })
        : patch(`/users/${user.id}`, { ...changed, ...(changed.name === "" ? { name: null } : {}) }, row.version),
    done: onDone,
  });
  return html`<${Dialog} title=${isNew ? "New user" : `Edit ${user.email}`} onClose=${onClose}><${Form} class="form" onSubmit=${submit}>
    ${problem}
    ${field("name", "Name", { autocomplete: "off" })}
    ${field("email", "Email address", { type: "email", autocomplete: "off" })}
    ${isNew && field("password", "Password", { type: "password", autocomplete: "new-password", hint: "8 to 256 characters. The user can change it on the page “Account”." })}
    <fieldset class="form"><legend class="label">Roles</legend><div class="columns tight">${roles.map((role) => html`<${Check} key=${role} label=${words(role)} checked=${values.roles.includes(role)}
      onChange=${(on) => set("roles")(on ? [...values.roles, role] : values.roles.filter((one) => one !== role))} />`)}</div></fieldset>
    <div class="actions end"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="main">Save<//></div>
  <//><//>`;
}

function Keys() {
  const keys = useList("/api-keys", {});
  const [isNew, setNew] = useState(false);
  const [made, setMade] = useState(null);
  const canWrite = may("api_keys:write");
  const removeIt = async (key) => {
    if (!(await confirm(`Delete the key “${key.name}”?`, { text: "Whoever uses it is refused at once.", action: "Delete", danger: true }))) return;
    await attempt(() => remove(`/api-keys/${key.id}`, key.version), "The key was deleted.");
    keys.reload();
  };
  return html`
    <div class="filters"><span class="grow"></span>${canWrite && html`<${Button} kind="main" icon="plus" onClick=${() => setNew(true)}>New key<//>`}</div>
    <${Listing} list=${keys} what="keys" label="API keys" empty="No keys yet."
      columns=${[
        { key: "name", label: "Key", cell: (key) => html`<b>${key.name}</b><span class="sub"><code>${key.prefix}…</code></span>` },
        { key: "may", label: "May", narrow: false, cell: (key) => (key.is_admin ? html`<${Badge} tone="info">everything<//>` : html`<span class="sub">${key.permissions.join(", ")}</span>`) },
        { key: "used", label: "Last used", align: "end", cell: (key) => html`<${When} at=${key.last_used_at} />` },
        { key: "until", label: "Expires", align: "end", narrow: false, cell: (key) => (key.expires_at ? date(key.expires_at) : "never") },
        { key: "do", label: "Actions", hideLabel: true, align: "end", cell: (key) => canWrite && html`<${Button} small kind="quiet" icon="trash" aria-label=${`Delete ${key.name}`} onClick=${() => removeIt(key)} />` },
      ]} />
    ${isNew && html`<${Key} onClose=${() => setNew(false)} onDone=${(key) => { setNew(false); setMade(key); keys.reload(); }} onUnknown=${keys.reload} />`}
    ${made && html`<${Secret} title="The new key" hint="Nobody can read it again." text=${made.secret} onClose=${() => setMade(null)} />`}`;
}

function Key({ onClose, onDone, onUnknown }) {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState([]);
  const [error, setError] = useState(null);
  const submit = async () => {
    setError(null);
    try {
      onDone((await post("/api-keys", { name, permissions: chosen })).data);
      note("The key was created.");
    } catch (reason) {
      setError(reason);
      if (reason.isUnknown) onUnknown();
    }
  };
  return html`<${Dialog} title="New API key" wide onClose=${onClose}><${Form} class="form" onSubmit=${submit}>
    <${Field} label="Name" value=${name} onInput=${setName} error=${error?.of("name")} placeholder="warehouse robot" />
    <fieldset class="form"><legend class="label">What it may do</legend><div class="columns tight">${me.value.permissions.map((one) => html`<${Check} key=${one} label=${one} checked=${chosen.includes(one)}
      onChange=${(on) => setChosen(on ? [...chosen, one] : chosen.filter((other) => other !== one))} />`)}</div></fieldset>
    ${error && !error.of("name") && html`<${Problem} error=${error} />`}
    ${error?.isUnknown && html`<p class="hint">The key may have been created all the same. Look in the list before you try again, and delete a key whose secret you have not seen.</p>`}
    <div class="actions end"><${Button} onClick=${onClose}>Cancel<//><${Button} type="submit" kind="main">Create<//></div>
  <//><//>`;
}
