// The exchanges kept in memory, picked by what they were.
import { every, get } from "./api.js";
import { empty, h, KINDS, panel, refresh, segments } from "./dom.js";
import { exchangeTable } from "./overview.js";

export function exchanges(root, { query, signal }) {
  const body = h("div");
  const search = h("input", { type: "search", placeholder: "Request id", "aria-label": "Part of a request id", value: query.get("q") ?? "" });
  const kind = h("select", { "aria-label": "Kind" }, h("option", { value: "" }, "Any kind"), Object.entries(KINDS).map(([key, name]) => h("option", { value: key }, name)));
  const replica = h("select", { "aria-label": "Replica" }, h("option", { value: "" }, "Any replica"));
  kind.value = query.get("kind") ?? "";
  const wanted = { notable: query.get("notable") ?? "", replica: query.get("replica") ?? "" };
  root.append(
    h("div", { class: "page-head" }, h("h1", { class: "grow" }, "Exchanges"),
      segments("Which", [["", "All"], ["1", "With a verdict or fault"]], wanted.notable, (value) => { wanted.notable = value; load(); }),
      kind, replica, search),
    panel(null, null, body));
  search.addEventListener("input", () => load());
  kind.addEventListener("change", () => load());
  replica.addEventListener("change", () => { wanted.replica = replica.value; load(); });

  get("guard/replicas").then((found) => {
    replica.append(...found.map((one) => h("option", { value: one.name }, one.name)));
    replica.value = wanted.replica;
  }).catch(() => {});

  async function load() {
    const ask = new URLSearchParams({ limit: "200", notable: wanted.notable, replica: wanted.replica, kind: kind.value, q: search.value.trim() });
    try {
      const lines = await get(`guard/requests?${ask}`);
      if (!signal.aborted) refresh(body, lines, () => exchangeTable(lines, empty("No such exchange", "The latest 512 healthy ones and the latest 512 others are kept in memory.")));
    } catch (error) {
      body.replaceChildren(h("p", { class: "error" }, error.message));
    }
  }
  every(3000, signal, load);
}
