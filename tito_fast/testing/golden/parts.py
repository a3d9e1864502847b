"""Replay of ``tito-golden-parts-1``: encoder, coupling, windows and lags, centring."""

from collections.abc import Callable, Iterator
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from tito_fast.data.pairs import LAG_LAWS, draw_lag_steps, lagged_windows
from tito_fast.models.tito.eager_blocks import pair_encoding
from tito_fast.models.tito.layers import positional_encoding
from tito_fast.ops import center, ot_couple
from tito_fast.testing.golden.comparison import (
    Line,
    Quantity,
    compare,
    compare_exactly,
    not_computed,
)
from tito_fast.testing.golden.recording import DTYPES, ReplaySettings, Section
from tito_fast.types import Coupling

_RELEASED_PLANS: Final[dict[str, Coupling]] = {
    "r": "r",
    "p": "none",
    "pr": "released",
    "rp": "released",
}
"""What the released code did under each name: its permutation is the identity."""


def replay_parts(recording: Section, settings: ReplaySettings) -> list[Line]:
    """Return the verdicts on a recording."""
    readers: dict[str, Callable[[Section, ReplaySettings], Iterator[Line]]] = {
        "positional_encoder": _positional_encoder,
        "ot_coupling": _ot_coupling,
        "lagged_index": _lagged_index,
        "centring": _centring,
    }
    lines: list[Line] = []
    for name in recording:
        if name in readers:
            lines += readers[name](recording.section(name), settings)
        elif name not in ("format", "name", "versions", "description", "seed"):
            lines.append(not_computed(name, dtype="-"))
    return lines


def _dtypes(settings: ReplaySettings) -> tuple[str, ...]:
    return settings.dtypes or tuple(DTYPES)


def _positional_encoder(section: Section, settings: ReplaySettings) -> Iterator[Line]:
    # Eager encodes distances of pairs by doubling the angle; times it encodes as the reference does.
    functions: dict[str, Callable[..., Tensor]] = {
        "reference": positional_encoding,
        "eager": pair_encoding,
        "auto": pair_encoding,
    }
    encode = functions.get(settings.backend)
    for case in section:
        recorded = section.section(case)
        for dtype in _dtypes(settings):
            if dtype not in recorded:
                continue
            name = f"positional_encoder.{case}"
            if encode is None:
                yield not_computed(name, dtype=dtype)
                continue
            values = recorded.tensor("x", "n").to(settings.device, DTYPES[dtype])
            encoded = encode(
                values, n_features=recorded.count("dim"), length=recorded.number("max_length")
            )
            # Doubling rounds a phase otherwise than the released formula does, whose float32 recording
            # is itself up to 3.4e-5 off; so eager is held to the exact values, not to their rounding.
            exact = encode is pair_encoding and "float64" in recorded
            expected = recorded.tensor("float64" if exact else dtype)
            yield compare(name, encoded, expected, dtype=dtype, quantity=Quantity.INTERMEDIATE)


def _ot_coupling(section: Section, settings: ReplaySettings) -> Iterator[Line]:
    for case in section:
        recorded = section.section(case)
        for dtype in _dtypes(settings):
            yield from _coupling_case(case, recorded, dtype, settings)


