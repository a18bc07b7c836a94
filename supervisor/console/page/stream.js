// Pictures of the supervisor: server-sent events, read by fetch as EventSource can't send a header.

import { Refused, ask } from "./session.js";

const FIRST_MS = 500;
const MOST_MS = 8000;
const SILENT_MS = 6000; // a picture comes each second: without any for so long, the stream is dead

/** Read events until `signal` is aborted; connect again when the stream breaks. */
export async function follow(listener, signal) {
  let wait = FIRST_MS;
  while (!signal.aborted) {
    let problem = "the stream has ended";
    try {
      await read((name, data) => {
        wait = FIRST_MS;
        listener.onEvent(name, data);
      }, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        listener.onRefused(error.message);
        return;
      }
      problem = error instanceof Refused ? error.message : "the supervisor does not answer";
      if (error instanceof Refused) wait = Math.max(wait, 1000 * error.retryAfter);
    }
    if (signal.aborted) return;
    listener.onWaiting(problem, wait);
    await pause(wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(2 * wait, MOST_MS);
  }
}

async function read(onEvent, signal) {
  const stop = new AbortController();
  const end = () => stop.abort();
  signal.addEventListener("abort", end);
  let silent = setTimeout(end, SILENT_MS);
  try {
    const answer = await ask("console/live", { signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silent);
      silent = setTimeout(end, SILENT_MS);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) deliver(event, onEvent);
    }
  } finally {
    clearTimeout(silent);
    signal.removeEventListener("abort", end);
    stop.abort();
  }
}

function deliver(event, onEvent) {
  const fields = new Map();
  for (const line of event.split("\n")) {
    const colon = line.indexOf(": ");
    fields.set(line.slice(0, colon), line.slice(colon + 2));
  }
  onEvent(fields.get("event"), JSON.parse(fields.get("data")));
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
