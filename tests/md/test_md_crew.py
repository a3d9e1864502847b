"""Jobs are worked off in processes; what goes wrong there is raised here."""

import pytest

from tito_fast.errors import ProcessLostError
from tito_fast.md.crew import Job, work_off


def double(payload, tell):
    tell(payload)
    return 2 * payload


def fails(payload, tell):
    raise ValueError(f"payload: expected another, got {payload}")


def dies(payload, tell):
    import os  # noqa: PLC0415  in the other process

    os._exit(payload)


def asks_threads(payload, tell):
    import os  # noqa: PLC0415  in the other process

    return os.getpid(), os.environ["OPENMM_CPU_THREADS"], os.environ["OMP_NUM_THREADS"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Make the functions of this file a module that other processes find, too."""
    from pathlib import Path  # noqa: PLC0415  only here

    (tmp_path / "crew_jobs.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(function, *payloads):
        return [Job("crew_jobs", function, payload) for payload in payloads]

    return make


@pytest.mark.parametrize("n_processes", [1, 2, 5])
def test_every_job_has_its_result_and_is_heard(here, n_processes):
    heard = []
    results = dict(
        work_off(here("double", 3, 4, 5), n_processes=n_processes, on_message=heard.append)
    )
    assert results == {0: 6, 1: 8, 2: 10}
    assert sorted(heard) == [3, 4, 5]


def test_no_jobs_are_worked_off_at_once(here):
    assert list(work_off([], n_processes=4, on_message=print)) == []


def test_a_process_works_off_several_jobs_with_one_thread(here):
    results = dict(work_off(here("asks_threads", *range(5)), n_processes=2, on_message=print))
    assert len({pid for pid, _, _ in results.values()}) <= 2
    assert {
        threads for _, *threads in map(list, results.values()) for threads in [tuple(threads)]
    } == {("1", "1")}


@pytest.mark.parametrize("n_processes", [1, 2])
def test_an_error_of_a_job_is_raised(here, n_processes):
    with pytest.raises(ValueError, match="payload: expected another, got 7"):
        list(work_off(here("fails", 7, 7), n_processes=n_processes, on_message=print))


def test_a_process_that_ends_is_said(here):
    with pytest.raises(ProcessLostError, match="jobs: a process ended with status 3; run the same"):
        list(work_off(here("dies", 3, 3), n_processes=2, on_message=print))
