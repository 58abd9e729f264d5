// One exchange: what went wrong, why the guard thought so, and what the client saw.
import { every, get } from "./api.js";
import { forget, redraw } from "./charts.js";
import { clock, copyButton, empty, h, KINDS, kindMark, outcomeBadge, panel, seconds, short, table, whole } from "./dom.js";
import { attemptPlot } from "./plot.js";

export function exchange(root, { args, signal }) {
  const id = args.join("/");
  const body = h("div", { class: "stack" });
  root.append(h("div", { class: "page-head" }, h("a", { href: "#/exchanges" }, "← Exchanges")), body);
  let last = "", done = false;
  every(1000, signal, async () => {
    if (done) return;
    try {
      const found = await get(`guard/requests/${encodeURIComponent(id)}`);
      const text = JSON.stringify(found);
      done = !found.open;
      if (signal.aborted || text === last) return;
      last = text;
      forget();
      body.replaceChildren(...draw(found));
      redraw();
    } catch (error) {
      done = true;
      body.replaceChildren(error.status === 404
        ? empty("This exchange is no longer kept", "The latest 512 healthy ones and the latest 512 others are kept in memory.")
        : h("p", { class: "error" }, error.message));
    }
  });
}

function draw(found) {
  const outcome = found.open ? "open" : found.outcome;
  const hold = found.hold_back ?? {};
  const levels = [...(hold.mode === "suspicion" || hold.mode === "window" ? [[hold.hold_at, "text waits"]] : []), ...(hold.act_at ? [[hold.act_at, "acts"]] : [])];
  const longest = Math.max(1, ...found.attempts.map((attempt) => attempt.tokens));
  return [
    h("div", { class: "page-head" }, outcomeBadge(outcome), h("h1", { class: "head-id" }, found.request_id), copyButton(found.request_id),
      h("span", { class: "grow" }), h("span", { class: "note" }, found.ended_at ? `ended ${new Date(found.ended_at * 1000).toLocaleDateString("en-GB")} ${clock(found.ended_at)}` : "still under way")),
    h("section", { class: "panel" }, h("p", { class: "story" }, story(found)), facts(found)),
    clientSaw(found),
    h("div", { class: "attempts" }, found.attempts.map((attempt) => attemptPanel(attempt, found, levels, longest))),
  ];
}

// What happened, in sentences.
function story(found) {
  const out = [];
  const late = found.bad_tokens_shown;
  for (const attempt of found.attempts) {
    const name = `Attempt ${attempt.number} on ${attempt.replica}`;
    if (attempt.fault) out.push(`${name} was lost (${attempt.fault}) after ${attempt.tokens} tokens. `);
    else if (attempt.kind) {
      out.push(`${name} went bad around token ${attempt.onset_token} (`, h("b", {}, KINDS[attempt.kind].toLowerCase()), `); rule `, h("code", {}, attempt.rule), ` decided to ${verb(attempt.verdict)} at token ${attempt.verdict_token}, ${Math.max(0, attempt.verdict_token - attempt.onset_token)} tokens later. `);
    } else if (attempt.number > 1) out.push(`${name} ${attempt.mode === "resume" ? "continued the text" : "began again"} and gave ${attempt.tokens} tokens. `);
    else out.push(`${name} gave ${attempt.tokens} tokens without a verdict. `);
  }
  out.push({
    rescued: late ? `The client got the text up to there, and then its continuation: ${short(late)} bad tokens had left before suspicion rose, and stand in the answer.` : "The client got only healthy text.", healthy: "The client got it as it came.", exhausted: found.plan_reason ? "Nothing more was tried, and the answer was ended with an error." : "No attempt was left, so the answer was ended with an error.",
    best: "No attempt was good; the client got the healthy part of the best one, marked as cut short.",
    cut: "The answer was cut and ended with an error.", noted: "It was let pass, and noted.", upstream_error: "The client was told of a backend error.",
    client_gone: "The client left before the end.", shutdown: "The guard was stopped, and its time to drain was over: the answer was broken off.", relayed: "It was passed on unwatched.",
  }[found.open ? "" : found.outcome] ?? "");
  if (found.plan_reason) out.push(h("span", { class: "dim" }, ` (${found.plan_reason})`));
  return out;
}

