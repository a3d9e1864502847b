"""The five numbers of a metric."""

import numpy as np

from tito_fast.analysis.metric import Metric, measure


def test_a_metric_has_its_five_numbers(mean_difference, units_of_values):
    reference = units_of_values(np.array([0.0, 2, 1]))
    metric = measure(mean_difference, reference, units_of_values(np.arange(9.0)), ideal=0.5)
    assert metric.value == 3
    assert metric.low < 3 < metric.high
    assert metric.to_dict() == {
        "value": 3.0,
        "low": metric.low,
        "high": metric.high,
        "md_floor": metric.md_floor,
        "ideal": 0.5,
    }
    one = units_of_values(np.ones(1))
    assert measure(lambda *_: np.nan, one, one) == Metric(value=None)
