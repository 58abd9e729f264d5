// How it goes: the figures an on-call engineer looks at first, and where to look next.
import { every, get } from "./api.js";
import { spark, timeChart } from "./charts.js";
import { ago, clock, empty, exchangeLink, h, kindMark, KINDS, outcomeBadge, panel, per10k, percent, refresh, seconds, segments, short, table, whole } from "./dom.js";

const RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"]];
const KIND_NAMES = Object.keys(KINDS);
const SHORT_KINDS = { garbled: "garbled", rare_chars: "rare", repetition: "repetition" };
let range = 900;

export function overview(root, { signal }) {
  const banner = h("div", { class: "banner", role: "status" });
  const tiles = h("div", { class: "tiles" });
  const charts = {
    anomalies: timeChart({ title: "Anomalies", unit: "per 10,000 requests", minTop: 10 }),
    retries: timeChart({ title: "Retries", unit: "requests", minTop: 4 }),
    requests: timeChart({ title: "Requests", unit: "per second", kind: "lines", minTop: 0.1 }),
    burned: timeChart({ title: "Burned tokens", unit: "per second", minTop: 1 }),
    added: timeChart({ title: "Added latency", unit: "first token, of streams", kind: "lines", format: seconds, minTop: 0.01 }),
    length: timeChart({ title: "Acceptance length", unit: "tokens per verify step", kind: "lines", floor: 1, minTop: 3 }),
  };
  const replicas = h("div"), models = h("div"), latest = h("div"), fleet = h("div", { hidden: true });
  root.append(
    h("div", { class: "page-head" }, h("h1", { class: "grow" }, "Overview"),
      segments("Time", RANGES, range, (value) => { range = value; load(); })),
    h("div", { class: "stack" }, banner, tiles,
      h("div", { class: "grid-3" }, Object.values(charts).map((chart) => h("section", { class: "panel" }, chart.element))),
      panel("Latest exchanges to look at", h("a", { href: "#/exchanges?notable=1" }, "all of them"), latest),
      fleet,
      h("div", { class: "grid-2" }, panel("Replicas", h("a", { href: "#/replicas" }, "details"), replicas), panel("Models", null, models))),
  );

  async function load() {
    try {
      const now = await get("guard/status");
      // What was before the start is not worth a curve.
      const span = Math.min(range, Math.max(60, Math.ceil(now.now - now.started_at)));
      const [history, lines, backends, shared] = await Promise.all([
        get(`guard/history?seconds=${span}`), get("guard/requests?notable=1&limit=8"), get("guard/replicas"), get("guard/fleet")]);
      if (signal.aborted) return;
      draw(history, lines, backends, span, now.retries);
      drawFleet(fleet, shared);
    } catch (error) {
      banner.className = "banner bad";
      banner.replaceChildren(h("b", {}, "No figures"), ` ${error.message}`);
    }
  }

  function draw(history, lines, backends, span, retries) {
    const { columns, total, start, step, points } = history;
    // Over a few bins at once, or one request in an empty bin would stand for ten thousand.
    const over = (name, i) => columns[name].slice(Math.max(0, i - 3), i + 1).reduce((sum, count) => sum + count, 0);
    const rate = (name) => columns[name].map((_, i) => per10k(over(name, i), over("watched", i)) ?? 0);
    const second = (name) => columns[name].map((count) => count / step);
    const at = (series, legend) => ({ start, step, points, series, legend });
    charts.anomalies.update(at(KIND_NAMES.map((kind) => ({ name: KINDS[kind], colour: kind, values: rate(`kind_${kind}`) }))));
    charts.retries.update(at([{ name: "Rescued", colour: "rescued", values: columns.rescued }, { name: "Failed", colour: "failed", values: columns.failed }]));
    charts.requests.update(at([{ name: "Requests", colour: "c1", values: second("exchanges") }]));
    charts.burned.update(at([{ name: "Burned", colour: "c3", values: second("burned") }]));
    charts.added.update(at([{ name: "Median", colour: "c2", values: columns.added_p50 }, { name: "95th percentile", colour: "c4", values: columns.added_p95 }]));
    const names = Object.keys(history.replicas).slice(0, 6);
    charts.length.update(at(names.map((name, i) => ({ name, colour: `c${i + 1}`, values: history.replicas[name].length })), true));
    tiles.replaceChildren(...tilesOf(total, span, retries));
    drawBanner(banner, history, total);
    const sums = (found) => Object.entries(found).map(([name, one]) => [name, one.total]);
    refresh(replicas, [sums(history.replicas), backends.map((one) => one.name)], () => groups(history.replicas, "Replica", backends));
    refresh(models, sums(history.models), () => groups(history.models, "Model"));
    refresh(latest, lines, () => exchangeTable(lines, empty("Nothing to look at", "No verdict and no fault among the exchanges kept in memory.")));
  }

  every(3000, signal, load);
}

