"""Which models may be the equilibrium term."""

from dataclasses import replace

from tito_fast.models.tito.config import ModelInfo, TitoConfig
from tito_fast.models.tito.model import TitoModel

_MUST_AGREE = ("objective", "is_centered", "n_diffusion_steps", "noise_schedule")
# A flow's velocity is turned into the noise of any schedule.
_MUST_AGREE_WITH_A_FLOW = ("is_centered",)


def equilibrium_prior(model: TitoModel) -> TitoModel:
    """Return ``model`` if its field is that of one equilibrium density, else raise.

    Parameters
    ----------
    model : TitoModel
        Without a condition (``is_conditional=False``), predicting noise, or a velocity. A velocity has the score
        (t v − x)/(1 − t) only where base samples and data were drawn independently (coupling ``none``), and is one
        function of x only where its vectors start at zero.

    Returns
    -------
    TitoModel
        The same.

    Raises
    ------
    ValueError
        If the model has a condition, a random vector start, or is a flow that was trained with a coupling.

    References
    ----------
    BoPITO, arXiv:2410.10605: s_eq is the score of a pre-trained, unconditional model.
    """
    config, info = model.config, model.info
    if config.is_conditional:
        raise ValueError(
            "equilibrium: expected a model without a condition (is_conditional: false), got one of transitions; "
            "train one with model.is_conditional=false"
        )
    if config.vector_start != "zeros":
        raise ValueError(
            f"equilibrium: expected vectors that start at zero, got vector_start {config.vector_start!r}: its field is "
            "random and has no score; train one with model.vector_start=zeros"
        )
    if config.objective == "velocity" and info.coupling != "none":
        raise ValueError(
            f"equilibrium: expected a flow trained with coupling 'none', got {info.coupling!r}: with coupled samples "
            "its velocity gives no score; train one with data.coupling=none"
        )
    return model


def check_terms(
    equilibrium: TitoConfig,
    dynamic: TitoConfig,
    equilibrium_info: ModelInfo,
    dynamic_info: ModelInfo,
) -> None:
    """Raise ``ValueError`` unless the two terms may be added: one objective, one path, one unit, one base density.

    A flow may be the equilibrium term of a diffusion: its velocity is turned into noise.
    """
    if not dynamic.is_conditional:
        raise ValueError(
            "dynamic: expected a model with a condition (is_conditional: true), got one without"
        )
    if dynamic.vector_start not in ("zeros", "condition"):
        raise ValueError(
            "dynamic: expected vectors that start at zero or at those of the condition, "
            f"got vector_start {dynamic.vector_start!r}; set model.vector_start=zeros"
        )
    if dynamic.objective == "velocity" and dynamic_info.coupling != "none":
        raise ValueError(
            f"dynamic: expected coupling 'none', got {dynamic_info.coupling!r}: coupled samples mix the terms; "
            "set data.coupling=none"
        )
    is_turned = equilibrium.objective == "velocity" and dynamic.objective == "noise"
    for name in _MUST_AGREE_WITH_A_FLOW if is_turned else _MUST_AGREE:
        ours, theirs = getattr(dynamic, name), getattr(equilibrium, name)
        if ours != theirs:
            raise ValueError(
                f"dynamic: expected {name} {theirs!r} as the equilibrium model has it, got {ours!r}"
            )
    if equilibrium.has_temperature and not dynamic.has_temperature:
        raise ValueError(
            "dynamic: expected has_temperature true as the equilibrium model has it, got false"
        )
    for name in ("length_unit_nm",) if is_turned else ("length_unit_nm", "base_std"):
        ours, theirs = getattr(dynamic_info, name), getattr(equilibrium_info, name)
        if ours != theirs:
            raise ValueError(
                f"dynamic: expected {name} {theirs:g} as the equilibrium model has it, got {ours:g}"
            )


def known_to_both(dynamic: ModelInfo, equilibrium: ModelInfo) -> ModelInfo:
    """Return the facts of the dynamic network with the elements, bond types and charges that both models know."""

    def common(
        ours: tuple[int, ...] | None, theirs: tuple[int, ...] | None
    ) -> tuple[int, ...] | None:
        if ours is None or theirs is None:
            return ours if theirs is None else theirs
        return tuple(sorted(set(ours) & set(theirs)))

    return replace(
        dynamic,
        elements=common(dynamic.elements, equilibrium.elements),
        bond_types=common(dynamic.bond_types, equilibrium.bond_types),
        formal_charges=common(dynamic.formal_charges, equilibrium.formal_charges) or (),
    )
