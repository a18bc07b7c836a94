// Dark or light: as the system has it, until somebody chooses.

const KEY = "theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

const chosen = () => localStorage.getItem(KEY);
const current = () => chosen() ?? (dark.matches ? "dark" : "light");

function apply() {
  document.documentElement.dataset.theme = current();
}

/** Have the theme followed; `changed` is called after each change. */
export function start(changed) {
  apply();
  dark.addEventListener("change", () => { apply(); changed(); });
}

/** The other one from now on; returns its name. */
export function toggle() {
  localStorage.setItem(KEY, current() === "dark" ? "light" : "dark");
  apply();
  return current();
}
