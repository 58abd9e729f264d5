// All streams in flight. Only the rows that can be seen exist; a thousand streams cost no more than thirty.
import { listen } from "./api.js";
import { colour, context, track } from "./charts.js";
import { empty, exchangeLink, h, outcomeBadge, seconds, segments, short } from "./dom.js";

const ROW = 30, STEPS = 96, SPARE = 4, LINGER = 4000;
const SORTS = { suspicion: (a, b) => b.s - a.s || a.i - b.i, newest: (a, b) => b.b - a.b || b.i - a.i, longest: (a, b) => b.t - a.t || a.i - b.i };

export function livePage(root, { signal }) {
  const streams = new Map();
  const opens = new Map();  // streams in flight by worker; without workers there is one, without a number
  let order = [], sort = "suspicion", filter = "", dirty = true, open = 0, offset = 0, every;
  const count = h("b", {}, "0"), rest = h("span", { class: "note" }), state = h("span", { class: "badge" }, "Connecting");
  const search = h("input", { type: "search", placeholder: "Request, model or replica", "aria-label": "Filter streams" });
  const map = h("canvas", { class: "map", role: "img" });
  const head = h("div", { class: "live-row live-head", role: "row" }, ["Request", "Model", "Replica", "Try", "Tokens", "Acceptance of the latest verify steps", "Length", "Suspicion", "Age"].map((name) => h("span", { role: "columnheader" }, name)));
  const body = h("div", { class: "live-body", role: "rowgroup" }), view = h("div", { class: "live-view", tabindex: "0", role: "table", "aria-label": "Streams in flight" }, head, body);
  const nothing = empty("No stream in flight", "Requests show up here while they are answered.");
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, "Live"), state, h("span", { class: "grow" }, count, " streams in flight ", rest),
      segments("Order", [["suspicion", "Most suspicious"], ["newest", "Newest"], ["longest", "Longest"]], sort, (value) => { sort = value; dirty = true; }), search),
    every = h("section", { class: "panel" }, h("header", {}, h("h2", {}, "Every stream, one square"),
      h("span", { class: "legend" }, [["calm", "calm"], ["held", "text waits"], ["acts", "at the acting level"], ["ended", "ended"]].map(([name, text]) => h("span", {}, h("i", { class: `dot map-${name}` }), text)))), map),
    h("section", { class: "panel live" }, view, nothing));
  search.addEventListener("input", () => { filter = search.value.trim().toLowerCase(); dirty = true; view.scrollTop = 0; });

  const name = (worker, line) => `${worker ?? ""}/${line.i}`;
  const take = (worker, line) => {
    let one = streams.get(name(worker, line));
    if (!one) streams.set(name(worker, line), one = { key: name(worker, line), w: worker, i: line.i, id: line.id, m: line.m, p: line.p, b: line.b, a: 0, r: "", t: 0, s: 0, d: 1, k: "", n: 0, ended: 0, outcome: "" });
    one.n++;
    if (line.a !== undefined) { if (line.a !== one.a) one.k = ""; one.a = line.a; one.r = line.r ?? ""; }
    if (line.t !== undefined) one.t = line.t;
    if (line.s !== undefined) one.s = line.s;
    if (line.d) one.d = Math.max(one.d, line.d);
    if (line.k) one.k = (one.k + line.k).slice(-STEPS);
  };
  const counted = (told) => {
    opens.set(told.w, told.open);
    open = [...opens.values()].reduce((sum, count) => sum + count, 0);
    dirty = true;
  };
  listen("guard/streams", signal, {
    snapshot: (told) => {
      for (const one of streams.values()) if (one.w === told.w) streams.delete(one.key);
      if (told.now) offset = told.now - Date.now() / 1000;
      told.streams.forEach((line) => take(told.w, line));
      counted(told);
    },
    tick: (told) => {
      told.streams.forEach((line) => take(told.w, line));
      for (const over of told.ended) { const one = streams.get(name(told.w, over)); if (one) { one.n++; one.ended = performance.now(); one.outcome = over.outcome; one.s = over.outcome === "healthy" ? 0 : one.s; } }
      counted(told);
    },
  }, (now) => { state.className = `badge ${now === "open" ? "good" : "warn"}`; state.textContent = now === "open" ? "Connected" : "Reconnecting"; });

  const rows = [];
  function row(slot) {
    if (rows[slot]) return rows[slot];
    const cells = { id: h("a", { class: "mono" }), model: h("span"), replica: h("span"), attempt: h("span", { class: "num" }), tokens: h("span", { class: "num" }), steps: h("canvas", { class: "steps", "aria-hidden": "true" }), length: h("span", { class: "num" }), suspicion: h("span", { class: "meter" }, h("i"), h("b")), age: h("span", { class: "num" }) };
    const element = h("div", { class: "live-row", role: "row" }, Object.values(cells).map((cell) => h("span", { role: "cell" }, cell)));
    body.append(element);
    return (rows[slot] = { element, cells, drawn: "", place: -1 });
  }

  // Sizes and colours are asked for once: asking in between writing would lay the page out again for every row.
  let tones = null, wide = 0, tall = 0;
  function measure() {
    const css = getComputedStyle(document.documentElement);
    tones = { high: colour("bar", css), low: colour("bar-low", css), none: colour("line", css), map: ["c2", "repetition", "garbled", "line-strong"].map((name) => colour(name, css)) };
    tall = view.clientHeight;
    wide = rows[0]?.cells.steps.clientWidth ?? 0;
  }

  function settle(now) {
    for (const one of streams.values()) if (one.ended && now - one.ended > LINGER) streams.delete(one.key);
    order = [...streams.values()];
    if (filter) order = order.filter((one) => `${one.id} ${one.m} ${one.r}`.toLowerCase().includes(filter));
    order.sort(SORTS[sort]);
    count.textContent = short(open);
    rest.textContent = streams.size < open ? `(the first ${short(streams.size)} are shown)` : "";
    nothing.hidden = order.length > 0;
    view.hidden = !order.length;
    every.hidden = !streams.size;
    body.style.height = `${order.length * ROW}px`;
    drawMap();
  }

  function drawRows() {
    const most = Math.ceil((tall || 800) / ROW) + 2 * SPARE, first = Math.max(0, Math.floor(view.scrollTop / ROW) - SPARE);
    for (let slot = 0; slot < Math.max(most, rows.length); slot++) {
      // Each place has a row of its own, so that scrolling by one changes one.
      const place = slot < most ? first + ((slot - first) % most + most) % most : -1, one = order[place];
      if (one) fill(row(slot), one, place);
      else if (rows[slot]) { rows[slot].element.hidden = true; rows[slot].place = -1; }
    }
  }

  function fill(made, one, place) {
    const { element, cells } = made;
    if (made.place !== place) { element.hidden = false; element.style.transform = `translateY(${place * ROW}px)`; made.place = place; }
    const drawn = `${one.key}/${one.n}/${wide}`;
    if (made.drawn === drawn) { put(cells.age, age(one)); return; }
    made.drawn = drawn;
    element.className = `live-row${one.ended ? " over" : ""}`;
    put(cells.id, one.id); cells.id.setAttribute("href", exchangeLink(one.id));
    put(cells.model, one.m || "–"); put(cells.replica, one.r || "–"); put(cells.attempt, String(one.a || "–")); put(cells.tokens, short(one.t));
    put(cells.length, length(one.k)); put(cells.age, age(one));
    const [bar, value] = cells.suspicion.children;
    bar.style.width = one.ended ? "0" : `${Math.round(one.s * 46)}px`;
    bar.className = one.s >= 1 ? "acts" : one.s >= 0.5 ? "held" : "";
    if (one.ended) value.replaceChildren(outcomeBadge(one.outcome)); else put(value, one.s ? one.s.toFixed(2) : "0");
    drawSteps(cells.steps, one, tones, wide);
  }

  const age = (one) => seconds(Math.max(0, Math.round(Date.now() / 1000 + offset - one.b)));

  function drawMap() {
    const width = map.clientWidth, size = streams.size > 600 ? 8 : streams.size > 150 ? 11 : 15;
    const across = Math.max(1, Math.floor(width / size)), made = context(map, Math.max(1, Math.min(12, Math.ceil(streams.size / across))) * size);
    if (!made) return;
    const paths = [new Path2D(), new Path2D(), new Path2D(), new Path2D()];
    let place = 0, suspected = 0;
    for (const one of streams.values()) {
      if (one.s >= 0.5 && !one.ended) suspected++;
      paths[one.ended ? 3 : one.s >= 1 ? 2 : one.s >= 0.5 ? 1 : 0].rect((place % across) * size, Math.floor(place / across) * size, size - 2, size - 2);
      place++;
    }
    paths.forEach((path, tone) => { made.g.globalAlpha = tone === 0 ? 0.65 : 1; made.g.fillStyle = tones.map[tone]; made.g.fill(path); });
    made.g.globalAlpha = 1;
    map.setAttribute("aria-label", `${streams.size} streams, ${suspected} suspected`);
  }

  let frame = 0, sized = true, scrolled = false;
  const paint = (now) => {
    if (signal.aborted) return;
    if (sized) { sized = false; measure(); rows.forEach((one) => { one.drawn = ""; }); dirty = true; }
    if (dirty) { dirty = false; scrolled = false; settle(now); tall = view.clientHeight; drawRows(); if (!wide && rows.length) sized = true; }
    if (scrolled) { scrolled = false; drawRows(); }
    frame = requestAnimationFrame(paint);
  };
  frame = requestAnimationFrame(paint);
  const aging = setInterval(() => { dirty = true; }, 1000);
  view.addEventListener("scroll", () => { scrolled = true; }, { passive: true });
  view.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const links = rows.filter((one) => !one.element.hidden).map((one) => one.cells.id);
    const next = links[links.indexOf(document.activeElement) + step] ?? links[0];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
  });
  track(map, () => { sized = true; });
  signal.addEventListener("abort", () => { cancelAnimationFrame(frame); clearInterval(aging); });
}

const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function length(steps) {
  let sum = 0, told = 0;
  for (const step of steps) if (step !== "-") { sum += parseInt(step, 36); told++; }
  return told ? (1 + sum / told).toFixed(2) : "–";
}

function drawSteps(canvas, one, tones, width) {
  const made = width && context(canvas, 18, width);
  if (!made) return;
  const slot = width / STEPS, high = new Path2D(), low = new Path2D(), none = new Path2D();
  for (let i = 0; i < one.k.length; i++) {
    const kept = one.k[i] === "-" ? -1 : parseInt(one.k[i], 36), share = kept / one.d;
    const tall = kept < 0 ? 1 : Math.max(share * 17, 1.5);
    (kept < 0 ? none : share < 0.2 ? low : high).rect(i * slot, 18 - tall, Math.max(slot - 0.5, 0.8), tall);
  }
  for (const [path, tone] of [[high, tones.high], [low, tones.low], [none, tones.none]]) { made.g.fillStyle = tone; made.g.fill(path); }
}
