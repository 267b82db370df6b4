import math

import pytest

from rla_exp.report.summary import paired_difference, student_t_quantile, student_t_two_sided, summarize


def test_mean_and_sample_standard_deviation() -> None:
    summary = summarize([1.0, 2.0, 6.0])
    assert summary is not None
    assert (summary.n, summary.mean, summary.min, summary.max) == (3, 3.0, 1.0, 6.0)
    # deviations -2, -1, 3: sum of squares 14, over n - 1 = 2
    assert summary.sd == pytest.approx(math.sqrt(7.0), rel=1e-15)


def test_one_value_has_no_spread_and_none_has_no_summary() -> None:
    summary = summarize([0.25])
    assert summary is not None
    assert (summary.n, summary.mean, summary.sd) == (1, 0.25, None)
    assert summarize([]) is None


def test_equal_values_have_a_spread_of_exactly_zero() -> None:
    summary = summarize([0.1, 0.1, 0.1])
    assert summary is not None
    assert (summary.mean, summary.sd) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # from printed tables of Student's distribution; the first two in closed form
    [
        (1, math.tan(0.95 * math.pi / 2)),
        (2, 0.95 * math.sqrt(2 / (1 - 0.95**2))),
        (3, 3.182446),
        (4, 2.776445),
        (10, 2.228139),
        (30, 2.042272),
        (120, 1.979930),
    ],
)
def test_quantile_of_student_t(degrees: int, quantile: float) -> None:
    assert student_t_quantile(degrees) == pytest.approx(quantile, rel=5e-7)


def test_differences_are_paired_by_seed() -> None:
    # seed 3 has no partner; differences 1, 1, 4: mean 2, sd sqrt(3)
    difference = paired_difference({0: 2.0, 1: 3.0, 2: 7.0, 3: 99.0}, {0: 1.0, 1: 2.0, 2: 3.0, 4: -99.0}, "full")
    assert difference is not None
    assert (difference.reference, difference.n, difference.mean) == ("full", 3, 2.0)
    assert difference.sd == pytest.approx(math.sqrt(3.0), rel=1e-15)
    assert difference.half_width == pytest.approx(4.3026527, rel=1e-7)
    assert not difference.told_apart


def test_an_interval_without_zero_tells_apart() -> None:
    # differences 1, 1, 1.5: mean 7/6, sd sqrt(1/12), half width 4.3027 sqrt(1/12) / sqrt(3) = 0.717
    difference = paired_difference({0: 1.0, 1: 1.0, 2: 1.5}, {0: 0.0, 1: 0.0, 2: 0.0}, "full")
    assert difference is not None
    assert difference.half_width == pytest.approx(0.7171088, rel=1e-6)
    assert difference.told_apart


def test_one_pair_tells_nothing_apart_and_no_pair_is_no_difference() -> None:
    difference = paired_difference({0: 1.0}, {0: 0.0}, "full")
    assert difference is not None
    assert (difference.n, difference.mean, difference.half_width, difference.told_apart) == (1, 1.0, None, False)
    assert paired_difference({0: 1.0}, {1: 0.0}, "full") is None


@pytest.mark.parametrize(
    ("t", "degrees", "p"),
    # one and two degrees in closed form, the others from printed tables
    [
        (1.0, 1, 0.5),
        (-2.0, 2, 1 - 2 / math.sqrt(6)),
        (4.540703, 3, 0.02),
        (2.228139, 10, 0.05),
        (0.0, 5, 1.0),
        (1e6, 4, 0.0),
    ],
)
def test_two_sided_probability_of_student_t(t: float, degrees: int, p: float) -> None:
    assert student_t_two_sided(t, degrees) == pytest.approx(p, abs=2e-6)


def test_p_is_at_most_five_percent_where_the_interval_leaves_out_zero() -> None:
    for values in ([1.0, 1.0, 1.5], [1.0, 1.0, 4.0], [0.3, 0.1, 0.2, 0.25]):
        difference = paired_difference(dict(enumerate(values)), dict.fromkeys(range(4), 0.0), "full")
        assert difference is not None
        assert difference.p is not None
        assert (difference.p < 0.05) == difference.told_apart


@pytest.mark.parametrize(("values", "p"), [([0.5, 0.5], 0.0), ([0.0, 0.0], 1.0), ([0.5], None)])
def test_p_without_a_spread(values: list[float], p: float | None) -> None:
    difference = paired_difference(dict(enumerate(values)), {0: 0.0, 1: 0.0}, "full")
    assert difference is not None
    assert difference.p == p


def test_the_interval_of_a_mean() -> None:
    summary = summarize([1.0, 2.0, 6.0])
    assert summary is not None
    assert summary.half_width == pytest.approx(4.3026527 * math.sqrt(7 / 3), rel=1e-7)
