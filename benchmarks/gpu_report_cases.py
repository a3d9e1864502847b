"""What a report on a GPU is made of: cases that check what they time, the most important first, within a budget."""

import gc
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_report_timing import Clock


class Absent(Exception):  # noqa: N818  not an error: the reason is in the report
    """Raised by a case that cannot be run here, with the reason."""


@dataclass(frozen=True)
class Check:
    """An error that was measured, and the largest one allowed."""

    name: str
    error: float
    allowed: float

    @property
    def is_ok(self) -> bool:
        """Whether it holds; not a number never does."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Result:
    """What a case measured."""

    figures: dict[str, Any]
    checks: Sequence[Check] = ()


@dataclass
class Lab:
    """What the cases share.

    Parameters
    ----------
    device : torch.device
    is_quick : bool
        Tiny sizes: only to see that everything runs.
    clock : Clock
    ceilings : dict
        Filled by the first case; empty if it failed.
    kept : dict
        What several cases need and one has made.
    """

    device: torch.device
    is_quick: bool
    clock: Clock
    ceilings: dict[str, float] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` made when it was first asked for under ``key``."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the report.

    Parameters
    ----------
    name, kind : str
        ``kind`` is ``ceiling``, ``op``, ``kernel``, ``rollout`` or ``training``.
    about : dict
        What is timed: sizes, backend, precision; goes into the row.
    importance : int
        Cases run in this order, lowest first; the last are dropped when time runs out.
    seconds : float
        About how long it takes, checks and compiling included.
    run : callable
    """

    name: str
    kind: str
    about: dict[str, Any]
    importance: int
    seconds: float
    run: Callable[[Lab], Result]


def run_cases(cases: Sequence[Case], lab: Lab, *, budget_s: float) -> Iterator[dict[str, Any]]:
    """Yield a row for each case, in the order of their importance; no case is left out without its reason."""
    start = time.perf_counter()
    for case in sorted(cases, key=lambda each: each.importance):
        row = {"name": case.name, "kind": case.kind, **case.about}
        left = budget_s - (time.perf_counter() - start)
        if case.seconds > left:
            why = (
                f"{max(left, 0):.0f} s of {budget_s:.0f} s left, about {case.seconds:.0f} s needed"
            )
            yield row | {"status": "skipped", "why": why}
            continue
        began = time.perf_counter()
        row |= _outcome(case, lab)
        yield row | {"took_s": round(time.perf_counter() - began, 2)}
        gc.collect()
        if lab.is_cuda:
            torch.cuda.empty_cache()


def _outcome(case: Case, lab: Lab) -> dict[str, Any]:
    try:
        result = case.run(lab)
    except Absent as reason:
        return {"status": "skipped", "why": str(reason)}
    except torch.OutOfMemoryError as error:
        return {"status": "skipped", "why": f"does not fit in memory: {str(error).splitlines()[0]}"}
    except Exception as error:  # noqa: BLE001  one failing case must not end the others
        where = traceback.format_tb(error.__traceback__)[-1].strip()
        return {"status": "failed", "why": f"{type(error).__name__}: {error}", "where": where}
    checks = [
        {"name": check.name, "error": check.error, "allowed": check.allowed, "ok": check.is_ok}
        for check in result.checks
    ]
    is_ok = all(check.is_ok for check in result.checks)
    return {"status": "ok" if is_ok else "wrong", **result.figures, "checks": checks}


def relative_error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Return the largest rms error of a tensor over the rms of the exact one; infinite where shapes differ."""
    worst = 0.0
    for one, other in zip(found, exact, strict=True):
        if one.shape != other.shape:
            return math.inf
        if other.numel() == 0:
            continue
        expected = other.detach().double()
        difference = (one.detach().double() - expected).square().mean().sqrt()
        scale = expected.square().mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)
        error = float(difference / scale)
        # Not max(): it would lose a NaN.
        worst = error if not error <= worst else worst
    return worst
