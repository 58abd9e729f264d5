"""The frame of the HTML report: its style, its script, and a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --ink: #1d2329; --soft: #5d6873; --line: #d5d9dd;
  --panel: #f1f3f4; --accept: #2f6fb2; --accept-soft: #a9c8e6; --suspect: #c2521a; --fault: #7a3fa8;
  --onset: #a06a00; --verdict: #c01f2e; --good: #1f7a4d; --row: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --ink: #e4e8eb; --soft: #9aa5af; --line: #333b43;
  --panel: #1c2227; --accept: #6cb0ee; --accept-soft: #31506d; --suspect: #f0894c; --fault: #c08bea;
  --onset: #e0b040; --verdict: #ff6b74; --good: #5cc48d; --row: #191e23; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 .75rem; max-width: 62rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); } .lines { white-space: pre-line; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .8rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th { color: var(--soft); font-weight: 600; }
.scroll { overflow-x: auto; max-width: 100%; }
.side { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; }
svg { width: 100%; height: auto; display: block; } svg.spark { width: 80px; height: 16px; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; } svg .small { fill: var(--soft); font-size: 10.5px; }
svg .end { text-anchor: end; } svg .mid, svg .name { text-anchor: middle; }
svg .panel { fill: var(--panel); } svg .grid { stroke: var(--line); stroke-width: .6; fill: none; }
svg polyline, svg path { fill: none; } svg .bars { stroke: var(--accept-soft); stroke-width: 1.4; }
svg .mean { stroke: var(--accept); stroke-width: 1.6; } svg .suspicion { stroke: var(--suspect); stroke-width: 1.8; }
svg .level { stroke: var(--soft); stroke-dasharray: 3 4; } svg .unseen { fill: var(--paper); opacity: .6; }
svg text.fault, svg text.onset, svg text.verdict { paint-order: stroke; stroke: var(--row); stroke-width: 3px; }
svg path.fault { stroke: var(--fault); stroke-width: 1.6; } svg text.fault { fill: var(--fault); }
svg path.onset { stroke: var(--onset); stroke-dasharray: 4 3; stroke-width: 1.4; }
svg text.onset { fill: var(--onset); }
svg path.verdict { stroke: var(--verdict); stroke-width: 1.6; } svg text.verdict { fill: var(--verdict); }
svg .c1 { stroke: var(--verdict); stroke-width: 2; } svg .c2 { stroke: var(--fault); stroke-width: 2; }
svg .c3 { stroke: var(--suspect); stroke-width: 2; } svg .c4 { stroke: var(--good); stroke-width: 2; }
svg .c5 { stroke: var(--good); stroke-width: 2; stroke-dasharray: 5 3; }
.tools { position: sticky; top: 0; background: var(--paper); padding: .5rem 0; z-index: 1;
  border-bottom: 1px solid var(--line); display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; }
button { font: inherit; font-size: .85rem; color: inherit; background: var(--panel); border: 1px solid var(--line);
  border-radius: 999px; padding: .1rem .7rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--ink); color: var(--paper); }
details { background: var(--row); border-bottom: 1px solid var(--line); }
summary { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr) 11rem 11rem 5rem 4rem 84px; gap: .75rem;
  padding: .35rem .5rem; cursor: pointer; align-items: center; font-size: .9rem; font-variant-numeric: tabular-nums; }
summary:hover { background: var(--panel); }
summary > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } summary .num { text-align: right; }
.head { display: grid; grid-template-columns: 8.5rem minmax(0, 1fr) 11rem 11rem 5rem 4rem 84px; gap: .75rem;
  padding: .35rem .5rem; color: var(--soft); font-size: .8rem; font-weight: 600; } .head .num { text-align: right; }
.tag { font-weight: 600; } .tag::before { content: "\\25b8\\a0"; color: var(--soft); }
details[open] .tag::before { content: "\\25be\\a0"; } .false-positive .tag, .too-early .tag { color: var(--verdict); }
.missed .tag { color: var(--suspect); } .detected .tag, .clean .tag { color: var(--good); }
.inside { padding: .25rem .75rem 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); padding: .75rem; margin: .5rem 0;
  border-radius: 6px; font: 13px/1.5 ui-monospace, monospace; unicode-bidi: isolate;
  max-height: 22rem; overflow: auto; }
pre i { font-style: normal; color: var(--soft); } pre b { font: 600 11px system-ui, sans-serif; padding: 0 .35rem;
  border-radius: 4px; border: 1px solid currentColor; white-space: nowrap; }
b.fault { color: var(--fault); } b.onset { color: var(--onset); } b.verdict { color: var(--verdict); }
@media (max-width: 52rem) { summary { grid-template-columns: 7rem minmax(0, 1fr) 84px; } .head { display: none; }
  summary .wide { display: none; } }
"""

SCRIPT = """
"use strict";
const list = document.getElementById("cases");
const cases = Array.from(list.children);
const number = (one, key) => { const value = parseFloat(one.dataset[key]); return Number.isNaN(value) ? -1 : value; };
const orders = {
  outcome: (a, b) => number(a, "rank") - number(b, "rank") || number(b, "peak") - number(a, "peak"),
  kind: (a, b) => a.dataset.kind.localeCompare(b.dataset.kind) || number(a, "rank") - number(b, "rank"),
  peak: (a, b) => number(b, "peak") - number(a, "peak"),
  delay: (a, b) => number(b, "delay") - number(a, "delay"),
  held: (a, b) => number(b, "held") - number(a, "held"),
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
};
function press(button) {
  for (const other of button.parentElement.querySelectorAll(`button[data-group=${button.dataset.group}]`)) {
    other.setAttribute("aria-pressed", String(other === button));
  }
}
for (const button of document.querySelectorAll("button[data-sort]")) {
  button.addEventListener("click", () => { press(button); list.append(...cases.sort(orders[button.dataset.sort])); });
}
for (const button of document.querySelectorAll("button[data-show]")) {
  button.addEventListener("click", () => {
    press(button);
    for (const one of cases) one.hidden = button.dataset.show !== "" && one.dataset.outcome !== button.dataset.show;
  });
}
"""


def page(title: str, body: Iterable[str]) -> Iterator[str]:
    """
    A whole HTML document that needs no network and runs nothing but its own script.

    Args:
        title: Plain text.
        body: HTML, already escaped, in pieces that become lines.

    Returns:
        The document in pieces.
    """
    rules = f"default-src 'none'; style-src 'sha256-{_digest(STYLE)}'; script-src 'sha256-{_digest(SCRIPT)}'"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{rules}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    for piece in body:
        yield piece + "\n"
    yield f"<script>{SCRIPT}</script>\n</body>\n</html>\n"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
