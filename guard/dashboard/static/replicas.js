// Each replica: how often it is bad, how its draft does, and whether it is out of choice.
import { every, get } from "./api.js";
import { timeChart } from "./charts.js";
import { empty, h, per10k, short } from "./dom.js";

// How a replica stands: whether it is chosen, or why not.
const STANDINGS = { ready: ["good", "Serving"], busy: ["warn", "Busy"], ejected: ["bad", "Ejected: bad answers"], failed: ["bad", "Left out: faults"], unhealthy: ["bad", "Unhealthy"], drained: ["warn", "Drained by hand"] };

export function replicas(root, { signal }) {
  const cards = new Map();
  const grid = h("div", { class: "grid-2" });
  root.append(h("div", { class: "page-head" }, h("h1", { class: "grow" }, "Replicas"), h("span", { class: "note" }, "last 15 minutes")), grid);

  every(3000, signal, async () => {
    try {
      const now = await get("guard/status");
      const span = Math.min(900, Math.max(60, Math.ceil(now.now - now.started_at)));
      const [found, history] = await Promise.all([get("guard/replicas"), get(`guard/history?seconds=${span}`)]);
      if (signal.aborted) return;
      if (!found.length) grid.replaceChildren(empty("No replica is configured"));
      for (const one of found) {
        if (!cards.has(one.name)) { cards.set(one.name, card(one)); grid.append(cards.get(one.name).element); }
        cards.get(one.name).update(one, history);
      }
    } catch (error) {
      root.querySelector(".error")?.remove();
      root.append(h("p", { class: "error" }, error.message));
    }
  });
}

function card(replica) {
  const chart = timeChart({ title: "Attempts", unit: "by result", height: 110, minTop: 4 });
  const length = timeChart({ title: "Acceptance length", unit: "tokens per verify step", kind: "lines", height: 110, floor: 1, minTop: 3 });
  const state = h("span"), facts = h("dl", { class: "facts" }), reason = h("p", { class: "note" });
  const element = h("section", { class: "panel replica" },
    h("header", {}, h("h2", {}, replica.name), state, h("span", { class: "note mono" }, replica.url)), reason, facts,
    h("div", { class: "grid-2" }, chart.element, length.element),
    h("p", { class: "foot" }, h("a", { href: `#/exchanges?notable=1&replica=${encodeURIComponent(replica.name)}` }, "Exchanges with a verdict or fault")));

  function update(one, history) {
    const mine = history.replicas[one.name];
    const { start, step, points } = history, none = Array(points).fill(0);
    const total = mine?.total ?? { attempts: 0, bad: 0, faults: 0, length: null };
    const good = mine ? mine.attempts.map((count, i) => count - mine.bad[i] - mine.faults[i]) : none;
    chart.update({ start, step, points, series: [
      { name: "Good", colour: "c2", values: good }, { name: "Bad", colour: "garbled", values: mine?.bad ?? none }, { name: "Fault", colour: "fault", values: mine?.faults ?? none }] });
    length.update({ start, step, points, series: [{ name: one.name, colour: "c1", values: mine?.length ?? none.map(() => null) }] });
    const [style, name] = STANDINGS[one.standing] ?? ["", one.standing];
    // Workers without a shared store decide each for itself.
    const seen = one.seen_by && one.seen_by.workers < one.seen_by.of ? ` (${one.seen_by.workers} of ${one.seen_by.of} workers)` : "";
    state.replaceChildren(h("span", { class: `badge ${style}` }, name + seen));
    const out = one.ejections.quality + one.ejections.transport;
    reason.textContent = one.standing !== "ready" ? one.reason : one.suspected ? `Suspect, so that less evidence is enough to try its answers again: ${one.suspected}` : "";
    reason.hidden = !reason.textContent;
    const known = one.baseline;
    facts.replaceChildren(...[
      ["Bad per 10,000", short(per10k(total.bad, total.attempts))],
      ["Attempts", short(total.attempts)], ["Bad attempts", short(total.bad)], ["Faults", short(total.faults)], ["In flight", short(one.in_flight)],
      ["Length", total.length?.toFixed(2) ?? "–"],
      ["Healthy acceptance", [known?.probability != null ? known.probability.toFixed(2) : "–", h("small", {}, known?.probability == null ? " not known yet" : known.learned ? ` learned, ${short(known.streams)} streams` : " measured")]],
      ["Engine", one.engine ?? "not asked yet"],
      ...(known?.weak_draft ? [["Draft", "weak: low in nearly all streams"]] : []),
      ["Ejections", [short(out), h("small", {}, out ? ` ${short(one.ejections.quality)} for quality` : "")]],
    ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }
  return { element, update };
}
