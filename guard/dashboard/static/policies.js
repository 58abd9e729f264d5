// The policies in force, what the shadow would do, and a try of other thresholds on recorded streams.
import { get, post } from "./api.js";
import { empty, exchangeLink, h, kindMark, KINDS, panel, percent, short, table } from "./dom.js";

export async function policies(root, { args, query, signal }) {
  const body = h("div", { class: "stack" }, h("p", { class: "dim" }, "Reading the policies…"));
  root.append(body);
  let told, tries;
  try {
    [told, tries] = await Promise.all([get("guard/policies/source"), get("guard/what-if")]);
  } catch (error) {
    body.replaceChildren(h("p", { class: "error" }, error.message));
    return;
  }
  if (signal.aborted) return;
  const chosen = told.policies.find((policy) => policy.name === args[0]) ?? told.policies[0];
  body.replaceChildren(
    h("div", { class: "page-head" }, h("h1", { class: "grow" }, "Policies"),
      told.reload_ok ? null : h("span", { class: "badge bad" }, "Files are wrong; the last good ones are in force"),
      h("span", { class: "note" }, `generation ${told.generation}`)),
    told.policies.length > 1 ? choices(told.policies, chosen) : null,
    editor(chosen, told, tries, query.get("rule")),
    shadow(told.shadow));
}

function choices(found, chosen) {
  return h("div", { class: "segments", role: "group", "aria-label": "Policy" }, found.map((policy) =>
    h("button", { type: "button", "aria-pressed": String(policy === chosen), onclick: () => { location.hash = `#/policies/${encodeURIComponent(policy.name)}`; } },
      policy.name, policy.is_shadow ? " (shadow)" : "")));
}

function editor(policy, told, tries, opened) {
  const edits = new Map();
  const result = h("div");
  const list = h("ul", { class: "edits" });
  const run = h("button", { type: "button", class: "primary", disabled: true }, "Try on recorded streams");
  const reset = h("button", { type: "button", class: "plain", disabled: true }, "Reset");
  const inputs = [];

  function changed() {
    run.disabled = !edits.size || !tries.files.length;
    reset.disabled = !edits.size;
    list.replaceChildren(...[...edits.values()].map((edit) => h("li", {}, h("code", {}, edit.rule || "hold_back"), ` ${edit.signal ?? ""} ${edit.field}: ${edit.before} → `, h("b", {}, String(edit.value)))));
  }

  function number(holder, field, edit) {
    const before = holder[field];
    const input = h("input", { type: "number", step: "any", value: String(before), "aria-label": `${edit.rule || "hold back"} ${edit.signal ?? ""} ${field}` });
    const key = `${edit.rule}/${edit.leaf}/${field}`;
    inputs.push([input, before]);
    input.addEventListener("input", () => {
      const value = input.valueAsNumber;
      const differs = Number.isFinite(value) && value !== before;
      input.classList.toggle("edited", differs);
      if (differs) edits.set(key, { ...edit, field, value, before }); else edits.delete(key);
      changed();
    });
    return h("label", {}, field, input);
  }

  run.addEventListener("click", async () => {
    run.disabled = true;
    result.replaceChildren(h("p", { class: "note" }, h("i", { class: "spinner" }), " Running both policies over the recorded streams…"));
    try {
      const told = await post("guard/what-if", { policy: policy.name, edits: [...edits.values()].map(({ rule, leaf, field, value }) => ({ rule, leaf, field, value })) });
      result.replaceChildren(...outcome(told));
    } catch (error) {
      result.replaceChildren(h("p", { class: "error" }, error.message));
    }
    changed();
  });
  reset.addEventListener("click", () => { edits.clear(); for (const [input, before] of inputs) { input.value = String(before); input.classList.remove("edited"); } result.replaceChildren(); changed(); });

  const hold = policy.hold_back;
  const rules = policy.rules.map((rule) => ruleBox(rule, opened === rule.name, told.signals, number));
  const size = tries.files.reduce((sum, file) => sum + file.bytes, 0);
  const aside = h("aside", {}, panel("What if", null,
    h("p", { class: "note" }, tries.files.length
      ? `Edit a threshold, then run both policies over what is recorded: ${tries.files.length} ${tries.files.length === 1 ? "file" : "files"}, ${short(size / 1e6)} MB. Nothing that serves is changed.`
      : "Nothing is recorded yet. Set recording.folder in the configuration, or name files of streams under dashboard.cases."),
    tries.text === "redacted" ? h("p", { class: "note" }, "The recordings are redacted: all words look alike, so rules on text read them otherwise than they did live. recording.text: scrambled keeps what they need.") : null,
    list, h("div", { class: "actions" }, run, reset), result));
  return h("div", { class: "policy-layout" },
    panel(policy.name, policy.description ?? "",
      h("div", { class: "levels" }, h("span", { class: "note" }, `Hold back: ${hold.mode}, at most ${hold.limit}`), number(hold, "hold_at", { rule: "", leaf: 0 }), number(hold, "act_at", { rule: "", leaf: 0 }),
        h("span", { class: "note" }, `Retries: ${policy.retry.max_attempts} attempts, changing ${policy.retry.change.join(", ")}; then ${policy.when_exhausted}`)),
      h("div", { class: "rules" }, rules)),
    aside);
}

