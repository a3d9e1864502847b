"""The panel says with units what it shows, and nothing overlaps."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from tito_fast import EvaluationConfig, evaluate
from tito_fast.analysis.panel import MAX_TORSIONS, STYLE, draw_panel, panel_png
from tito_fast.data.readers import from_smiles

QUICK = EvaluationConfig(n_resamples=20)


@pytest.fixture(scope="module", params=["CCCO", "CCCCCCO"])
def contents(request, rotamer_walk, write_rollout, write_trajectory, tmp_path_factory):
    """Content of metrics.json with and without a reference, of one and of five torsions."""
    molecule = from_smiles(request.param)
    root = tmp_path_factory.mktemp("panel")
    replicas = [rotamer_walk(molecule, 31, seed=seed, every=10) for seed in range(12)]
    run = write_rollout(root / "run", molecule, replicas)
    reference = write_trajectory(root / "md", molecule, rotamer_walk(molecule, 2000, seed=99))
    found = [evaluate(run, reference=given, config=QUICK)[0] for given in (reference, None)]
    return [one.to_dict() for one in found]


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context(STYLE):
        yield


def axes_of(figure):
    return [axes for axes in figure.get_axes() if axes.axison]


@pytest.mark.parametrize("index", [0, 1], ids=["reference", "alone"])
def test_axes_have_names_and_units(contents, index):
    figure = draw_panel(contents[index])
    labels = {axes.get_xlabel() for axes in axes_of(figure)}
    labels |= {axes.get_ylabel() for axes in axes_of(figure)}
    labels |= {part.get_supxlabel() for part in figure.subfigs}
    assert "bond length / nm" in labels
    assert "time / ps" in labels
    assert any(label.startswith("torsion / °") for label in labels)
    is_compared = index == 0
    assert ("TIC 1" in labels) is is_compared
    assert ("free energy / kT" in labels) is is_compared
    assert ("implied time scale / ps" in labels) is is_compared
    assert any(label.startswith("split R-hat") for label in labels) is not is_compared


def test_both_maps_have_one_scale(contents):
    meshes = [mesh for axes in draw_panel(contents[0]).get_axes() for mesh in axes.collections]
    maps = [
        mesh
        for mesh in meshes
        if mesh.get_cmap().name == "viridis" and mesh.get_array() is not None
    ]
    maps = [mesh for mesh in maps if np.ndim(mesh.get_array()) == 2]
    assert len(maps) >= 2
    assert maps[0].get_clim() == maps[1].get_clim()
    first, second = (mesh.axes for mesh in maps[:2])
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()


def test_of_many_torsions_those_that_differ_most_are_drawn(contents):
    torsions = contents[0]["arrays"]["torsions"]
    figure = draw_panel(contents[0])
    titles = {axes.get_title() for axes in axes_of(figure)}
    shown = [torsion for torsion in torsions if torsion["name"] in titles]
    assert len(shown) == min(len(torsions), MAX_TORSIONS)
    hidden = [torsion for torsion in torsions if torsion not in shown]
    for one, other in itertools.product(shown, hidden):
        assert one["jsd"]["value"] >= other["jsd"]["value"]


@pytest.mark.parametrize("index", [0, 1], ids=["reference", "alone"])
def test_nothing_overlaps(contents, index):
    figure = draw_panel(contents[index])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [
        axes.get_tightbbox(renderer)
        for axes in figure.get_axes()
        if axes.get_visible() and axes.axison
    ]
    for one, other in itertools.combinations(boxes, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width < 1 or height < 1, (one, other)
    page = figure.bbox
    for box in boxes:
        assert box.x0 > page.x0 - 1
        assert box.x1 < page.x1 + 1
        assert box.y0 > page.y0 - 1
        assert box.y1 < page.y1 + 1


def test_it_is_wide_enough_for_print(contents):
    image = imread(io.BytesIO(panel_png(contents[0])))
    assert image.shape[1] == 1360  # 3.4 inches at 400 dots an inch
    assert np.ptp(image[..., :3]) == 1.0
