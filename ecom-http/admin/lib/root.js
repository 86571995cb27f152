// What every call of the API needs first. This file imports nothing, so its request is under way while the browser loads
// the other files of the page.

/** The path at which the application serves the router: empty at the root. */
export const base = location.pathname.replace(/\/admin\/.*$/, "");

/** The response with the links of the API. */
export const root = fetch(`${base}/`, { headers: { accept: "application/json" } });
// `connect` shows the error.
root.catch(() => {});