function tilesOf(total, range, retries) {
  const anomalies = KIND_NAMES.reduce((sum, kind) => sum + total[`kind_${kind}`], 0);
  const made = total.shown + total.burned;
  const tile = (name, value, unit, below, tone = "") => h("div", { class: `tile ${tone}` }, h("div", { class: "tile-name" }, name),
    h("div", { class: "tile-value" }, value, h("small", {}, unit)), h("div", { class: "tile-below" }, below));
  const tried = total.rescued + total.failed;
  return [
    tile("Requests", short(total.exchanges), "", `${short(total.exchanges / range)} per second`),
    tile("Anomalies", short(per10k(anomalies, total.watched)), " per 10,000",
      KIND_NAMES.map((kind) => h("span", { class: "kind" }, h("i", { class: `dot ${kind}` }), `${short(total[`kind_${kind}`])} ${SHORT_KINDS[kind]}`)), anomalies ? "alert" : ""),
    tile("Rescued", short(total.rescued), "", tried ? `${percent(total.rescued / tried)} of ${short(tried)} in trouble; ${short(total.bad_shown)} bad tokens had left` : total.outcome_noted ? `${short(total.outcome_noted)} only noted` : "nothing to rescue"),
    tile("Failed", short(total.failed), "", `${short(total.outcome_exhausted)} exhausted · ${short(total.outcome_cut)} cut · ${short(total.outcome_upstream_error)} backend`, total.failed ? "alert" : ""),
    tile("Burned tokens", short(total.burned), "", made ? `${percent(total.burned / made)} of all generated` : "none generated"),
    tile("Retry budget", short(Math.max(0, retries.allowed - retries.in_flight)), " left",
      `${short(retries.in_flight)} of ${short(retries.allowed)} in use; ${short(retries.refused)} refused${retries.degraded ? "; the store is not reached" : ""}`, retries.in_flight >= retries.allowed ? "alert" : ""),
    tile("Added latency", seconds(total.added_p95), "", `95th percentile; median ${seconds(total.added_p50)}`),
  ];
}

// One sentence: is something wrong, what kind, and where.
function drawBanner(banner, history, total) {
  const kinds = KIND_NAMES.map((kind) => [kind, total[`kind_${kind}`]]).sort((a, b) => b[1] - a[1]);
  const anomalies = kinds.reduce((sum, [, count]) => sum + count, 0);
  if (!total.exchanges) { banner.className = "banner"; banner.replaceChildren(h("b", {}, "No traffic in this time."), " Requests on guarded routes show up here within seconds."); return; }
  if (!anomalies && !total.failed) { banner.className = "banner good"; banner.replaceChildren(h("b", {}, "All quiet."), ` ${whole(total.watched)} requests watched, no anomaly.`); return; }
  const replicas = Object.entries(history.replicas).map(([name, one]) => [name, one.total.bad]).sort((a, b) => b[1] - a[1]);
  const bad = replicas.reduce((sum, [, count]) => sum + count, 0);
  const parts = [h("b", {}, `${whole(anomalies)} ${anomalies === 1 ? "anomaly" : "anomalies"} in ${whole(total.watched)} requests.`)];
  if (anomalies) parts.push(` Mostly ${KINDS[kinds[0][0]].toLowerCase()} (${percent(kinds[0][1] / anomalies)})`);
  if (bad && replicas.length > 1) parts.push(`, ${percent(replicas[0][1] / bad)} on `, h("a", { href: `#/exchanges?notable=1&replica=${encodeURIComponent(replicas[0][0])}` }, replicas[0][0]));
  if (anomalies) parts.push(".");
  parts.push(...becameOf(total, anomalies));
  const last = history.columns.watched.findLastIndex((count, i) => KIND_NAMES.some((kind) => history.columns[`kind_${kind}`][i]));
  if (last >= 0) parts.push(` Latest at ${clock(history.start + history.step * last, history.step < 60)}.`);
  banner.className = `banner ${total.failed ? "bad" : "warn"}`;
  banner.replaceChildren(...parts);
}

