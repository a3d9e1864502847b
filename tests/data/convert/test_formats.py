import pytest

from tito_fast.data.convert.formats import detect_format


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/a/topology.pdb", "train/a/trajectory.xtc"], "mdtraj"),
        (["mdqm9-nc.hdf5", "mdqm9-nc.sdf", "splits/train_indices.npy"], "mdqm9"),
        (["AAAA-traj-arrays.npz", "AAAA-traj-state0.pdb"], "timewarp"),
        (["test/AAAA-traj-arrays.npz"], "timewarp"),
    ],
)
def test_a_layout_is_told_by_its_names(tmp_path, files, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert detect_format(tmp_path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.h5", "timewarp-h5"), ("a.hdf5", "timewarp-h5"), ("a.pdb", "mdtraj")],
)
def test_a_file_is_told_by_its_suffix(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert detect_format(tmp_path / name) == expected


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"source: expected <split>/<name>/topology.pdb, .* none"):
        detect_format(tmp_path)
    with pytest.raises(ValueError, match=r"source: expected a file or directory, got"):
        detect_format(tmp_path / "none")
