"""Small bar charts as numbers: where each bar stands and how high it is, for an SVG that needs no style. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.onboarding.overview import Flow

WIDTH, HEIGHT = 336, 96
_FOOT = 2
_BAR_NAMES = {
    "1": "1 min",
    "5": "5 min",
    "15": "15 min",
    "60": "1 h",
    "240": "4 h",
    "1440": "1 d",
    "4320": "3 d",
    "more": "more",
}


@dataclass(frozen=True)
class Bar:
    """One bar, or one part of a stacked one. `kind`: its class."""

    x: float
    y: float
    width: float
    height: float
    kind: str


@dataclass(frozen=True)
class Chart:
    """Bars and what they count at most; `rows` is the same as a table: a name or a time (ms), then numbers."""

    bars: Sequence[Bar]
    most: int
    rows: Sequence[tuple[object, ...]]


def flow_chart(flows: Sequence[Flow]) -> Chart:
    """What came in as one bar, beside it what was settled: approved and, on top, rejected."""
    most = max(max(flow.began, flow.approved + flow.rejected) for flow in flows)
    slot = WIDTH / len(flows)
    width = round(slot * 0.42, 1)
    bars: list[Bar] = []
    for number, flow in enumerate(flows):
        x = round(number * slot, 1)
        bars += _stacked(x, width, most, [(flow.began, "came")])
        bars += _stacked(round(x + width, 1), width, most, [(flow.approved, "approved"), (flow.rejected, "rejected")])
    shown = [(flow.at, flow.began, flow.approved, flow.rejected) for flow in flows]
    return Chart(bars, most, [row for row in reversed(shown) if any(row[1:])])


def histogram(took: Sequence[tuple[str, int]]) -> Chart:
    """From submit to settled: how many within each time."""
    most = max(number for _, number in took)
    slot = WIDTH / len(took)
    bars = []
    for place, (_, number) in enumerate(took):
        bars += _stacked(round(place * slot + 3, 1), round(slot - 6, 1), most, [(number, "came")])
    return Chart(bars, most, [(_BAR_NAMES[word], number) for word, number in took])


def _stacked(x: float, width: float, most: int, parts: Sequence[tuple[int, str]]) -> list[Bar]:
    bars, foot = [], float(HEIGHT - _FOOT)
    for number, kind in parts:
        if number:
            height = max(2.0, round((HEIGHT - _FOOT - 2) * number / most, 1))
            foot = round(foot - height, 1)
            bars.append(Bar(x, foot, width, height, kind))
    return bars
