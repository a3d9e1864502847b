"""The five numbers of a metric."""

import numpy as np

from tito_fast.analysis.metric import Metric, measure, measure_all


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


def test_metrics_of_the_same_totals_are_those_measured_alone(mean_difference, units_of_values):
    reference = units_of_values(np.array([0.0, 2, 1, 5]), np.array([0, 0, 1, 1]))
    model = units_of_values(np.arange(9.0))

    def both(of_reference, of_model):
        difference = mean_difference(of_reference, of_model)
        return np.array([difference, -difference, np.nan])

    found = measure_all(
        both,
        reference,
        model,
        names=("one", "other", "none"),
        ideal=np.array([0.5, -0.5, np.nan]),
        bounds={"one": (2.5, 3.0)},
    )
    alone = measure(mean_difference, reference, model, ideal=0.5, bounds=(2.5, 3.0))
    assert found["one"] == alone
    assert alone.high == 3.0
    assert found["other"].value == -alone.value
    assert found["other"].md_floor == alone.md_floor
    assert found["none"] == Metric(value=None)


def test_parts_too_short_for_all_metrics_have_no_floor(units_of_values):
    reference = units_of_values(np.arange(4.0), np.zeros(4, np.int64))

    def whole_only(of_reference, of_model):
        if of_reference[0] < 4:
            raise ValueError("too short")
        return np.array([1.0, 2.0])

    found = measure_all(whole_only, reference, reference, names=("one", "other"))
    assert (found["one"].value, found["other"].value) == (1.0, 2.0)
    assert found["one"].md_floor is None
    assert found["other"].md_floor is None
