// One attempt over its tokens: acceptance of each verify step above, suspicion below, and what was decided where.
import { colour, context, track } from "./charts.js";
import { h } from "./dom.js";

const LEFT = 40, RIGHT = 10, TOP = 46, UPPER = 92, GAP = 26, LOWER = 64, FOOT = 44, MEAN = 16;
const HEIGHT = TOP + UPPER + GAP + LOWER + FOOT;

// Tokens at the end of each step; engines send a step's tokens at once, so its place is that of what it emitted.
export function places(attempt) {
  let token = 0;
  const found = attempt.accepted.map((kept) => (token += kept + 1));
  const stretch = token > attempt.tokens && attempt.tokens ? attempt.tokens / token : 1;
  return found.map((one) => one * stretch);
}

export function attemptPlot(attempt, levels, longest) {
  const canvas = h("canvas", { class: "plot", role: "img" });
  const total = Math.max(longest, 1), steps = places(attempt);
  const began = attempt.began_at ?? 0, marks = [];
  if (attempt.kind && attempt.onset_token !== null) marks.push({ at: Math.max(0, attempt.onset_token - began), name: `onset ${attempt.onset_token}`, tone: "warn", dash: true });
  if (attempt.kind && attempt.verdict_token !== null) marks.push({ at: Math.max(0, attempt.verdict_token - began), name: `${attempt.verdict} ${attempt.verdict_token}`, tone: "bad" });
  canvas.setAttribute("aria-label", `Acceptance and suspicion over ${attempt.tokens} tokens. ${marks.map((mark) => `${mark.name}`).join(", ") || "No verdict"}.`);

  track(canvas, () => {
    const made = context(canvas, HEIGHT);
    if (!made) return;
    const { g, width } = made, css = getComputedStyle(document.documentElement), tone = (name) => colour(name, css);
    const w = width - LEFT - RIGHT, x = (token) => LEFT + (w * Math.min(token, total)) / total;
    const upper = (share) => TOP + UPPER * (1 - share), low = TOP + UPPER + GAP, lower = (value) => low + LOWER * (1 - Math.min(value, 1));
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    axis(g, tone, w, [[upper(1), "all"], [upper(0.5), "half"], [upper(0), "0"]]);
    axis(g, tone, w, [[lower(1), "1"], [lower(0), "0"]]);
    label(g, tone, "acceptance of the draft", LEFT, 9);
    label(g, tone, "suspicion", LEFT, low - 11);
    if (attempt.held_from_token !== null && attempt.held_from_token !== undefined) {
      g.fillStyle = tone("warn-soft");
      g.fillRect(x(attempt.held_from_token), TOP, Math.max(x(attempt.tokens) - x(attempt.held_from_token), 2), UPPER + GAP + LOWER);
      g.fillStyle = tone("warn"); g.textAlign = "right"; g.fillText("text waits", x(attempt.tokens) - 4, low - 11);
    }
    drawSteps(g, tone, x, upper, steps);
    drawSuspicion(g, tone, x, lower, w);
    drawMarks(g, tone, x);
    drawFate(g, tone, x, w);
  });

  function drawSteps(g, tone, x, upper, steps) {
    if (!steps.length) { label(g, tone, "no acceptance signal from this backend", LEFT + 8, TOP + UPPER / 2); return; }
    const depth = Math.max(1, ...attempt.drafted), bars = [tone("bar"), tone("bar-low"), tone("line-strong")];
    let before = 0;
    steps.forEach((token, i) => {
      const drafted = attempt.drafted[i], share = drafted > 0 ? attempt.accepted[i] / drafted : 0;
      g.fillStyle = drafted <= 0 ? bars[2] : share < 0.2 ? bars[1] : bars[0];
      const left = x(before), foot = upper(0), tall = Math.max(foot - upper(share), 1.5);
      g.fillRect(left, foot - tall, Math.max(x(token) - left - 0.6, 0.7), tall);
      before = token;
    });
    const means = [];
    steps.forEach((token, i) => {
      let kept = 0, of = 0;
      for (let j = Math.max(0, i - MEAN + 1); j <= i; j++) if (attempt.drafted[j] > 0) { kept += attempt.accepted[j]; of += attempt.drafted[j]; }
      if (of && i >= 3) means.push([token, kept / of]);
    });
    line(g, tone("text"), 1.6, means.map(([token, mean]) => [x(token), upper(mean)]));
    if (attempt.baseline !== null && attempt.baseline !== undefined) {
      // The mean share of the draft that is kept when each token is kept with the baseline's chance.
      let expected = 0;
      for (let k = 1; k <= depth; k++) expected += attempt.baseline ** k;
      line(g, tone("good"), 1.2, [[LEFT, upper(expected / depth)], [x(total), upper(expected / depth)]], [5, 4]);
    }
  }

  function drawSuspicion(g, tone, x, lower, w) {
    for (const [value, name] of levels) {
      line(g, tone("line-strong"), 1, [[LEFT, lower(value)], [LEFT + w, lower(value)]], [3, 3]);
      g.fillStyle = tone("faint"); g.textAlign = "right"; g.fillText(name, LEFT + w - 2, lower(value) + 8);
    }
    const points = [[LEFT, lower(0)]];
    let last = 0;
    for (const [token, value] of attempt.suspicions) { points.push([x(token), lower(last)], [x(token), lower(value)]); last = value; }
    points.push([x(attempt.tokens), lower(last)]);
    g.beginPath();
    points.forEach(([a, b], i) => (i ? g.lineTo(a, b) : g.moveTo(a, b)));
    g.lineTo(x(attempt.tokens), lower(0)); g.closePath();
    g.globalAlpha = 0.18; g.fillStyle = tone("garbled"); g.fill(); g.globalAlpha = 1;
    line(g, tone("garbled"), 1.6, points);
  }

  function drawMarks(g, tone, x) {
    marks.forEach((mark, i) => {
      const at = Math.round(x(mark.at)) + 0.5, right = at > x(total * 0.6);
      line(g, tone(mark.tone), 1.5, [[at, i === 0 ? 19 : 32], [at, TOP + UPPER + GAP + LOWER]], mark.dash ? [4, 3] : []);
      g.fillStyle = tone(mark.tone); g.textAlign = right ? "right" : "left"; g.font = "600 11px system-ui, sans-serif";
      g.fillText(mark.name, at + (right ? -4 : 4), i === 0 ? 24 : 37);
    });
    g.font = "11px system-ui, sans-serif";
  }

  // What became of the tokens: sent to the client, or thrown away.
  function drawFate(g, tone, x) {
    const y = TOP + UPPER + GAP + LOWER + 8, shown = attempt.tokens_shown;
    g.fillStyle = tone("rescued"); g.fillRect(LEFT, y, Math.max(x(shown) - LEFT, 0), 6);
    g.fillStyle = tone("bar-low"); g.fillRect(x(shown), y, Math.max(x(attempt.tokens) - x(shown), 0), 6);
    g.fillStyle = tone("faint");
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((one) => total / one <= 6) ?? 10000;
    for (let token = 0; token <= total; token += step) { g.textAlign = token ? "center" : "left"; g.fillText(token === 0 ? "token 0" : String(token), x(token), y + 20); }
  }
  return canvas;
}

function axis(g, tone, w, ticks) {
  for (const [y, name] of ticks) {
    line(g, tone("line"), 1, [[LEFT, Math.round(y) + 0.5], [LEFT + w, Math.round(y) + 0.5]]);
    g.fillStyle = tone("faint"); g.textAlign = "right"; g.fillText(name, LEFT - 6, y);
  }
}

function label(g, tone, text, x, y) { g.fillStyle = tone("dim"); g.textAlign = "left"; g.fillText(text, x, y); }

function line(g, style, width, points, dash = []) {
  g.strokeStyle = style; g.lineWidth = width; g.setLineDash(dash);
  g.beginPath();
  points.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y)));
  g.stroke();
  g.setLineDash([]); g.lineWidth = 1;
}
