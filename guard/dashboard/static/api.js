// What the page asks the guard. Addresses are relative, so that a proxy may put the page below a path of its own.

// Where there is an admin token and the session is over: to the page to sign in with, and back to where one was.
function signedOut(reply) {
  if (reply.status === 401) location.assign(`login${location.hash}`);
  return reply;
}

export let signedIn = false;

export async function get(path) {
  const reply = signedOut(await fetch(path, { headers: { Accept: "application/json" } }));
  signedIn = reply.headers.has("X-Guard-Signed-In");
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(body.error ?? `the guard answered ${reply.status}`), { status: reply.status });
  return body;
}

export async function post(path, data) {
  const reply = signedOut(await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) }));
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(body.error ?? `the guard answered ${reply.status}`);
  return body;
}

export async function signOut() {
  await fetch("logout", { method: "POST" });
  location.assign("login");
}

// Calls `work` now and every so often until the page is left; never twice at once, not while it is hidden.
export function every(milliseconds, signal, work) {
  let timer = 0;
  const run = async () => {
    if (!document.hidden) await work();
    if (!signal.aborted) timer = setTimeout(run, milliseconds);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  run();
}

// A server-sent feed; it comes back by itself, and tells how it is.
export function listen(path, signal, handlers, onState) {
  const source = new EventSource(path);
  for (const [name, handle] of Object.entries(handlers)) source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  source.addEventListener("open", () => onState("open"));
  source.addEventListener("error", () => onState(source.readyState === EventSource.CLOSED ? "closed" : "waiting"));
  signal.addEventListener("abort", () => source.close());
}
