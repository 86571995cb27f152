// Charts of values by day.

import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./html.js";
import { color, theme } from "./theme.js";
import { day, longDay } from "./format.js";

const { bars, linear } = uPlot.paths;
/** The steps of a scale of counts. */
const COUNTS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].flatMap((size) => [size, 2 * size, 5 * size]);
const isoDay = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);

/**
 * A chart of one value by day. `days` are texts such as `2026-01-31`, `format` is for the values of the pointer and
 * `axis` for those of the scale. Charts with the same `sync` share the pointer. `empty` is shown if all values are zero.
 */
export function DayChart({ days, values, kind, format, axis, label, empty, tone = "--accent", height = 220, sync }) {
  const frame = useRef(null);
  const shown = theme.value;
  useEffect(() => {
    const line = color(tone);
    const muted = color("--muted");
    const grid = color("--line");
    const tip = document.createElement("div");
    tip.className = "chart-tip";
    const style = { stroke: muted, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const fill = (chart) => {
      const paint = chart.ctx.createLinearGradient(0, chart.bbox.top, 0, chart.bbox.top + chart.bbox.height);
      const clear = line.replace(/^rgb\((.*)\)$/, "rgba($1, ");
      paint.addColorStop(0, `${clear}0.28)`);
      paint.addColorStop(1, `${clear}0.02)`);
      return paint;
    };
    const chart = new uPlot(
      {
        width: frame.current.clientWidth,
        height,
        padding: [12, 8, 0, 0],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, sync: sync && { key: sync }, points: { size: 8, fill: line } },
        scales: {
          // Half a day more on both sides, so that no bar is cut.
          x: { range: (_, low, high) => (kind === "bars" ? [low - 43_200, high + 43_200] : [low, high]) },
          y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] },
        },
        axes: [
          { ...style, grid: { show: false }, size: 32, space: 70, values: (_, at) => at.map((seconds) => day(isoDay(seconds))) },
          // Bars are counts, so their scale has whole numbers only.
          { ...style, size: 62, values: (_, at) => at.map(axis), ...(kind === "bars" ? { incrs: COUNTS } : {}) },
        ],
        series: [
          {},
          kind === "bars"
            ? { fill: line, width: 0, paths: bars({ size: [0.6, 28], radius: 0.25 }), points: { show: false } }
            : { stroke: line, width: 2, fill, paths: linear(), points: { show: false } },
        ],
        hooks: {
          init: [(made) => made.over.append(tip)],
          setCursor: [
            (made) => {
              const { idx, left } = made.cursor;
              tip.hidden = idx == null || left < 0;
              if (tip.hidden) return;
              tip.replaceChildren(longDay(days[idx]), document.createElement("br"));
              const value = document.createElement("strong");
              value.textContent = format(values[idx]);
              tip.append(value);
              const at = made.valToPos(made.data[0][idx], "x");
              tip.style.left = `${Math.max(0, Math.min(at - tip.offsetWidth / 2, made.over.clientWidth - tip.offsetWidth))}px`;
            },
          ],
        },
      },
      [days.map((text) => Date.parse(text) / 1000), values],
      frame.current,
    );
    const observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width > 0 && width !== chart.width) chart.setSize({ width, height });
    });
    observer.observe(frame.current);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [days.join(), values.join(), kind, shown, height]);
  return html`<div class="chart" ref=${frame} role="img" aria-label=${label}>
    ${values.every((value) => value === 0) && html`<p class="chart-empty">${empty}</p>`}
  </div>`;
}