// Onset and verdict count from the answer's beginning; a continuation has only the rest of it.
export const onsetOf = (attempt) => Math.max(0, attempt.onset_token - (attempt.began_at ?? 0));

const verb = (action) => ({ retry: "abort and retry", cut: "cut the answer", note: "note it", hold: "hold the text" })[action] ?? action;

function facts(found) {
  const all = [
    ["Model", found.model || "–"], ["Policy", found.policy], ["Route", found.route], ["Status", found.status ? String(found.status) : "–"], ["Streamed", found.stream ? "yes" : "no"],
    ["First token, backend", seconds(found.ttft_upstream)], ["First token, client", seconds(found.ttft_delivered)], ["Added latency", seconds(found.added)],
    ["Text waited", seconds(found.held_seconds)], ["Most held", `${short(found.held_tokens_max)} tokens`], ["Bad tokens shown", h("span", { class: found.bad_tokens_shown ? "alarm" : "" }, whole(found.bad_tokens_shown))], ["Longest gap", seconds(found.longest_gap)], ["Took", seconds(found.duration)],
  ];
  return h("dl", { class: "facts" }, all.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function clientSaw(found) {
  const strip = h("div", { class: "strip" });
  const total = Math.max(1, found.tokens_shown + found.tokens_burned);
  const piece = (style, count, name) => {
    if (count <= 0) return;
    const share = count / total;
    const one = h("div", { class: style, title: `${count} tokens ${name}` }, share > 0.14 ? `${short(count)} ${name}` : share > 0.04 ? short(count) : "");
    one.style.width = `${100 * share}%`;
    strip.append(one);
  };
  const tainted = found.bad_tokens_shown;
  for (const attempt of found.attempts) {
    const late = attempt.bad_tokens_shown;
    piece("shown", attempt.tokens_shown - late, `from attempt ${attempt.number}`);
    piece("tainted", late, "after the onset");
  }
  piece("burned", found.tokens_burned, "never shown");
  const words = [`${short(found.tokens_shown)} tokens reached the client; ${short(found.tokens_burned)} more ${found.tokens_burned === 1 ? "was" : "were"} generated and thrown away.`,
    found.attempts.some((attempt) => attempt.kind) ? (tainted ? ` ${short(tainted)} of those shown came after the estimated onset: they had left before suspicion rose.` : " None of those shown came after an onset.") : ""];
  const keys = [["rescued", "sent"], ...(tainted ? [["repetition", "sent, though after the onset"]] : []), ...(found.tokens_burned ? [["garbled", "never sent"]] : [])];
  return panel("What the client saw", null, h("p", {}, words), strip, h("div", { class: "legend" }, keys.map(([style, name]) => h("span", {}, h("i", { class: `dot ${style}` }), name))));
}

function attemptPanel(attempt, found, levels, longest) {
  const bad = attempt.kind !== null;
  const changes = Object.entries(attempt.changes).map(([name, value]) => `${name}: ${value}`);
  return h("section", { class: `panel attempt ${attempt.fault ? "is-fault" : bad ? "is-bad" : "is-good"}` },
    h("header", {}, h("h2", {}, `Attempt ${attempt.number}`), h("span", { class: "badge" }, attempt.mode), h("span", { class: "dim" }, `${attempt.replica} · ${attempt.engine}`),
      h("span", { class: "note" }, `began at ${seconds(attempt.started)} · ${short(attempt.tokens)} tokens, ${short(attempt.tokens_shown)} shown${attempt.bad_tokens_shown ? `, ${short(attempt.bad_tokens_shown)} of them after the onset` : ""}`)),
    attemptPlot(attempt, levels, longest),
    h("div", { class: "keys" }, h("span", {}, h("i"), "mean of 16 steps"), attempt.baseline ? h("span", {}, h("i", { class: "base" }), "when healthy") : null, h("span", {}, h("i", { class: "sent" }), "sent"), h("span", {}, h("i", { class: "thrown" }), "not sent")),
    changes.length ? h("p", { class: "note" }, "Changed: ", h("code", {}, changes.join(", "))) : null,
    verdictBox(attempt, found),
    said(attempt, found));
}

function verdictBox(attempt, found) {
  if (attempt.fault) return h("div", { class: "verdict" }, h("h3", {}, h("span", { class: "badge bad" }, "Fault"), attempt.fault), h("p", { class: "why" }, attempt.reason));
  if (!attempt.kind) return h("p", { class: "note" }, lengthOf(attempt), " No rule objected.");
  const rule = found.rules[attempt.rule];
  const wanted = rule ? leaves(rule.when) : [];
  const rows = attempt.findings.map((finding) => ({ finding, leaf: wanted.find((leaf) => sameSignal(leaf, finding.signal)) }));
  return h("div", { class: "verdict" },
    h("h3", {}, "Why: rule ", h("code", {}, attempt.rule), kindMark(attempt.kind), h("span", { class: "badge bad" }, verb(attempt.verdict))),
    h("p", { class: "why" }, attempt.reason),
    attempt.doubted ? h("p", { class: "note" }, `Its replica was suspect, so that part of the evidence was enough: ${attempt.suspected}`) : null,
    table([
      { name: "Signal", of: ({ finding }) => h("code", {}, finding.signal.name) },
      { name: "Over", of: ({ finding }) => (finding.signal.window ? `${finding.signal.window.size} ${finding.signal.window.unit}` : "all") },
      { name: "Reading", num: true, of: ({ finding }) => h("b", {}, Number(finding.value.toPrecision(3)).toString()) },
      { name: "Acts at", num: true, of: ({ leaf }) => (leaf ? h("span", { title: leaf.from === undefined ? "" : `suspicious from ${leaf.from}` }, leaf.from === undefined ? "" : h("span", { class: "dim" }, `${leaf.from} → `), String(leaf.to ?? leaf.above ?? leaf.below)) : "–") },
      { name: "Onset", num: true, of: ({ finding }) => String(finding.onset_token) },
    ], rows, h("p", { class: "note" }, "The engine itself ended the answer; there is no reading.")),
    attempt.shadow ? h("p", { class: "note" }, `The shadow policy would ${verb(attempt.shadow.action)} at token ${attempt.shadow.token} by rule ${attempt.shadow.rule}.`) : null,
    rule ? h("p", { class: "note" }, h("a", { href: `#/policies/${encodeURIComponent(found.policy)}?rule=${encodeURIComponent(attempt.rule)}` }, "Try other thresholds for this rule")) : null);
}

function lengthOf(attempt) {
  let kept = 0, steps = 0;
  attempt.drafted.forEach((depth, i) => { if (depth > 0) { kept += attempt.accepted[i]; steps++; } });
  return steps ? `Acceptance length ${(1 + kept / steps).toFixed(2)} over ${short(steps)} verify steps.` : "";
}

const sameSignal = (leaf, signal) => leaf.signal === signal.name && (leaf.window ?? "") === (signal.window ? `${signal.window.size} ${signal.window.unit}` : "");

export function leaves(condition) {
  if (condition.signal) return [condition];
  return (condition.all ?? condition.any ?? [condition.not]).flatMap(leaves);
}

function said(attempt, found) {
  if (!attempt.text) return null;
  const pre = h("pre", { tabindex: "0" });
  let token = 0;
  const runs = [];
  for (const [text, tokens] of attempt.text) {
    const style = `${attempt.kind && token >= onsetOf(attempt) ? "after-onset" : ""} ${token >= attempt.tokens_shown ? "unseen" : ""}`.trim();
    if (runs.length && runs.at(-1)[0] === style) runs.at(-1)[1] += text; else runs.push([style, text]);
    token += tokens;
  }
  pre.append(...runs.map(([style, text]) => h("span", { class: style }, text)));
  const kind = { redacted: "letters redacted", scrambled: "words scrambled", full: "as it was" }[found.text_kind] ?? "";
  return h("div", { class: "said" }, h("h3", {}, "Text ", h("span", { class: "note" }, `as recorded, ${kind}; red: after the onset, struck through: never sent`)), pre);
}
