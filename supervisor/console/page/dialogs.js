// Questions before what can't be taken back, the list of keys, and short notes of what came of it.

import { byId, say } from "./dom.js";

const NOTE_MS = 6000;
let noteTimer = 0;

/** Say what has happened, for a while; screen readers read it out. */
export function note(text) {
  clearTimeout(noteTimer);
  say(byId("toast"), text);
  noteTimer = setTimeout(() => say(byId("toast"), ""), NOTE_MS);
}

export const isOpen = () => document.querySelector("dialog[open]") !== null;

export function showKeys() {
  if (!isOpen()) byId("help").showModal();
}

/**
 * Ask, and if the answer is yes, do it. While it is done the dialog stays; an error is shown in it.
 * The focus goes back to where it was, as <dialog> does it, or to `home` if that is gone.
 */
export function confirm({ title, text, yes, act, done, home }) {
  if (isOpen()) return;
  const dialog = byId("confirm");
  const [no, go, error] = ["confirm-no", "confirm-yes", "confirm-error"].map(byId);
  const opener = document.activeElement;
  say(byId("confirm-title"), title);
  say(byId("confirm-text"), text);
  say(go, yes);
  say(error, "");
  go.disabled = false;
  const form = dialog.querySelector("form");
  no.onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    say(go, `${yes} …`);
    say(error, "");
    try {
      await act();
      dialog.close();
      note(done);
    } catch (problem) {
      if (!dialog.open) note(problem.message); // nobody waited for it
      say(error, problem.message);
      say(go, yes);
      go.disabled = false;
      no.focus();
    }
  };
  dialog.onclose = () => {
    if (!opener.isConnected) home?.focus();
  };
  dialog.showModal();
  no.focus();
}
