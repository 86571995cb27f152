import { html, useEffect, useState } from "../lib/html.js";
import { login, useKey } from "../lib/session.js";
import { Button, Field, Form, Problem, Segments } from "../lib/ui.js";

export function Login() {
  const [way, setWay] = useState("user");
  const [values, setValues] = useState({ email: "", password: "", key: "" });
  const [error, setError] = useState(null);
  const set = (name) => (value) => setValues({ ...values, [name]: value });
  useEffect(() => {
    document.title = "Log in · ecom";
  }, []);

  const submit = async () => {
    setError(null);
    try {
      if (way === "user") await login(values.email.trim(), values.password);
      else await useKey(values.key.trim());
    } catch (reason) {
      setError(reason);
    }
  };
  return html`<main class="center">
    <div class="login card">
      <p class="brand"><img src="icon.svg" alt="" /> <span>ecom</span></p>
      <h1>Log in</h1>
      <${Segments} label="How you log in" value=${way} onChange=${(next) => { setWay(next); setError(null); }}
        options=${[["user", "Email address"], ["key", "API key"]]} />
      <${Form} onSubmit=${submit}>
        ${way === "user" ? html`
          <${Field} label="Email address" type="email" autocomplete="username" name="email" required value=${values.email}
            error=${error?.of("email")} onInput=${set("email")} autofocus />
          <${Field} label="Password" type="password" autocomplete="current-password" name="password" required
            value=${values.password} error=${error?.of("password")} onInput=${set("password")} />` : html`
          <${Field} label="API key" type="password" autocomplete="off" name="key" required value=${values.key}
            onInput=${set("key")} hint="The server prints the first key when it starts for the first time, and keeps it in admin.key. The key stays in this tab until you close it." />`}
        <${Problem} error=${error} />
        <${Button} type="submit" kind="main full">Log in<//>
      <//>
      ${way === "user" && html`<p class="hint">The first time in a new shop, <button type="button" class="link" onClick=${() => { setWay("key"); setError(null); }}>use
        the API key</button> that the server printed when it started, and then create a login of your own.</p>`}
    </div>
  </main>`;
}
