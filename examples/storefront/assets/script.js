// Suggestions while the shopper types. Everything else works without a script.
"use strict";

const field = document.getElementById("q");
const list = document.getElementById("suggestions");
let asked = null;

function close() {
  asked?.abort();
  list.hidden = true;
}

async function suggest() {
  asked?.abort();
  const text = field.value.trim();
  if (text === "") return close();
  asked = new AbortController();
  try {
    const answer = await fetch(`/suggest?q=${encodeURIComponent(text)}`, { signal: asked.signal });
    if (!answer.ok) return close();
    // The server has escaped the texts.
    list.innerHTML = await answer.text();
    list.hidden = list.querySelector("a") === null;
  } catch {
    // A later key has replaced the request, or the server is gone: the form still works.
  }
}

field.addEventListener("input", suggest);
field.form.addEventListener("focusout", (event) => {
  if (!field.form.contains(event.relatedTarget)) close();
});
field.form.addEventListener("keydown", (event) => {
  const links = [...list.querySelectorAll("a")];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    field.focus();
    close();
  } else if (step && !list.hidden) {
    event.preventDefault();
    const at = links.indexOf(document.activeElement) + step;
    (links[at] ?? field).focus();
  }
});

// On a narrow screen, the filters begin closed.
if (matchMedia("(max-width: 48rem)").matches) document.querySelector(".filters")?.removeAttribute("open");

// A second click on the button that places an order does nothing. The server places one order in any case.
document.querySelector("form.checkout")?.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button");
  setTimeout(() => (button.disabled = true));
});
// A page that the browser shows again when the shopper goes back has its button again.
addEventListener("pageshow", () => document.querySelectorAll("form.checkout button").forEach((b) => (b.disabled = false)));
