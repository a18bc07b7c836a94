// Who is signed in. Credentials stay in this tab's sessionStorage and go out in a header only.

const KEY = "authorization";

/** The header for a user and a secret, or for a token alone. */
function header(user, secret) {
  if (!user) return `Bearer ${secret}`;
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

export const isSignedIn = () => sessionStorage.getItem(KEY) !== null;
export const signIn = (user, secret) => sessionStorage.setItem(KEY, header(user, secret));
export const signOut = () => sessionStorage.removeItem(KEY);

/** An answer that is an error: its HTTP status, what it says, and after how many seconds to ask again. */
export class Refused extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * Ask the supervisor; a path is relative to the page's. Credentials of the browser are left out, so
 * it neither sends what it has remembered nor asks for them itself.
 */
export async function ask(path, options = {}) {
  const answer = await fetch(path, {
    cache: "no-store",
    redirect: "error",
    referrerPolicy: "no-referrer",
    ...options,
    credentials: "omit",
    headers: { Authorization: sessionStorage.getItem(KEY) ?? "", ...options.headers },
  });
  if (answer.ok) return answer;
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  throw new Refused(answer.status, await reason(answer), wait);
}

async function reason(answer) {
  try {
    const content = await answer.json();
    return String(content.message);
  } catch {
    return `the supervisor answers ${answer.status} ${answer.statusText}`;
  }
}
