"""Both terms at once: what the two networks have in common is computed once."""

import torch
from torch import Tensor

from tito_fast.flows import NoiseSchedule
from tito_fast.models.bopito.flow_prior import flow_point, noise_of_velocity
from tito_fast.models.bopito.network import BopitoNetwork
from tito_fast.models.tito.model import BACKEND_MODULES, Conditioning, Prepared
from tito_fast.models.tito.network import n_encodings

_OF_PAIRS = ("n_features", "n_reduced_features", "first_rank", "message")


def shares_pairs(network: BopitoNetwork) -> bool:
    """Return whether both networks read the same pairs of atoms, with distances encoded alike."""
    dynamic, equilibrium = network.dynamic.config, network.equilibrium.config
    return (
        dynamic.objective == equilibrium.objective
        and dynamic.scaled_cutoff is equilibrium.scaled_cutoff is None
        and all(getattr(dynamic, name) == getattr(equilibrium, name) for name in _OF_PAIRS)
    )


def both_terms(
    network: BopitoNetwork,
    prepared: tuple[Prepared, Prepared],
    conditionings: tuple[Conditioning, Conditioning],
    x: Tensor,
    *,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    vectors: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the equilibrium and the dynamic term at ``x``, each (n_atoms, 3).

    Parameters
    ----------
    network : BopitoNetwork
    prepared, conditionings : pair
        Of the dynamic, then of the equilibrium network.
    x : Tensor, shape (n_atoms, 3)
    inputs : tuple of Tensor, each (n_molecules,)
        Flow time or diffusion step; lag that the dynamic network is told, in ps; temperature or None.
    vectors : Tensor, shape (n_atoms, 3, n_features), or None
        Start of the dynamic network's vectors, zeros; None: its condition's.

    Notes
    -----
    In common where `shares_pairs`: tables, distances and directions of all pairs with their encodings, and the
    encodings of the times. A flow that is the equilibrium term of a diffusion is evaluated at positions of its own.
    Nothing is read back from the device.
    """
    module = BACKEND_MODULES[prepared[0].backend]
    time, lag_time_ps, temperature_k = inputs
    of_dynamic = network.dynamic.encode(time, lag_time_ps, temperature_k)
    equilibrium, pairs, x_t = network.equilibrium, None, x
    batch_idx, base_std = prepared[0].batch.batch_idx, network.equilibrium_base_std
    is_turned = equilibrium.config.objective != network.dynamic.config.objective
    if is_turned:
        schedule = NoiseSchedule.of_model(network.dynamic.config)
        point = flow_point(schedule, time, base_std=base_std)
        x_t = x / point.scale.to(x.dtype)[batch_idx].unsqueeze(-1)
        time = point.flow_time.to(time.dtype)
    if shares_pairs(network):
        # Time comes first, then temperature, then lag.
        of_equilibrium = of_dynamic[: n_encodings(equilibrium.config)]
        pairs = module.pairs(network.dynamic, prepared[0].tables, x)
    else:
        has_temperature = equilibrium.config.has_temperature
        of_equilibrium = equilibrium.encode(time, None, temperature_k if has_temperature else None)
    n_features = equilibrium.config.n_features
    zeros = vectors
    if zeros is None or zeros.shape[2] != n_features:
        zeros = torch.zeros((x.shape[0], 3, n_features), dtype=x.dtype, device=x.device)

    def term(row: int, positions: Tensor, encodings: list[Tensor], start: Tensor | None) -> Tensor:
        net = (network.dynamic, equilibrium)[row]
        result: Tensor = module.velocity(
            net,
            prepared[row].tables,
            conditionings[row].features,
            positions,
            encodings=encodings,
            vectors=start,
            pairs=pairs,
        )
        return result

    of_prior = term(1, x_t, of_equilibrium, zeros)
    if is_turned:
        of_prior = noise_of_velocity(of_prior, x_t, time[batch_idx], base_std=base_std)
    return of_prior, term(0, x, of_dynamic, vectors)
