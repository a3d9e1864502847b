"""Numbers as they are printed in reports."""

import pytest

from tito_fast.analysis.report import _counted, _number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),  # noqa: RUF001  typography
        (0.0, "0.000"),
        (0.0341, "0.034"),
        (-0.5, "−0.500"),  # noqa: RUF001  typography
        (1234.4, "1,234"),
        (5.74e-4, "5.7 × 10⁻⁴"),  # noqa: RUF001  typography
        (-2e-12, "−2.0 × 10⁻¹²"),  # noqa: RUF001  typography
    ],
)
def test_numbers_are_printed_as_in_a_paper(value, text):
    assert _number(value).replace("\u00a0", " ") == text


def test_one_is_no_plural():
    assert _counted(1, "trajectory", "trajectories") == "1 trajectory"
    assert _counted(2000, "trajectory", "trajectories") == "2,000 trajectories"