// What became of the bad ones. Of those whose clients left, or whose choice alone was cut, nothing is said.
function becameOf(total, anomalies) {
  const said = [];
  if (total.failed) said.push(` ${whole(total.failed)} could not be rescued.`);
  if (total.outcome_noted) said.push(` ${whole(total.outcome_noted)} only noted: the clients got the text.`);
  if (!said.length && total.rescued) said.push(total.rescued >= anomalies ? " All rescued." : ` ${whole(total.rescued)} rescued.`);
  return said;
}

function groups(found, name, backends = []) {
  const waiting = backends.filter((one) => !(one.name in found)).map((one) => [one.name, null]);
  const rows = [...Object.entries(found), ...waiting];
  return table([
    { name, of: ([key, one]) => (name === "Replica" && one ? h("a", { href: `#/exchanges?replica=${encodeURIComponent(key)}` }, key) : key || "(none)") },
    { name: "Attempts", num: true, of: ([, one]) => (one ? short(one.total.attempts) : "0") },
    { name: "Bad / 10,000", num: true, of: ([, one]) => (one ? short(per10k(one.total.bad, one.total.attempts)) : "–") },
    { name: "Faults", num: true, of: ([, one]) => (one ? short(one.total.faults) : "0") },
    { name: "Length", num: true, of: ([, one]) => one?.total.length?.toFixed(2) ?? "–" },
  ], rows, empty("No traffic in this time"));
}

export function exchangeTable(lines, nothing) {
  return table([
    { name: "Ended", of: (line) => h("span", { class: "num", title: ago(line.ended_at) }, clock(line.ended_at)) },
    { name: "Request", class: "id", of: (line) => h("a", { class: "mono", href: exchangeLink(line.request_id) }, line.request_id) },
    { name: "Outcome", of: (line) => outcomeBadge(line.outcome) },
    { name: "What was wrong", of: (line) => (line.kind ? kindMark(line.kind) : line.fault ? h("span", { class: "kind" }, h("i", { class: "dot fault" }), `Fault: ${line.fault}`) : h("span", { class: "dim" }, "–")) },
    { name: "Rule", of: (line) => (line.rule ? h("code", { class: "one-line" }, line.rule) : h("span", { class: "dim" }, "–")) },
    { name: "Acceptance", of: (line) => spark(line.spark) },
    { name: "Replicas", class: "wide", of: (line) => line.replicas.join(" → ") },
    { name: "Attempts", num: true, class: "opt", of: (line) => String(line.attempts) },
    { name: "Shown", num: true, class: "opt", of: (line) => (line.bad_tokens_shown ? h("span", { title: `${line.bad_tokens_shown} of them after the onset` }, short(line.tokens_shown), h("small", { class: "alarm" }, ` ${short(line.bad_tokens_shown)} bad`)) : short(line.tokens_shown)) },
    { name: "Burned", num: true, class: "opt", of: (line) => short(line.tokens_burned) },
    { name: "Took", num: true, of: (line) => seconds(line.duration) },
  ], lines, nothing);
}

function drawFleet(box, shared) {
  box.hidden = !shared.shared;
  if (!shared.shared) return;
  box.replaceChildren(panel("All guards of the fleet", "latest verdicts, from the shared store", table([
    { name: "Ended", of: (one) => (one.time ? clock(one.time) : "–") },
    { name: "Request", class: "id", of: (one) => h("code", {}, one.request_id ?? "–") },
    { name: "What was wrong", of: (one) => (one.kind ? kindMark(one.kind) : "–") },
    { name: "Rule", of: (one) => (one.rule ? h("code", { class: "one-line" }, one.rule) : "–") },
    { name: "Model", class: "opt", of: (one) => one.model || "–" },
    { name: "Replica", of: (one) => one.replica || "–" },
    { name: "Outcome", of: (one) => (one.outcome ? outcomeBadge(one.outcome) : "–") },
  ], shared.verdicts.slice(0, 12), empty("No verdicts yet"))));
}
