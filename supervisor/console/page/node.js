// The node as a whole: its status, what is wrong, and how much room there is.

import { arrange, byId, make, mark, say } from "./dom.js";
import { LEVELS, count, duration, some } from "./words.js";

const LOOK = { ok: "in service", degraded: "degraded", draining: "draining" };
let facts = null;

export function show(picture) {
  const { node, status, calls, workers } = picture;
  say(byId("status"), node.stopping ? "about to end" : LOOK[status] ?? status);
  mark(byId("status"), "data-level", status === "degraded" ? "suffers" : "fine");
  headline(node, calls, workers);
  showFacts(node);
  document.title = node.suffering ? `(${node.suffering}) Console` : "Console";
}

function headline(node, calls, workers) {
  const level = Math.max(node.level, ...workers.map((worker) => worker.level), 0);
  const severe = node.suffering > 0 || level === 2;
  mark(byId("headline"), "data-level", LEVELS[severe ? 2 : level]);
  say(byId("verdict"), verdict(node, workers));
  const reasons = [...node.reasons];
  for (const worker of workers) {
    reasons.push(...worker.reasons.map((text) => `worker ${worker.worker}: ${text}`));
  }
  reasons.push(...commonReasons(calls));
  say(byId("because"), reasons.slice(0, 6).join("  ·  "));
}

function verdict(node, workers) {
  if (node.suffering) {
    const verb = node.suffering === 1 ? "suffers" : "suffer";
    return `${count(node.suffering)} of ${some(node.calls, "call", "calls")} ${verb}`;
  }
  if (node.level === 2) return "The node suffers";
  if (workers.some((worker) => worker.level === 2)) return "A worker suffers";
  if (!node.calls) return "No calls";
  return node.calls === 1 ? "1 call, all well" : `${count(node.calls)} calls, all well`;
}

/** What the suffering calls have in common: the kinds of reasons, the most frequent first. */
function commonReasons(calls) {
  const kinds = new Map();
  for (const call of calls) {
    if (call.level < 2) continue;
    const kind = call.reasons[0].replace(/( for| after|,)? \d.*$|,.*$/, "");
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  const sorted = [...kinds].sort((a, b) => b[1] - a[1]);
  return sorted.map(([kind, number]) => (number > 1 ? `${kind} ×${number}` : kind));
}

function showFacts(node) {
  const { capacity } = node;
  const refused = Object.values(node.refused).reduce((sum, value) => sum + value, 0);
  const shown = {
    "Room for": [`${count(capacity.left)} more`, `${capacity.limit}: ${count(capacity.most)}`],
    "Refused": [count(refused), "since the start"],
    "Asterisk": [node.ari.connected ? "connected" : "away", ""],
    "Up": [duration(node.uptime_s), `version ${node.version}`],
  };
  facts ??= Object.fromEntries(
    Object.keys(shown).map((name) => [name, { value: make("span"), more: make("span", { class: "muted" }) }]),
  );
  if (!byId("facts").firstChild) {
    const items = Object.entries(facts).map(([name, { value, more }]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value, more)));
    arrange(byId("facts"), items);
  }
  for (const [name, [value, more]] of Object.entries(shown)) {
    say(facts[name].value, value);
    say(facts[name].more, more);
  }
}
