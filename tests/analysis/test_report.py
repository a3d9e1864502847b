"""Reports stand alone: no other file, no network, every metric with a sentence."""

import base64
import re

import pytest

from tito_fast import EvaluationConfig, evaluate
from tito_fast.analysis.descriptions import DESCRIPTIONS

QUICK = EvaluationConfig(n_resamples=20)


@pytest.fixture(scope="module")
def folders(propanol, rotamer_walk, write_rollout, write_trajectory, tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    for name in ("a", "b"):
        replicas = [rotamer_walk(propanol, 21, seed=seed, every=10) for seed in range(10)]
        write_rollout(root / "runs" / name, propanol, replicas)
    write_trajectory(root / "md", propanol, rotamer_walk(propanol, 1000, seed=9))
    return root


def test_a_report_stands_alone(folders, tmp_path):
    (evaluation,) = evaluate(
        folders / "runs" / "a",
        reference=folders / "md",
        out=tmp_path / "out",
        config=QUICK,
        command="tito-fast evaluate <run>",
    )
    text = (tmp_path / "out" / "report.html").read_text()
    assert "://" not in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"]
    picture = (tmp_path / "out" / "panel.png").read_bytes()
    assert base64.b64decode(sources[0].partition(",")[2]) == picture
    for name in evaluation.metrics:
        assert f"<code>{name}</code>" in text
        assert DESCRIPTIONS[name].title in text
    assert "md_floor is the same metric of" in text
    assert "tito-fast evaluate &lt;run&gt;" in text
    for digest in evaluation.provenance["run"]["sha256"].values():
        assert digest in text
    for torsion in evaluation.arrays["torsions"]:
        assert torsion["name"] in text


def test_a_report_without_a_reference_says_so(folders, tmp_path):
    evaluate(folders / "runs" / "a", out=tmp_path / "out", config=QUICK)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "No reference was given" in text
    assert "md_floor is the same metric" not in text


def test_the_report_of_several_runs_links_to_each(folders, tmp_path):
    evaluate(folders / "runs", reference=folders / "md", out=tmp_path / "out", config=QUICK)
    text = (tmp_path / "out" / "report.html").read_text()
    links = re.findall(r'href="([^"]*)"', text)
    assert links == ["a/report.html", "b/report.html"]
    assert all((tmp_path / "out" / link).is_file() for link in links)
    assert "2 runs of 1 molecules" in text


def test_names_are_escaped(propanol, rotamer_walk, write_rollout, tmp_path):
    name = "<b>&'$x$"
    run = write_rollout(tmp_path / name, propanol, [rotamer_walk(propanol, 12)])
    evaluate(run, out=tmp_path / "out", config=QUICK)
    assert "<b>&'" not in (tmp_path / "out" / "report.html").read_text()
