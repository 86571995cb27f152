// What all files of the page take from the libraries: templates (htm), components and hooks (Preact), and signals,
// which are values that components follow.

import { h, render, Fragment } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render, Fragment };
export { useEffect, useLayoutEffect, useMemo, useRef, useState, useCallback, useId } from "../vendor/hooks.js";
export { signal, computed, effect, batch, useSignal, useComputed } from "../vendor/signals.js";

export const html = htm.bind(h);
