"""Both terms at once: what the two networks have in common is computed once."""

from typing import Any

import torch
from torch import Tensor

from tito_fast.models.bopito.network import BopitoNetwork
from tito_fast.models.tito.model import BACKEND_MODULES, Conditioning, Prepared
from tito_fast.models.tito.network import n_encodings

_OF_PAIRS = ("n_features", "n_reduced_features", "first_rank", "message")


def shares_pairs(network: BopitoNetwork) -> bool:
    """Return whether both networks read the same pairs of atoms, with distances encoded alike."""
    dynamic, equilibrium = network.dynamic.config, network.equilibrium.config
    return dynamic.scaled_cutoff is equilibrium.scaled_cutoff is None and all(
        getattr(dynamic, name) == getattr(equilibrium, name) for name in _OF_PAIRS
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
    encodings of the times. Nothing is read back from the device.
    """
    module = BACKEND_MODULES[prepared[0].backend]
    time, lag_time_ps, temperature_k = inputs
    of_dynamic = network.dynamic.encode(time, lag_time_ps, temperature_k)
    equilibrium, pairs = network.equilibrium, None
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

    def term(net: Any, row: int, encodings: list[Tensor], start: Tensor | None) -> Tensor:  # noqa: ANN401
        result: Tensor = module.velocity(
            net,
            prepared[row].tables,
            conditionings[row].features,
            x,
            encodings=encodings,
            vectors=start,
            pairs=pairs,
        )
        return result

    return (
        term(equilibrium, 1, of_equilibrium, zeros),
        term(network.dynamic, 0, of_dynamic, vectors),
    )
