import { html, useState } from "../lib/html.js";
import { shop } from "../lib/api.js";
import { changePassword, logout, me } from "../lib/session.js";
import { switchTheme, theme } from "../lib/theme.js";
import { Badge, Button, Card, Field, Form, PageHead, Problem, attempt, note } from "../lib/ui.js";

export default function Account() {
  const { user, permissions, kind, actor } = me.value;
  return html`
    <${PageHead} title="Account">
      ${kind !== "open" && html`<${Button} icon="logout" onClick=${() => attempt(logout)}>Log out<//>`}
    <//>
    <div class="grid">
      <${Card} title="You"><dl class="facts">
        <dt>Name</dt><dd>${user?.name ?? (kind === "key" ? "API key" : "–")}</dd>
        ${user && html`<dt>Email</dt><dd>${user.email}</dd><dt>Roles</dt><dd>${user.roles.map((role) => html`<${Badge} key=${role} tone="info">${role}<//> `)}</dd>`}
        <dt>Actor</dt><dd><code>${actor}</code></dd>
        <dt>Server</dt><dd>ecom ${shop.value.version}, prices in ${shop.value.currency}</dd>
      </dl><//>
      ${user?.has_password && html`<${Password} />`}
      <${Card} title="Appearance"><p>This page follows the colors of your system until you choose.</p>
        <div class="actions after"><${Button} icon=${theme.value === "dark" ? "sun" : "moon"} onClick=${switchTheme}>${theme.value === "dark" ? "Use light colors" : "Use dark colors"}<//></div><//>
      <${Card} title="What you may do"><ul class="chips">${permissions.map((one) => html`<li key=${one}><${Badge}>${one}<//></li>`)}</ul><//>
    </div>`;
}

function Password() {
  const [values, setValues] = useState({ old: "", next: "" });
  const [error, setError] = useState(null);
  const submit = async () => {
    setError(null);
    try {
      await changePassword(values.old, values.next);
      setValues({ old: "", next: "" });
      note("The password is changed. Your other sessions have ended.");
    } catch (reason) {
      setError(reason);
    }
  };
  return html`<${Card} title="Password"><${Form} class="form" onSubmit=${submit}>
    <${Field} label="Current password" type="password" autocomplete="current-password" value=${values.old} onInput=${(old) => setValues({ ...values, old })}
      error=${error?.of("old_password") ?? (error?.code === "INVALID_CREDENTIALS" ? "is not the current password" : undefined)} />
    <${Field} label="New password" type="password" autocomplete="new-password" value=${values.next} onInput=${(next) => setValues({ ...values, next })} error=${error?.of("password")} hint="8 to 256 characters" />
    ${error && error.details.length === 0 && error.code !== "INVALID_CREDENTIALS" && html`<${Problem} error=${error} />`}
    <div class="actions end"><${Button} type="submit" kind="main">Change the password<//></div>
  <//><//>`;
}