function ruleBox(rule, isOpen, signals, number) {
  const count = { leaf: 0 };
  const box = h("details", { open: isOpen }, h("summary", {}, h("code", {}, rule.name), kindMark(rule.kind), h("span", { class: "badge" }, rule.action),
    rule.for ? h("span", { class: "note" }, `for ${rule.for}`) : null), h("ul", { class: "tree" }, tree(rule.when, rule, count, signals, number)));
  if (isOpen) requestAnimationFrame(() => box.scrollIntoView({ block: "center" }));
  return box;
}

function tree(condition, rule, count, signals, number) {
  if (condition.signal) {
    const edit = { rule: rule.name, leaf: count.leaf++, signal: condition.signal };
    const fields = ["from", "to", "above", "below"].filter((name) => name in condition);
    return h("li", { class: "leaf" }, h("code", { title: signals[condition.signal]?.help ?? "" }, condition.signal),
      condition.window ? h("span", { class: "note" }, `over ${condition.window}`) : null, condition.after ? h("span", { class: "note" }, `after ${condition.after}`) : null,
      fields.map((field) => number(condition, field, edit)));
  }
  const [word, parts] = condition.all ? ["all of", condition.all] : condition.any ? ["any of", condition.any] : ["not", [condition.not]];
  return h("li", {}, h("span", { class: "word" }, word), h("ul", { class: "tree" }, parts.map((part) => tree(part, rule, count, signals, number))));
}

function outcome(told) {
  const row = (name, before, after, badWhenUp) => {
    const delta = after - before;
    return [h("span", {}, name), h("span", { class: "num" }, short(before)), h("span", { class: "num" }, short(after)),
      h("b", { class: `num ${delta === 0 ? "same" : (delta > 0) === badWhenUp ? "up" : "down"}` }, delta > 0 ? `+${short(delta)}` : delta < 0 ? short(delta) : "same")];
  };
  const kinds = Object.keys(told.before.kinds);
  return [
    h("div", { class: "compare", role: "table", "aria-label": "Outcome" }, h("span", { class: "note" }, `${short(told.streams)} streams`), h("span", { class: "note num" }, "now"), h("span", { class: "note num" }, "edited"), h("span"),
      row("Streams stopped", ...told.stopped, true),
      row("Stopped though labelled healthy", told.before.healthy.false_positives, told.after.healthy.false_positives, true),
      kinds.flatMap((kind) => row(`${KINDS[kind]} found, of ${told.before.kinds[kind].cases}`, told.before.kinds[kind].detected, told.after.kinds[kind]?.detected ?? 0, false))),
    h("p", { class: "note" }, `${short(told.newly)} newly stopped, ${short(told.no_longer)} no longer; ${short(told.changes.length)} decided otherwise. Labels of recordings are what the guard decided then, and a stream it stopped ends there: what would be found only later counts as passing.`, told.left_out ? " Only the newest streams were tried." : ""),
    told.changes.length ? h("div", { class: "changes" }, told.changes.slice(0, 50).map((change) => h("div", {}, h("code", {}, change.id), h("span", { class: "dim" }, ` labelled ${change.label}, ${change.tokens} tokens`), h("br"),
      says(change.before), " → ", h("b", {}, says(change.after))))) : null,
  ].flat().filter(Boolean);
}

const says = (decision) => (decision.rule ? `${decision.action} at ${decision.token} (${decision.rule})` : "passes");

function shadow(told) {
  if (!told.shadow) return panel("Shadow policy", null, empty("No shadow policy", "Set shadow_policy to judge a second policy beside this one; what it would do is only counted."));
  const disagreed = told.disagreed.reduce((sum, one) => sum + one.attempts, 0);
  return panel("Shadow policy", `${told.shadow}: disagrees on ${short(disagreed)} of ${short(told.compared)} attempts${told.compared ? ` (${percent(disagreed / told.compared)})` : ""}`,
    h("div", { class: "grid-2" },
      table([{ name: "In force", of: (one) => one.live }, { name: "Shadow", of: (one) => one.shadow }, { name: "Attempts", num: true, of: (one) => short(one.attempts) }], told.disagreed, empty("They agree so far")),
      table([
        { name: "Request", class: "id", of: (one) => h("a", { class: "mono", href: exchangeLink(one.request_id) }, one.request_id) },
        { name: "In force → shadow", of: (one) => `${one.live} → ${one.shadow}` },
        { name: "Rule", of: (one) => (one.rule ? h("code", {}, one.rule) : "–") },
        { name: "Token", num: true, of: (one) => String(one.token) },
      ], told.latest.slice(0, 12), empty("No disagreement yet"))));
}
