// Charts on canvas: colours come from the style sheet, and what is under the cursor can be read with the arrow keys.
import { clock, h, short } from "./dom.js";

const styles = () => getComputedStyle(document.documentElement);
export const colour = (name, from = styles()) => from.getPropertyValue(`--${name}`).trim();

const live = new Set();
const sized = new ResizeObserver((entries) => {
  for (const { target } of entries) for (const chart of live) if (chart.canvas === target) chart.draw();
});
export const redraw = () => { for (const chart of live) chart.draw(); };
export const forget = () => { for (const chart of live) sized.unobserve(chart.canvas); live.clear(); };

export function track(canvas, draw) {
  live.add({ canvas, draw });
  sized.observe(canvas);
}

// A context in units of the page, sharp on every screen; null while the canvas has no size.
export function context(canvas, height, width = canvas.clientWidth) {
  if (!width) return null;
  const ratio = window.devicePixelRatio || 1;
  const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== t) { canvas.width = w; canvas.height = t; canvas.style.height = `${height}px`; }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width };
}

export function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((top) => top >= value * 0.999);
}

const LEFT = 52, RIGHT = 8, TOP = 8, BOTTOM = 20;

// kind: "bars" are stacked, "lines" are not. series: [{ name, colour, values }], null where nothing is known.
export function timeChart({ title, unit = "", kind = "bars", height = 150, format = short, floor = 0, minTop = 1 }) {
  const canvas = h("canvas", { tabindex: "0", role: "img" });
  const legend = h("span", { class: "legend" });
  const tip = h("div", { class: "tip", hidden: true });
  const element = h("figure", { class: "chart" },
    h("figcaption", {}, h("h2", {}, title), h("span", { class: "unit" }, unit)), legend, canvas, tip);
  let data = null, cursor = -1;

  const plot = () => ({ w: canvas.clientWidth - LEFT - RIGHT, t: height - TOP - BOTTOM });
  const sum = (place) => data.series.reduce((total, one) => total + (one.values[place] ?? 0), 0);

  function draw() {
    const made = data && context(canvas, height);
    if (!made) return;
    const { g } = made, { w, t } = plot(), css = styles();
    let most = 0;
    for (let i = 0; i < data.points; i++) most = Math.max(most, kind === "bars" ? sum(i) : Math.max(0, ...data.series.map((one) => one.values[i] ?? 0)));
    const top = Math.max(most > 0 ? niceTop(most) : 0, minTop), y = (value) => TOP + t * (1 - (value - floor) / (top - floor)), slot = w / data.points;
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    for (const share of [0, 0.5, 1]) {
      const value = floor + (top - floor) * share;
      g.strokeStyle = colour("line", css);
      g.beginPath(); g.moveTo(LEFT, Math.round(y(value)) + 0.5); g.lineTo(LEFT + w, Math.round(y(value)) + 0.5); g.stroke();
      g.fillStyle = colour("faint", css); g.textAlign = "right";
      g.fillText(format(value), LEFT - 7, y(value));
    }
    const labels = Math.max(2, Math.min(6, Math.floor(w / 95)));
    for (let n = 0; n < labels; n++) {
      const place = Math.round((data.points * n) / (labels - 1));
      g.textAlign = n === 0 ? "left" : n === labels - 1 ? "right" : "center";
      g.fillText(clock(data.start + data.step * place, data.step * data.points < 600), LEFT + slot * place, height - 7);
    }
    if (cursor >= 0) {
      g.fillStyle = colour("sunk", css);
      g.fillRect(LEFT + slot * cursor, TOP, Math.max(slot, 1), t);
    }
    if (kind === "bars") drawBars(g, css, y, slot); else drawLines(g, css, y, slot);
    if (!most && kind === "bars") { g.fillStyle = colour("faint", css); g.textAlign = "center"; g.fillText("none in this time", LEFT + w / 2, TOP + t / 2 - 9); }
  }

  function drawBars(g, css, y, slot) {
    const gap = slot > 5 ? 1 : 0;
    for (let i = 0; i < data.points; i++) {
      let foot = 0;
      for (const one of data.series) {
        const value = one.values[i] ?? 0;
        if (!value) continue;
        g.fillStyle = colour(one.colour, css);
        const tall = Math.max(y(foot) - y(foot + value), 1);
        g.fillRect(LEFT + slot * i + gap / 2, y(foot) - tall, Math.max(slot - gap, 1), tall);
        foot += value;
      }
    }
  }

  function drawLines(g, css, y, slot) {
    g.lineJoin = "round";
    for (const one of data.series) {
      g.strokeStyle = g.fillStyle = colour(one.colour, css);
      g.lineWidth = 1.6;
      g.setLineDash(one.dash ? [4, 3] : []);
      g.beginPath();
      one.values.forEach((value, i) => {
        if (value === null || value === undefined) return;
        const x = LEFT + slot * (i + 0.5), lone = one.values[i - 1] == null;
        if (lone) g.moveTo(x, y(value)); else g.lineTo(x, y(value));
        if (lone && one.values[i + 1] == null) g.fillRect(x - 1.5, y(value) - 1.5, 3, 3);
      });
      g.stroke();
    }
    g.setLineDash([]);
    g.lineWidth = 1;
  }

  function point(place) {
    cursor = data ? Math.max(-1, Math.min(data.points - 1, place)) : -1;
    draw();
    tip.hidden = cursor < 0;
    if (cursor < 0) return;
    const begins = data.start + data.step * cursor;
    const rows = data.series.map((one) => h("div", {}, h("i", { class: `dot ${one.colour}` }), one.name, h("b", {}, one.values[cursor] == null ? "–" : format(one.values[cursor]))));
    tip.replaceChildren(h("div", { class: "dim" }, `${clock(begins)} – ${clock(begins + data.step)}`), ...rows);
    const x = LEFT + (plot().w / data.points) * (cursor + 0.5), right = x > canvas.clientWidth / 2;
    tip.style.top = `${canvas.offsetTop + 6}px`;
    tip.style.left = right ? "auto" : `${x + 14}px`;
    tip.style.right = right ? `${canvas.clientWidth - x + 14}px` : "auto";
  }

  canvas.addEventListener("pointermove", (event) => point(Math.floor(((event.offsetX - LEFT) / plot().w) * (data?.points ?? 1))));
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -1e6, End: 1e6 }[event.key];
    if (!move || !data) return;
    event.preventDefault();
    point(Math.max(0, (cursor < 0 ? data.points : cursor) + move));
  });
  track(canvas, draw);

  function update(next) {
    data = next;
    legend.replaceChildren(...(next.series.length > 1 || next.legend ? next.series.map((one) => h("span", {}, h("i", { class: `dot ${one.colour}` }), one.name)) : []));
    const last = next.series.map((one) => `${one.name}: ${format(one.values.findLast((value) => value != null) ?? 0)}`).join(", ");
    canvas.setAttribute("aria-label", `${title}${unit ? `, ${unit}` : ""}. Latest: ${last}. Arrow keys read the curve.`);
    point(cursor);
  }
  return { element, update };
}

// A stamp-sized curve of shares in [0, 1]; null leaves a gap.
export function spark(values, { width = 110, height = 20, tone = "c1" } = {}) {
  const canvas = h("canvas", { class: "spark", width, height, "aria-hidden": "true" });
  canvas.style.width = `${width}px`;
  const draw = () => {
    const made = context(canvas, height);
    if (!made) return;
    const { g } = made, slot = width / Math.max(values.length, 12);
    const [high, low] = [colour("bar"), colour("bar-low")];
    values.forEach((value, i) => {
      if (value === null) return;
      g.fillStyle = value < 0.2 ? low : tone === "c1" ? high : colour(tone);
      const tall = Math.max(value * (height - 2), 1.5);
      g.fillRect(i * slot, height - tall, Math.max(slot - 0.6, 0.8), tall);
    });
  };
  track(canvas, draw);
  return canvas;
}