def _coupling_case(
    case: str, recorded: Section, dtype: str, settings: ReplaySettings
) -> Iterator[Line]:
    base = recorded.tensor("base", "n_atoms", 3).to(settings.device, DTYPES[dtype])
    target = recorded.tensor("target", base.shape[0], 3).to(settings.device, DTYPES[dtype])
    batch_ptr = torch.tensor([0, base.shape[0]], device=settings.device)
    is_released = "permutation_is_identity" not in recorded or bool(
        recorded.raw("permutation_is_identity")
    )
    suffix = "_float64" if dtype == "float64" else ""
    for plan, released in _RELEASED_PLANS.items():
        if f"{plan}{suffix}" not in recorded:
            continue
        coupled = ot_couple(
            base,
            target,
            batch_ptr=batch_ptr,
            plan=released if is_released else cast("Coupling", plan),
            # It has no Triton kernel: the exact assignment is the host's.
            backend="auto" if settings.backend == "triton" else settings.backend,
        )
        yield compare(
            f"ot_coupling.{case}.{plan}",
            coupled,
            recorded.tensor(f"{plan}{suffix}"),
            dtype=dtype,
            quantity=Quantity.INTERMEDIATE,
        )
        if plan == "r" and "det_sign" in recorded:
            # A proper rotation leaves the sign of the covariance's determinant as it was.
            sign = float(torch.linalg.det(coupled.double().T @ target.double()).sign())
            yield compare_exactly(
                f"ot_coupling.{case}.det_sign",
                int(sign != recorded.number("det_sign")),
                dtype=dtype,
                note=f"got {sign:g}",
            )


def _lagged_index(section: Section, settings: ReplaySettings) -> Iterator[Line]:
    del settings
    for case in section:
        recorded = section.section(case)
        name = f"lagged_index.{case}"
        if "traj_boundaries" in recorded:
            yield from _windows(name, recorded)
        elif "lags" in recorded:
            yield _draws(name, case.removeprefix("draws_"), recorded)
        else:
            yield not_computed(name, dtype="-")


def _windows(name: str, recorded: Section) -> Iterator[Line]:
    boundaries = recorded.integers("traj_boundaries", "n_trajectories + 1")
    max_lag = torch.as_tensor(recorded.raw("max_lag"), dtype=torch.int64)
    lengths = boundaries.diff()
    windows = lagged_windows(lengths.numpy(), max_lag.expand_as(lengths).numpy())
    computed = {
        "data0_idx": windows.first_frames() + int(boundaries[0]),
        "max_lag_per_item": windows.window_max_lag_steps(),
        "lag_traj_boundaries": windows.window_ptr,
    }
    for key, values in computed.items():
        if key in recorded:
            yield _same_integers(f"{name}.{key}", torch.from_numpy(values), recorded.tensor(key))


def _draws(name: str, law: str, recorded: Section) -> Line:
    lags = recorded.tensor("lags", "n_draws")
    if law not in LAG_LAWS:
        return not_computed(name, dtype="-")
    # The released code draws from numpy's legacy stream.
    rng = np.random.RandomState(int(recorded.number("numpy_seed")))
    limits = np.full(lags.shape[0], recorded.count("max_lag"))
    drawn = draw_lag_steps(rng, limits, law=law)
    return _same_integers(f"{name}.lags", torch.from_numpy(drawn), lags)


def _same_integers(name: str, computed: Tensor, recorded: Tensor) -> Line:
    if computed.shape != recorded.shape:
        note = f"shape {tuple(recorded.shape)} recorded, {tuple(computed.shape)} computed"
        return compare_exactly(name, max(1, recorded.numel()), note=note)
    n_different = int((computed.to(torch.float64) != recorded.to(torch.float64)).sum())
    return compare_exactly(name, n_different, note="entries differ")


def _centring(section: Section, settings: ReplaySettings) -> Iterator[Line]:
    # Recorded in float32 only.
    if "float32" not in _dtypes(settings):
        return
    positions = section.tensor("x", "n_atoms", 3).to(settings.device, torch.float32)
    n_atoms = positions.shape[0]
    sizes = section.integers("batch", n_atoms).bincount()
    starts = {
        "center_coordinates_batch": torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
        "center_coordinates_all": torch.tensor([0, n_atoms]),
    }
    for name, batch_ptr in starts.items():
        if name not in section:
            continue
        centered = center(
            positions, batch_ptr=batch_ptr.to(settings.device), backend=settings.backend
        )
        yield compare(
            f"centring.{name}",
            centered,
            section.tensor(name),
            dtype="float32",
            quantity=Quantity.INTERMEDIATE,
        )
