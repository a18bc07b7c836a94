// The last hour, as the supervisor remembers it: five small plots with one time axis.

import uPlot from "./uplot.js";
import { byId, make, mark, say } from "./dom.js";
import { count, mos, ms, percent } from "./words.js";

const HOUR_S = 3600;
const LEAST_S = 300; // soon after a start the hour is short
const HEIGHT = 104;
const whole = (value) => count(value === null ? null : Math.round(value));
const PLOTS = [
  { title: "Calls", unit: whole, least: 4, lines: [
    { field: "calls", name: "up", colour: "--accent", fill: "--accent-faint" },
    { field: "suffering", name: "suffering", colour: "--bad", fill: "--bad-faint" }] },
  { title: "MOS", unit: mos, range: [1, 4.5], lines: [
    { field: "mos", name: "mean", colour: "--accent" },
    { field: "lowest_mos", name: "min", colour: "--ink-soft", dash: [3, 3] }] },
  { title: "Jitter", unit: ms, least: 40, lines: [
    { field: "jitter_ms", name: "mean", colour: "--accent" },
    { field: "highest_jitter_ms", name: "max", colour: "--ink-soft", dash: [3, 3] }] },
  { title: "Late slots", unit: (value) => percent(value, 1), least: 0.05, lines: [
    { field: "late_share", name: "worst worker", colour: "--accent", fill: "--accent-faint" }] },
  { title: "Failed", unit: whole, least: 4, lines: [
    { field: "setup_failed", name: "set-ups", colour: "--bad", bars: true },
    { field: "broken", name: "calls", colour: "--ink-soft", bars: true }] },
];

let samples = null; // by field, oldest first
let period = 5;
const plots = [];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function start() {
  for (const plan of PLOTS) {
    const values = make("span", { class: "values" });
    for (const line of plan.lines) {
      const value = make("span", { class: line.dash && "dashed" });
      value.style.setProperty("--colour", `var(${line.colour})`);
      values.append(value);
    }
    const frame = make("div", { class: "plot-frame" });
    const figure = make("figure", { class: "plot" },
      make("figcaption", {}, make("strong", {}, plan.title), values), frame);
    byId("plots").append(figure);
    plots.push({ plan, values, frame, chart: null });
  }
  new ResizeObserver(resize).observe(byId("plots"));
}

/** Begin with what the supervisor remembers. */
export function begin(past) {
  period = past.period_s;
  samples = past.samples;
  render();
}

/** Add the newest sample, if it is not there yet. */
export function add(sample) {
  if (samples === null || sample === null || sample.unix_s <= (samples.unix_s.at(-1) ?? 0)) return;
  for (const [field, values] of Object.entries(samples)) {
    values.push(sample[field]);
    while (values.length > HOUR_S / period) values.shift();
  }
  render();
}

/** Draw again in the colours of now. */
export function recolour() {
  for (const plot of plots) {
    plot.chart?.destroy();
    plot.chart = null;
  }
  render();
}

function render() {
  if (samples === null) return;
  for (const plot of plots) {
    const data = [samples.unix_s, ...plot.plan.lines.map((line) => samples[line.field])];
    if (plot.chart) plot.chart.setData(data);
    else if (plot.frame.clientWidth) plot.chart = new uPlot(options(plot), data, plot.frame);
    show(plot, samples.unix_s.length - 1);
  }
}

function resize() {
  for (const { chart, frame } of plots) {
    if (chart && chart.width !== frame.clientWidth) {
      chart.setSize({ width: frame.clientWidth, height: HEIGHT });
    }
  }
  render();
}

/** The values at a moment, in the plot's title. */
function show(plot, at) {
  if (at === null || at < 0 || samples === null) return;
  const { lines, unit } = plot.plan;
  lines.forEach((line, index) => {
    const [value, text] = [samples[line.field][at], plot.values.children[index]];
    say(text, `${unit(value)} ${line.name}`);
    mark(text, "data-none", line.colour === "--bad" && !value); // red is for what there is
  });
}

function options(plot) {
  const { plan, frame } = plot;
  const [ink, rule] = [colour("--ink-soft"), colour("--rule")];
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const bars = uPlot.paths.bars({ size: [0.9, 4, 1.5] });
  const now = () => samples.unix_s.at(-1) ?? Date.now() / 1000;
  const begun = () => samples.unix_s[0] ?? now();
  return {
    width: frame.clientWidth,
    height: HEIGHT,
    padding: [6, 16, 0, 0],
    legend: { show: false },
    select: { show: false },
    cursor: { y: false, sync: { key: "hour" }, drag: { x: false, y: false }, points: { size: 5 } },
    scales: {
      x: { range: () => [now() - Math.min(HOUR_S, Math.max(LEAST_S, now() - begun())), now()] },
      y: { range: (_, __, most) => plan.range ?? [0, Math.max(plan.least, most ?? 0) * 1.1] },
    },
    axes: [
      { stroke: ink, font, size: 20, gap: 2, space: 70, grid: { show: false }, ticks: { show: false },
        values: (_, times) => times.map(clock) },
      { stroke: ink, font, size: 44, gap: 4, space: 26, grid: { stroke: rule, width: 1 }, ticks: { show: false },
        values: (_, values) => values.map(plan.unit) },
    ],
    series: [{}, ...plan.lines.map((line) => ({
      stroke: colour(line.colour),
      fill: line.bars ? colour(line.colour) : line.fill && colour(line.fill),
      width: line.bars ? 0 : 1.5,
      dash: line.dash,
      paths: line.bars ? bars : undefined,
      points: { show: false },
      spanGaps: false,
    }))],
    hooks: { setCursor: [(chart) => show(plot, chart.cursor.idx ?? samples.unix_s.length - 1)] },
  };
}

function clock(unix) {
  const time = new Date(1000 * unix);
  return `${String(time.getHours()).padStart(2, "0")}:${String(time.getMinutes()).padStart(2, "0")}`;
}
