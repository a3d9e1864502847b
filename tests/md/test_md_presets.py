"""Presets are complete, and refuse what makes no sense."""

import pytest

from tito_fast.md import PRESETS, Preset, SimulationConfig, preset_of


def test_the_published_presets_are_as_published():
    timewarp, gaff = PRESETS["timewarp"], PRESETS["gaff-vacuum"]
    assert timewarp.settings() == {
        "preset": "timewarp",
        "force_field": "amber14-all",
        "solvent": "obc1",
        "temperature_k": 310.0,
        "friction_per_ps": 0.3,
        "step_fs": 0.5,
        "constraints": "none",
        "hydrogen_mass_amu": None,
        "cutoff_nm": 2.0,
        "equilibration_ps": 20.0,
    }
    assert (gaff.temperature_k, gaff.friction_per_ps, gaff.step_fs) == (300.0, 1.0, 1.0)
    assert (gaff.solvent, gaff.constraints) == ("vacuum", "none")
    assert preset_of("mdqm9") == gaff


def test_what_is_given_overrides_and_none_does_not():
    preset = preset_of("fast", step_fs=4.0, hydrogen_mass_amu=3.0, temperature_k=None)
    assert (preset.step_fs, preset.hydrogen_mass_amu, preset.temperature_k) == (4.0, 3.0, 310.0)
    assert PRESETS["fast"].step_fs == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_k": 0.0}, "temperature_k: expected a value above zero, got 0 K"),
        ({"friction_per_ps": -1.0}, "friction_per_ps: expected a value above zero, got -1 /ps"),
        ({"step_fs": float("nan")}, "step_fs: expected a value above zero, got nan fs"),
        ({"constraints": "AllBonds"}, "constraints: expected one of none, HBonds, got 'AllBonds'"),
        ({"hydrogen_mass_amu": 12.0}, "hydrogen_mass_amu: expected 1 to 4, got 12"),
        ({"cutoff_nm": 0.0}, "cutoff_nm: expected a value above zero, got 0 nm"),
        ({"equilibration_ps": -1.0}, "equilibration_ps: expected at least 0, got -1"),
        ({"solvent": "water"}, "solvent: expected one of obc2-native, obc1, vacuum, got 'water'"),
        ({"force_field": "gaff2"}, "solvent: expected vacuum with gaff2, got 'obc2-native'"),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        preset_of("fast", **changes)


def test_an_unknown_preset_is_refused():
    with pytest.raises(
        ValueError,
        match="preset: expected one of fast, timewarp, gaff-vacuum, mdqm9, got 'slow'",
    ):
        preset_of("slow")


def test_times_are_whole_steps():
    preset = preset_of("timewarp")
    assert preset.n_steps(5.0, name="time") == 10_000
    assert preset.n_steps(1e9, name="time") == 2_000_000_000_000
    with pytest.raises(
        ValueError, match=r"save_every: expected a multiple of the step of 0.5 fs, got 0.0012 ps"
    ):
        preset.n_steps(0.0012, name="save_every")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_ps": 0.5}, "time: expected at least save_every, 1 ps, got 0.5 ps"),
        ({"time_ps": 2.5}, "time: expected a multiple of save_every, 1 ps, got 2.5 ps"),
        ({"save_every_ps": 0.003}, "save_every: expected a multiple of the step of 2 fs"),
        ({"n_replicas": 0}, "replicas: expected at least 1, got 0"),
        ({"n_jobs": 0}, "jobs: expected at least 1, got 0"),
        ({"preset": preset_of("fast", equilibration_ps=0.001)}, "equilibration: expected a mult"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**{"time_ps": 3.0, "save_every_ps": 1.0, **changes})


def test_a_preset_may_be_ones_own():
    own = Preset(
        name="own",
        force_field="amber14-all",
        solvent="vacuum",
        temperature_k=300.0,
        friction_per_ps=1.0,
        step_fs=1.0,
    )
    config = SimulationConfig(time_ps=1.0, save_every_ps=0.1, preset=own)
    assert (config.n_frames, config.steps_per_frame) == (10, 100)
    assert SimulationConfig(time_ps=1.0, save_every_ps=0.1).preset == PRESETS["fast"]
