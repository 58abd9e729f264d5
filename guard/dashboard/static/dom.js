// Elements and figures. Text from outside only ever becomes text, never markup.

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const whole = (value) => Math.round(value).toLocaleString("en-US");

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return trim(value / 1e9) + " G";
  if (size >= 1e6) return trim(value / 1e6) + " M";
  if (size >= 1e4) return trim(value / 1e3) + " k";
  if (size >= 100 || Number.isInteger(value)) return whole(value);
  return trim(value);
}

const trim = (value) => String(Number(value.toPrecision(3)));

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.0005) return "0 ms";
  if (value < 1) return `${Number((value * 1000).toPrecision(value < 0.1 ? 2 : 3))} ms`;
  if (value < 100) return `${Number(value.toPrecision(3))} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} d`;
}

export const percent = (share) => (share === null || share === undefined || Number.isNaN(share) ? "–" : `${trim(share * 100)} %`);
export const per10k = (count, of) => (of ? (count / of) * 10000 : null);

export function clock(unix, withSeconds = true) {
  const options = { hour: "2-digit", minute: "2-digit", hour12: false, ...(withSeconds ? { second: "2-digit" } : {}) };
  return new Date(unix * 1000).toLocaleTimeString("en-GB", options);
}

export function ago(unix, now = Date.now() / 1000) {
  const past = Math.max(now - unix, 0);
  return past < 2 ? "now" : `${seconds(Math.max(1, Math.round(past)))} ago`;
}

export const KINDS = { garbled: "Garbled", rare_chars: "Rare characters", repetition: "Repetition" };

const OUTCOMES = {
  healthy: ["good", "Healthy"],
  rescued: ["good", "Rescued"],
  best: ["warn", "Best part"],
  noted: ["warn", "Noted"],
  cut: ["bad", "Cut"],
  exhausted: ["bad", "Retries exhausted"],
  upstream_error: ["bad", "Backend error"],
  client_gone: ["", "Client left"],
  shutdown: ["bad", "Guard stopped"],
  relayed: ["", "Relayed"],
  open: ["info", "In flight"],
};

export function outcomeBadge(outcome) {
  const [style, name] = OUTCOMES[outcome] ?? ["", outcome];
  return h("span", { class: `badge ${style}` }, name);
}

export const kindMark = (kind) => h("span", { class: "kind" }, h("i", { class: `dot ${kind}` }), KINDS[kind] ?? kind);

export const exchangeLink = (id) => `#/exchange/${encodeURIComponent(id)}`;

export function empty(title, text = "") {
  return h("div", { class: "empty" }, h("b", {}, title), text);
}

export function panel(title, note, ...children) {
  const head = title ? h("header", {}, h("h2", {}, title), note ? h("span", { class: "note" }, note) : null) : null;
  return h("section", { class: "panel" }, head, ...children);
}

export function table(columns, rows, onNothing) {
  if (!rows.length) return onNothing ?? empty("Nothing here yet");
  const head = h("tr", {}, columns.map((column) => h("th", { class: `${column.num ? "num" : ""} ${column.class ?? ""}`, scope: "col" }, column.name)));
  const body = rows.map((row) =>
    h("tr", {}, columns.map((column) => h("td", { class: `${column.num ? "num" : ""} ${column.class ?? ""}` }, column.of(row)))));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, body)));
}

export function segments(label, options, chosen, onChoice) {
  const box = h("div", { class: "segments", role: "group", "aria-label": label });
  for (const [value, name] of options) {
    box.append(h("button", {
      type: "button", "aria-pressed": String(value === chosen),
      onclick: (event) => {
        for (const button of box.children) button.setAttribute("aria-pressed", String(button === event.currentTarget));
        onChoice(value);
      },
    }, name));
  }
  return box;
}

// New content only where the data changed, and never under somebody's focus.
export function refresh(box, data, make) {
  const text = JSON.stringify(data);
  if (box.dataset.of === text || (box.contains(document.activeElement) && box.dataset.of)) return;
  box.dataset.of = text;
  box.replaceChildren(make());
}

export function copyButton(text) {
  const button = h("button", { type: "button", class: "plain", onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select and copy"; }
  } }, "Copy");
  return button;
}
