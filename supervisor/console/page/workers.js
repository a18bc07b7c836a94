// Each worker with what it does, and its ports as a strip: tall is leased, low is at rest.

import { arrange, byId, draw, make, mark, say } from "./dom.js";
import { LEVELS, count, mebibytes, percent, seconds, some } from "./words.js";

const CELL = 3;
const HEIGHT = 14;
const FIGURES = {
  Calls: (worker) => count(worker.calls),
  Poor: (worker) => count(worker.poor_calls),
  Late: (worker) => percent(worker.late_share, 1),
  Memory: (worker) => mebibytes(worker.rss_bytes),
  Heartbeat: (worker) => seconds(worker.heartbeat_s),
  Deaths: (worker) => count(worker.deaths),
};
const cards = new Map();

/** Show the workers; `allowed`: whether they may be restarted, which `restart` asks about. */
export function show(workers, allowed, restart) {
  for (const worker of workers) {
    if (!cards.has(worker.worker)) cards.set(worker.worker, build(worker, restart));
    fill(cards.get(worker.worker), worker, allowed);
  }
  arrange(byId("workers"), workers.map((worker) => cards.get(worker.worker).card));
}

function build(worker, restart) {
  const name = `Worker ${worker.worker}`;
  const card = make("article", { class: "worker", "aria-label": name });
  const place = make("span", { class: "muted" });
  const button = make("button", { type: "button", "aria-label": `Restart worker ${worker.worker}` }, "Restart");
  button.addEventListener("click", () => restart(worker.worker));
  const state = make("p", { class: "state" });
  const meter = make("meter", { min: 0, max: 1, high: 0.85, "aria-label": `CPU of worker ${worker.worker}` });
  const share = make("span", { class: "share" });
  const figures = Object.fromEntries(Object.keys(FIGURES).map((title) => [title, make("dd")]));
  const list = make("dl", { class: "figures" });
  for (const [title, value] of Object.entries(figures)) {
    list.append(make("div", {}, make("dt", {}, title), value));
  }
  const strip = draw("svg", { class: "strip", role: "img", preserveAspectRatio: "none" });
  const range = make("p", { class: "muted range" });
  card.append(
    make("header", {}, make("h3", {}, name), place, button),
    state,
    make("p", { class: "cpu" }, make("span", { class: "muted" }, "CPU"), meter, share),
    list, strip, range,
  );
  return { card, place, button, state, meter, share, figures, strip, range };
}

function fill(parts, worker, allowed) {
  mark(parts.card, "data-level", LEVELS[worker.level]);
  say(parts.place, `CPU ${worker.cpu}` + (worker.pid ? `, process ${worker.pid}` : ""));
  const doing = worker.replacing ? "being replaced" : worker.state;
  say(parts.state, worker.reasons.length ? worker.reasons.join(", ") : doing);
  parts.meter.value = Math.min(1, worker.cpu_share);
  say(parts.share, percent(worker.cpu_share));
  for (const [title, value] of Object.entries(FIGURES)) say(parts.figures[title], value(worker));
  parts.button.hidden = !allowed;
  parts.button.disabled = worker.replacing || !worker.up;
  ports(parts, worker);
}

function ports({ strip, range }, worker) {
  const { cells } = worker;
  const total = worker.last_port - worker.first_port + 1;
  const size = Math.ceil(total / Math.max(1, cells.length));
  const { free, leased, quarantined } = worker.ports;
  const text = `${some(total, "port", "ports")}: ${count(leased)} leased, ${count(quarantined)} at rest, ${count(free)} free`;
  mark(strip, "viewBox", `0 0 ${cells.length * CELL} ${HEIGHT}`);
  mark(strip, "aria-label", text);
  while (strip.childElementCount > cells.length) strip.lastChild.remove();
  while (strip.childElementCount < cells.length) {
    const x = strip.childElementCount * CELL;
    strip.append(draw("rect", { x, width: CELL - 0.6 }));
  }
  cells.forEach(([held, resting], index) => {
    const [state, height] = held ? ["leased", HEIGHT] : resting ? ["resting", HEIGHT / 2] : ["free", 2];
    const cell = strip.children[index];
    mark(cell, "class", state);
    mark(cell, "height", height);
    mark(cell, "y", HEIGHT - height);
    mark(cell, "fill-opacity", held ? (0.5 + 0.5 * Math.min(1, held / size)).toFixed(2) : 1);
  });
  say(range, `${worker.first_port} to ${worker.last_port}: ${count(leased)} leased, ${count(quarantined)} at rest`);
}
