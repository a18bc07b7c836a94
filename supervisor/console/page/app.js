// The console: signs in, follows the supervisor's pictures, and carries out what is asked of it.

import * as calls from "./calls.js";
import * as dialogs from "./dialogs.js";
import { byId, say } from "./dom.js";
import * as node from "./node.js";
import * as plots from "./plots.js";
import { ask, isSignedIn, signIn, signOut } from "./session.js";
import { follow } from "./stream.js";
import * as theme from "./theme.js";
import * as workers from "./workers.js";

const STALE_MS = 3500; // a picture comes each second
const IDLE_MS = 15 * 60_000; // who sees numbers is signed out after so long without a key or a click
const ROLES = ["read", "operate", "admin"];

const state = { me: null, fields: [], picture: null, at: 0, problem: "", used: Date.now(), suffering: new Set(), stop: null };
const may = (role) => ROLES.indexOf(state.me?.role) >= ROLES.indexOf(role);

// Signing in and out

function showSignIn(why = "") {
  state.stop?.abort();
  signOut();
  Object.assign(state, { me: null, picture: null, at: 0, problem: "" });
  calls.show([], false);
  byId("console").hidden = true;
  byId("sign-in").hidden = false;
  say(byId("sign-in-why"), why);
  document.title = "Console";
  byId(why ? "secret" : "user").focus();
}

function open() {
  byId("sign-in").hidden = true;
  byId("console").hidden = false;
  state.stop = new AbortController();
  follow({ onEvent, onRefused: showSignIn, onWaiting }, state.stop.signal);
}

byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("user").value.trim(), byId("secret").value.trim());
  byId("secret").value = "";
  open();
});
byId("sign-out").addEventListener("click", () => showSignIn());

// What the supervisor says

function onEvent(name, data) {
  if (name === "you") showMe(data);
  else if (name === "history") begin(data);
  else if (name === "now") showPicture(data);
  else if (name === "refused") showSignIn(data.message);
}

function begin(past) {
  state.fields = past.call_fields;
  plots.begin(past);
}

function showMe(me) {
  state.me = me;
  say(byId("me"), `${me.name}, ${me.role}`);
}

function showPicture(picture) {
  picture.calls = picture.calls.map((row) =>
    Object.fromEntries(state.fields.map((field, index) => [field, row[index]])));
  Object.assign(state, { picture, at: Date.now(), problem: "" });
  showStaleness();
  node.show(picture);
  calls.show(picture.calls, may("operate"));
  workers.show(picture.workers, may("admin"), askRestart);
  plots.add(picture.sample);
  const drain = byId("drain");
  drain.hidden = !may("admin");
  drain.disabled = picture.node.stopping;
  say(drain, picture.node.draining ? "Take calls again" : "Drain");
  alarm(picture.calls);
}

/** Read out which calls have begun to suffer. */
function alarm(all) {
  const severe = all.filter((call) => call.level === 2);
  const fresh = severe.filter((call) => !state.suffering.has(call.sid));
  state.suffering = new Set(severe.map((call) => call.sid));
  if (!fresh.length) return;
  const [first] = fresh;
  const more = fresh.length > 1 ? `, and ${fresh.length - 1} more` : "";
  say(byId("alarms"), `Call ${first.sid.slice(-4)} suffers: ${first.reasons[0]}${more}`);
}

// Old pictures

function onWaiting(problem, wait) {
  state.problem = `${problem}; trying again ${wait < 2000 ? "now" : `in ${Math.round(wait / 1000)} s`}`;
  showStaleness();
}

function showStaleness() {
  if (byId("console").hidden) return;
  const age = state.at ? Date.now() - state.at : 0;
  const stale = state.problem !== "" || age > STALE_MS;
  byId("stale").hidden = !stale;
  document.body.classList.toggle("stale", stale);
  if (!stale) return;
  const old = state.at ? `What you see is ${Math.round(age / 1000)} s old` : "Nothing to see yet";
  say(byId("stale"), state.problem ? `${old}: ${state.problem}.` : `${old}: no news from the supervisor.`);
}

function signOutIfIdle() {
  if (state.me?.numbers && Date.now() - state.used > IDLE_MS) {
    showSignIn("Signed out: no key and no click for 15 minutes, with numbers on the screen.");
  }
}

for (const kind of ["keydown", "pointerdown"]) {
  document.addEventListener(kind, () => { state.used = Date.now(); }, { capture: true });
}
setInterval(() => { showStaleness(); signOutIfIdle(); }, 1000);

// What can be done

function askHangUp(call) {
  const path = `2010-04-01/Accounts/${state.me.account_sid}/Calls/${call.sid}.json`;
  dialogs.confirm({
    title: "Hang up?",
    text: `The call ${call.caller || "unknown"} to ${call.called || "unknown"} (${call.sid.slice(-4)}) ends for everybody in it.`,
    yes: "Hang up",
    act: () => ask(path, { method: "POST", body: new URLSearchParams({ Status: "completed" }) }),
    done: `Call ${call.sid.slice(-4)} is being ended.`,
    home: calls.home(),
  });
}

function askRestart(worker) {
  dialogs.confirm({
    title: `Restart worker ${worker}?`,
    text: "Another process takes over its calls. Callers hear a gap of 20 to 60 ms.",
    yes: "Restart",
    act: () => ask(`workers/${worker}/restart`, { method: "POST" }),
    done: `Worker ${worker} has been replaced.`,
  });
}

function askDrain() {
  const { draining } = state.picture.node;
  dialogs.confirm(draining ? {
    title: "Take calls again?",
    text: "New calls are taken from now on.",
    yes: "Take calls again",
    act: () => ask("drain", { method: "DELETE" }),
    done: "New calls are taken again.",
  } : {
    title: "Drain this node?",
    text: "New callers get the dialplan's fallback. Calls that are up go on. A restart of the supervisor ends the drain.",
    yes: "Drain",
    act: () => ask("drain", { method: "POST" }),
    done: "No new calls are taken.",
  });
}

function toggleTheme() {
  dialogs.note(`${theme.toggle() === "dark" ? "Dark" : "Light"} theme`);
  plots.recolour();
}

// Keys

const KEYS = {
  "/": () => byId("filter").focus(),
  "?": dialogs.showKeys,
  j: () => calls.step(1),
  k: () => calls.step(-1),
  h: calls.hangUpSelected,
  s: calls.toggleSuffering,
  t: toggleTheme,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialogs.isOpen() || byId("console").hidden) return;
  if (event.target.closest("input")) {
    if (event.key === "Escape" || event.key === "ArrowDown") {
      event.preventDefault();
      calls.home().focus();
    }
    return;
  }
  const arrows = { ArrowDown: 1, ArrowUp: -1 };
  const inTable = byId("calls-body").contains(event.target);
  if (event.key in arrows && inTable) calls.step(arrows[event.key]);
  else if (event.key in KEYS) KEYS[event.key]();
  else return;
  event.preventDefault();
});

theme.start(plots.recolour);
calls.start(askHangUp);
plots.start();
byId("drain").addEventListener("click", askDrain);
byId("theme").addEventListener("click", toggleTheme);
byId("keys").addEventListener("click", dialogs.showKeys);
if (isSignedIn()) open();
else showSignIn();
