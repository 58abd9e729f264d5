"""The picture of LayerSplit's benchmark: what the cost model predicts, as a line, and what was measured, as dots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640.0, 340.0, 60.0, 50.0, 34.0
_TITLE = "requests a second with LayerSplit / without: predicted (line), measured (dots)"
_AXIS = "context of a request, in tokens"
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#444}.axis{stroke:#bbb}.line{fill:none;stroke:#2563eb;"
    "stroke-width:2}.dot{fill:#dc2626}</style>"
)


def picture(curve: Sequence[tuple[int, float]], measured: Mapping[int, float]) -> str:
    """
    An SVG file.

    Args:
        curve: Context in tokens, and the predicted ratio of requests a second, with LayerSplit over without.
        measured: The same as measured.
    """
    contexts = [context for context, _ in curve]
    low, high = min(contexts), max(contexts)
    top = 1.1 * max(*measured.values(), *(ratio for _, ratio in curve))

    def x(context: float) -> float:
        return _LEFT + (context - low) / (high - low) * (_WIDTH - _LEFT - 20)

    def y(ratio: float) -> float:
        return _HEIGHT - _BOTTOM - ratio / top * (_HEIGHT - _BOTTOM - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img">',
        _STYLE,
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{_LEFT:g}" y="20">{_TITLE}</text>',
    ]
    for ratio in range(int(top) + 1):
        parts.append(
            f'<line class="axis" x1="{_LEFT:g}" x2="{_WIDTH - 20:g}" y1="{y(ratio):.1f}" y2="{y(ratio):.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 12:g}" y="{y(ratio) + 4:.1f}" text-anchor="end">{ratio}</text>')
    for context in measured:
        parts.append(f'<text x="{x(context):.1f}" y="{_HEIGHT - 28:g}" text-anchor="middle">{context}</text>')
    middle = (_LEFT + _WIDTH) / 2
    parts.append(
        f'<text x="{middle:g}" y="{_HEIGHT - 8:g}" text-anchor="middle">context of a request, in tokens</text>'
    )
    joined = " ".join(f"{x(context):.1f},{y(ratio):.1f}" for context, ratio in curve)
    parts.append(f'<polyline class="line" points="{joined}"/>')
    parts += [f'<circle class="dot" r="5" cx="{x(c):.1f}" cy="{y(r):.1f}"/>' for c, r in measured.items()]
    return "\n".join([*parts, "</svg>\n"])
