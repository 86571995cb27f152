// Forms of rows whose fields are texts. If somebody else saves the row in the meantime, the form takes over what only
// they have changed, and shows their value beside each field that both have changed.

import { html, useState } from "./html.js";
import { useOnce } from "./data.js";
import { Button, Field, Icon, note } from "./ui.js";

const hasSame = (a, b) => a.length === b.length && a.every((one) => b.includes(one));

/** Merges two edits of a list without an order: what either side has added is in it, and what either has removed is not. */
const mergeLists = (old, yours, theirs) => [
  ...theirs.filter((one) => yours.includes(one) || !old.includes(one)),
  ...yours.filter((one) => !theirs.includes(one) && !old.includes(one)),
];

/**
 * The state of a form. `row` is what the form begins with, `names` are its fields, `lists` are those of its fields that
 * are lists without an order, `read` reads the row again, and `send` saves the values that differ:
 * `send(changed, row, values, once)`, where `once` is for a POST. `done` gets the saved row.
 */
export function useForm({ names, lists = [], row, read, send, done, message = "Saved." }) {
  const texts = (from) => Object.fromEntries([...names.map((name) => [name, from?.[name] ?? ""]), ...lists.map((name) => [name, from?.[name] ?? []])]);
  const [base, setBase] = useState(row);
  const [values, setValues] = useState(texts(row));
  const [error, setError] = useState(null);
  const [theirs, setTheirs] = useState({});
  const once = useOnce();

  const submit = async () => {
    setError(null);
    const old = texts(base);
    const differing = [...names.filter((name) => values[name] !== old[name]), ...lists.filter((name) => !hasSame(values[name], old[name]))];
    const changed = Object.fromEntries(differing.map((name) => [name, values[name]]));
    try {
      const saved = await send(changed, base, values, once);
      note(message);
      await done(saved?.data);
    } catch (reason) {
      if (!reason.isConflict || !read) return setError(reason);
      let data;
      try {
        ({ data } = await read());
      } catch (failure) {
        return setError(failure);
      }
      setError(reason);
      const latest = texts(data);
      const both = names.filter((name) => values[name] !== old[name] && latest[name] !== old[name] && latest[name] !== values[name]);
      // What was typed while the row was read stays.
      setValues((now) => ({
        ...now,
        ...Object.fromEntries(names.filter((name) => now[name] === old[name]).map((name) => [name, latest[name]])),
        ...Object.fromEntries(lists.map((name) => [name, mergeLists(old[name], now[name], latest[name])])),
      }));
      setTheirs(Object.fromEntries(both.map((name) => [name, latest[name]])));
      setBase(data);
    }
  };

  const set = (name) => (value) => setValues((all) => ({ ...all, [name]: value }));
  const use = (name) => {
    setValues((all) => ({ ...all, [name]: theirs[name] }));
    setTheirs((all) => Object.fromEntries(Object.entries(all).filter(([other]) => other !== name)));
  };

  /** Returns a field of the form. */
  const field = (name, label, more = {}) => html`<div class="merged-field" key=${name}>
    <${Field} label=${label} value=${values[name]} onInput=${set(name)} error=${error?.of(name)} ...${more} />
    ${name in theirs && html`<p class="theirs" role="alert"><span>Somebody else has set this to <b>${more.shown?.(theirs[name]) ?? (theirs[name] || "(empty)")}</b>.</span>
      <${Button} small onClick=${() => use(name)}>Use theirs<//></p>`}
  </div>`;

  /** What is wrong beside the fields. */
  const problem = error?.isConflict
    ? html`<div class="banner warn" role="alert"><${Icon} name="alert" /><p>Somebody else has saved this in the meantime. ${Object.keys(theirs).length > 0
        ? "Where you both changed a field, theirs is shown below yours. Save again to keep what the form has." : "Their changes are in the form now, beside yours. Save again."}</p></div>`
    : error && !error.details.some((detail) => names.includes(detail.field)) ? html`<div class="problem" role="alert"><${Icon} name="alert" /><p>${error.message}</p></div>` : null;

  return { values, set, field, problem, submit };
}
