// The table of calls: those that suffer first, at most a hundred of them, sorted and filtered.

import { arrange, byId, make, mark, say } from "./dom.js";
import { LEVELS, count, duration, mos, ms, percent } from "./words.js";

const MOST_ROWS = 100;
const SIGNS = ["", "◐", "●"]; // beside the colour, for who can't tell colours apart

const COLUMNS = [
  { id: "who", title: "Call", text: (call) => who(call), key: (call) => call.caller },
  { id: "why", title: "State", text: (call) => why(call), key: (call) => -call.level },
  { id: "seconds", title: "Time", text: (call) => duration(call.seconds) },
  { id: "worker", title: "Worker", text: (call) => (call.worker < 0 ? "–" : String(call.worker)) },
  { id: "mos", title: "MOS", text: (call) => mos(call.mos) },
  { id: "jitter_ms", title: "Jitter", text: (call) => ms(call.jitter_ms) },
  { id: "loss", title: "Loss", text: (call) => percent(call.loss, 1) },
  { id: "late", title: "Late", text: (call) => count(call.late) },
  { id: "packets_in", title: "In", text: (call) => count(call.packets_in) },
  { id: "packets_out", title: "Out", text: (call) => count(call.packets_out) },
  { id: "playout_ms", title: "Playout", text: (call) => ms(call.playout_ms) },
  { id: "first_audio_ms", title: "First audio", text: (call) => ms(call.first_audio_ms) },
  { id: "stream", title: "Agent", text: (call) => agent(call) },
];
const HINTS = {
  mos: "Estimate of the caller's voice, 1 to 4.4, since the call's begin",
  jitter_ms: "Of the moment",
  loss: "Of the last seconds",
  late: "Packets that came behind their successors, and were dropped",
  packets_in: "Packets from the caller",
  packets_out: "Packets to the caller",
  playout_ms: "The voice server's audio that waits to be played",
  first_audio_ms: "From the call's begin to the voice server's first audio",
  stream: "The connection to the voice server, and how often it was lost",
};

const rows = new Map(); // by sid: { row, cells, button, call }
let all = [];
let sortBy = null; // a column, or null for the supervisor's order: the worst first
let falling = false;
let needle = "";
let sufferingOnly = false;
let selected = "";
let mayHangUp = false;
let onHangUp = () => {};

const who = (call) => `${call.caller || "unknown"} ${call.direction === "in" ? "→" : "⇢"} ${call.called || "unknown"}`;
const why = (call) => (call.reasons.length ? call.reasons.join(", ") : call.state);
const agent = (call) =>
  (call.stream || "–") + (call.reconnects ? `, lost ${call.reconnects}×` : "");

export function start(hangUp) {
  onHangUp = hangUp;
  const head = COLUMNS.map((column) => {
    const button = make("button", { type: "button", title: HINTS[column.id] }, column.title);
    button.addEventListener("click", () => sort(column));
    return make("th", { scope: "col", role: "columnheader", class: `c-${column.id}` }, button);
  });
  const last = make("th", { scope: "col", role: "columnheader", class: "c-act" });
  last.append(make("span", { class: "sr-only" }, "Actions"));
  byId("calls-head").append(...head, last);
  byId("filter").addEventListener("input", (event) => {
    needle = event.target.value.trim().toLowerCase();
    render();
  });
  byId("suffering-only").addEventListener("click", toggleSuffering);
  byId("calls-body").addEventListener("focusin", (event) => {
    const row = event.target.closest("tr");
    if (row) select(row.dataset.sid);
  });
}

export function toggleSuffering() {
  sufferingOnly = !sufferingOnly;
  byId("suffering-only").setAttribute("aria-pressed", sufferingOnly);
  render();
}

/** Show these calls; `allowed`: whether they may be hung up. */
export function show(calls, allowed) {
  all = calls;
  mayHangUp = allowed;
  render();
}

/** Move the focus by so many rows. */
export function step(by) {
  const shown = [...byId("calls-body").children];
  if (!shown.length) return;
  const at = shown.findIndex((row) => row.dataset.sid === selected);
  const inTable = byId("calls-body").contains(document.activeElement);
  const next = at < 0 || !inTable ? Math.max(at, 0) : Math.min(Math.max(at + by, 0), shown.length - 1);
  shown[next].focus();
  shown[next].scrollIntoView({ block: "nearest" });
}

