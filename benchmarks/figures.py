"""Figures: two things measured in turns, what one is of the other, and how they are shown."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

LESS: Final = "<="
MORE: Final = ">="


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two things: its measurements, round by round, in `unit`."""

    what: str
    unit: str
    rounds: Sequence[Sequence[float]]

    @property
    def samples(self) -> list[float]:
        """All measurements."""
        return [one for each in self.rounds for one in each]

    @property
    def median(self) -> float:
        """The median of all measurements."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Where the middle half of the measurements begins and ends."""
        return quartiles(self.samples)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        low, high = self.quartiles
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "q1": low,
            "q3": high,
            "count": len(self.samples),
            "medians_by_round": [statistics.median(each) for each in self.rounds],
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """What `ours` is of `base`: the ratio of the two medians. `spread`: the middle half of the rounds' own ratios.

    limit: what the ratio must not be above (LESS) or below (MORE); None where nothing is promised. `limit_of_ours`: the
    same for the median of `ours` by itself.
    """

    name: str
    storage: str
    ours: Side
    base: Side
    limit: float | None = None
    sense: str = LESS
    limit_of_ours: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Median of `ours` by median of `base`."""
        return self.ours.median / self.base.median

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the ratios of the rounds."""
        pairs = zip(self.ours.rounds, self.base.rounds, strict=True)
        return quartiles([statistics.median(ours) / statistics.median(base) for ours, base in pairs])

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.limit_of_ours is not None:
            return self.ours.median <= self.limit_of_ours
        if self.limit is None:
            return None
        return self.ratio <= self.limit if self.sense == LESS else self.ratio >= self.limit

    @property
    def target(self) -> str:
        """The target in words."""
        if self.limit_of_ours is not None:
            return f"{self.limit_of_ours:g} {self.ours.unit}"
        if self.limit is None:
            return ""
        return f"{self.sense} {as_ratio(self.limit)}"

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        low, high = self.spread
        return {
            "name": self.name,
            "storage": self.storage,
            "ratio": self.ratio,
            "ratio_q1": low,
            "ratio_q3": high,
            "target": self.target,
            "met": self.met,
            "note": self.note,
            "ours": self.ours.as_json(),
            "base": self.base.as_json(),
        }


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Where the middle half begins and ends; of one sample, itself."""
    if len(samples) < 2:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def as_ratio(value: float) -> str:
    """`1/35`, `1.07`, `42`."""
    if value <= 0.5:
        return f"1/{1 / value:.3g}"
    return f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """All of them, one a line."""
    rows = [("", "storage", "ours", "against", "ratio", "middle half", "target", "")]
    for one in figures:
        low, high = one.spread
        verdict = {None: "", True: "met", False: "MISSED"}[one.met]
        rows.append(
            (
                one.name,
                one.storage,
                f"{one.ours.median:.4g} {one.ours.unit}",
                f"{one.base.median:.4g} {one.base.unit}",
                as_ratio(one.ratio),
                f"{as_ratio(low)} .. {as_ratio(high)}",
                one.target,
                verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    notes = [f"{one.name} ({one.storage}): {one.note}" for one in figures if one.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


Measure = Callable[[], Sequence[float]]
AsyncMeasure = Callable[[], Awaitable[Sequence[float]]]


@dataclass(slots=True)
class Turns:
    """The measurements of several things, taken in turns."""

    names: Sequence[str]
    rounds: dict[str, list[Sequence[float]]] = field(default_factory=dict)

    def side(self, name: str, what: str, unit: str) -> Side:
        """One of them."""
        return Side(what, unit, self.rounds[name])


def in_turns(rounds: int, progress: str, **sides: Measure) -> Turns:
    """Measure each of the sides once in every round: A B A B. The first round is one more, and does not count: it warms
    up caches, connections and statements on both sides alike."""
    turns = Turns(list(sides), {name: [] for name in sides})
    for number in range(rounds + 1):
        say(f"{progress}: round {number} of {rounds}" if number else f"{progress}: warming up")
        for name, measure in sides.items():
            samples = measure()
            if number:
                turns.rounds[name].append(samples)
    return turns


async def in_turns_async(rounds: int, progress: str, **sides: AsyncMeasure) -> Turns:
    """As `in_turns`, for what has to be awaited."""
    turns = Turns(list(sides), {name: [] for name in sides})
    for number in range(rounds + 1):
        say(f"{progress}: round {number} of {rounds}" if number else f"{progress}: warming up")
        for name, measure in sides.items():
            samples = await measure()
            if number:
                turns.rounds[name].append(samples)
    return turns


def say(text: str) -> None:
    """Show how far things are, on standard error."""
    print(text, file=sys.stderr, flush=True)
