// Light and dark: as the system wants it, unless somebody has chosen.

import { signal } from "./html.js";

const KEY = "ecom-admin.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** The chosen theme: `light`, `dark`, or null for that of the system. */
const chosen = signal(localStorage.getItem(KEY));
/** The theme that is shown. */
export const theme = signal("light");

function apply() {
  if (chosen.value) document.documentElement.dataset.theme = chosen.value;
  else delete document.documentElement.dataset.theme;
  theme.value = chosen.value ?? (system.matches ? "dark" : "light");
}

system.addEventListener("change", apply);
apply();

export function switchTheme() {
  const next = theme.value === "dark" ? "light" : "dark";
  chosen.value = next === (system.matches ? "dark" : "light") ? null : next;
  if (chosen.value) localStorage.setItem(KEY, chosen.value);
  else localStorage.removeItem(KEY);
  apply();
}

/** Returns a color of the style sheet, such as `--accent`, as a canvas needs it. */
export function color(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
