import pytest

from rla_exp.report.number import check_format, format_number, format_spread


@pytest.mark.parametrize(
    ("value", "specification", "text"),
    [
        (0.91249, ".3f", "0.912"),
        (12345.0, ",.0f", "12,345"),
        (0.0, "si", "0"),
        (512.0, "si", "512"),
        (999.6, "si", "1.00k"),
        (1000.0, "si", "1k"),
        (20996.3, "si", "21.0k"),
        (123456.0, "si", "123k"),
        (999_600.0, "si", "1.00M"),
        (1_545_000_000.0, "si", "1.54B"),
        (-20996.3, "si", "-21.0k"),
        (512.0, "bytes", "512 B"),
        (1536.0, "bytes", "1.50 KiB"),
        (8192.0, "bytes", "8 KiB"),
        (3.5 * 2**20, "bytes", "3.50 MiB"),
    ],
)
def test_numbers(value: float, specification: str, text: str) -> None:
    assert format_number(value, specification) == text


@pytest.mark.parametrize(
    ("mean", "sd", "specification", "text"),
    [
        (0.92, 0.02, ".3f", "0.920 ± 0.020"),
        # the spread takes the unit of the mean
        (21000.0, 271.0, "si", "21.0k ± 0.3k"),
        (512.0, 3.0, "si", "512 ± 3"),
        (20500.0, 1160.0, "si", "20.5k ± 1.2k"),
    ],
)
def test_spreads(mean: float, sd: float, specification: str, text: str) -> None:
    assert format_spread(mean, sd, specification) == text


@pytest.mark.parametrize("specification", ["kilo", ".3d", "%s", "d"])
def test_a_format_that_cannot_format_is_refused(specification: str) -> None:
    with pytest.raises(ValueError, match="a format is 'si'"):
        check_format(specification)


def test_a_format_that_can_is_passed_on() -> None:
    assert [check_format(specification) for specification in ("si", "bytes", ".3f")] == ["si", "bytes", ".3f"]
