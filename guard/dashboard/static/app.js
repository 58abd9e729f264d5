// Which page is shown, what the head of it tells, and light or dark.
import { every, get, signedIn, signOut } from "./api.js";
import { forget, redraw } from "./charts.js";
import { h, seconds, short } from "./dom.js";
import { exchange } from "./exchange.js";
import { exchanges } from "./exchanges.js";
import { livePage } from "./live.js";
import { overview } from "./overview.js";
import { policies } from "./policies.js";
import { replicas } from "./replicas.js";

const PAGES = { "": ["overview", overview], live: ["live", livePage], exchanges: ["exchanges", exchanges], exchange: ["exchanges", exchange], replicas: ["replicas", replicas], policies: ["policies", policies] };
const main = document.getElementById("main");
let leaving = new AbortController();
let shown = null;

function show() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const [tab, page] = PAGES[name] ?? PAGES[""];
  const address = `${name}/${rest.join("/")}`;
  leaving.abort();
  leaving = new AbortController();
  forget();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === tab) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const root = h("div", { class: `page ${tab}` });
  main.replaceChildren(root);
  document.title = `${tab[0].toUpperCase()}${tab.slice(1)} · Guard`;
  if (shown !== null && shown !== address) { window.scrollTo(0, 0); main.focus({ preventScroll: true }); }
  shown = address;
  page(root, { args: rest.map(decodeURIComponent), query: new URLSearchParams(query), signal: leaving.signal });
}

window.addEventListener("hashchange", show);
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show); else show();

// -- head --------------------------------------------------------------------------------------------

const status = document.getElementById("status");
const leave = document.getElementById("sign-out");
leave.addEventListener("click", signOut);
let told = "";
every(5000, new AbortController().signal, async () => {
  let parts;
  try {
    const now = await get("guard/status");
    leave.hidden = !signedIn;
    parts = [
      now.draining ? ["warn", "Draining"] : null,
      now.policy_reload_ok ? null : ["bad", "Policy files are wrong; the last good ones are in force"],
      now.workers ? [now.workers.serving < now.workers.of ? "bad" : "", `${now.workers.serving} of ${now.workers.of} workers`] : null,
      ["", `${short(now.in_flight)} in flight`],
      ["", `up ${seconds(now.now - now.started_at)}`],
      ["", `v${now.version}`],
    ];
  } catch {
    parts = [["bad", "The guard does not answer"]];
  }
  const text = JSON.stringify(parts);
  if (text === told) return;
  told = text;
  status.replaceChildren(...parts.filter(Boolean).map(([style, name]) => h("span", { class: style ? `badge ${style}` : "" }, name)));
});

// -- light or dark -----------------------------------------------------------------------------------

const button = document.getElementById("theme");
const system = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function theme(choice) {
  if (choice) { document.documentElement.dataset.theme = choice; try { localStorage.setItem("guard-theme", choice); } catch { /* not kept */ } }
  button.textContent = isDark() ? "☀" : "☾";
  button.setAttribute("aria-label", isDark() ? "Switch to light" : "Switch to dark");
  redraw();
}

let kept = null;
try { kept = localStorage.getItem("guard-theme"); } catch { /* not kept */ }
theme(kept === "dark" || kept === "light" ? kept : null);
button.addEventListener("click", () => theme(isDark() ? "light" : "dark"));
system.addEventListener("change", () => theme(null));

// -- keys: g then a letter, and ? does nothing surprising ----------------------------------------------

let armed = 0;
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "g") { armed = Date.now(); return; }
  const page = { o: "#/", l: "#/live", e: "#/exchanges", r: "#/replicas", p: "#/policies" }[event.key];
  if (page && Date.now() - armed < 4000) { location.hash = page; armed = 0; }
});