/** Ask to hang up the call that has the focus. */
export function hangUpSelected() {
  const entry = rows.get(selected);
  if (entry && mayHangUp && entry.row.contains(document.activeElement)) onHangUp(entry.call);
}

/** Where the focus goes when the call that had it is gone. */
export const home = () => byId("calls-body").querySelector("tr") ?? byId("filter");

function sort(column) {
  if (sortBy !== column) [sortBy, falling] = [column, false];
  else if (!falling) falling = true;
  else [sortBy, falling] = [null, false];
  render();
}

function wanted() {
  const fits = (call) =>
    (!sufferingOnly || call.level === 2) &&
    (!needle || `${who(call)} ${call.sid} worker ${call.worker} ${call.state} ${why(call)} ${agent(call)}`
      .toLowerCase().includes(needle));
  const found = needle || sufferingOnly ? all.filter(fits) : [...all];
  if (sortBy) {
    const key = sortBy.key ?? ((call) => call[sortBy.id]);
    found.sort((a, b) => compare(key(a), key(b)) * (falling ? -1 : 1));
  }
  return found;
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return a < b ? -1 : Number(a > b);
}

function render() {
  const found = wanted();
  const shown = found.slice(0, MOST_ROWS);
  const hadFocus = byId("calls-body").contains(document.activeElement);
  const kept = new Set(shown.map((call) => call.sid));
  for (const sid of rows.keys()) if (!kept.has(sid)) rows.delete(sid);
  if (!kept.has(selected)) selected = shown[0]?.sid ?? "";
  const focused = document.activeElement;
  arrange(byId("calls-body"), shown.map((call) => fill(call).row));
  if (hadFocus && focused.isConnected) focused.focus(); // a row that was moved has lost it
  else if (hadFocus) home().focus();
  tell(found.length, shown.length);
  [...byId("calls-head").children].forEach((head, index) => {
    const own = sortBy !== null && COLUMNS[index] === sortBy;
    mark(head, "aria-sort", own ? (falling ? "descending" : "ascending") : null);
  });
}

function tell(found, shown) {
  const text = shown < found ? `the first ${shown} of ${count(found)}; filter to see others`
    : found < all.length ? `${count(found)} of ${count(all.length)}` : count(found);
  say(byId("calls-count"), text);
  const none = byId("calls-none");
  none.hidden = found > 0;
  say(none, all.length ? "No call fits the filter." : "No calls in progress.");
}

function fill(call) {
  let entry = rows.get(call.sid);
  if (!entry) rows.set(call.sid, (entry = build(call)));
  entry.call = call;
  const { row, cells, sign, button } = entry;
  mark(row, "data-level", LEVELS[call.level]);
  mark(row, "data-plain", call.level === 0 && call.state === "up" && call.stream === "up");
  mark(row, "tabindex", call.sid === selected ? 0 : -1);
  COLUMNS.forEach((column, index) => say(cells[index], column.text(call)));
  say(sign, SIGNS[call.level]);
  button.hidden = !mayHangUp;
  return entry;
}

function build(call) {
  const row = make("tr", { role: "row", "data-sid": call.sid, title: call.sid });
  const sign = make("span", { class: "sign", "aria-hidden": "true" });
  const cells = COLUMNS.map((column) => {
    const cell = make("td", { role: "cell", class: `c-${column.id}`, "data-title": column.title });
    const text = make("span", { class: "text" });
    if (column.id === "who") {
      cell.append(sign, text, make("span", { class: "tail" }, call.sid.slice(-4)));
    } else {
      cell.append(text);
    }
    row.append(cell);
    return text;
  });
  const name = `Hang up call ${call.sid.slice(-4)}`;
  const button = make("button", { type: "button", class: "hang-up", "aria-label": name }, "Hang up");
  button.addEventListener("click", () => onHangUp(rows.get(call.sid)?.call ?? call));
  row.append(make("td", { role: "cell", class: "c-act" }, button));
  return { row, cells, sign, button, call };
}

function select(sid) {
  selected = sid;
  for (const [each, { row }] of rows) mark(row, "tabindex", each === sid ? 0 : -1);
}
