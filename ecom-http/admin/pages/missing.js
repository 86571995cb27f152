import { html } from "../lib/html.js";
import { PageHead } from "../lib/ui.js";

export default function Missing() {
  return html`<${PageHead} title="No such page" note="The page does not exist, or you may not see it." />
    <p><a href="#/">To the overview</a></p>`;
}
