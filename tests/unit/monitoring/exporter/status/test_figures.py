"""Numbers for people."""

import math

import pytest

from authly.monitoring.exporter.status import figures


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figures.count(12345.0), "12,345"),
        (figures.count(None), "not known"),
        (figures.rate(0.0), "0"),
        (figures.rate(0.034), "0.03"),
        (figures.rate(3.21), "3.2"),
        (figures.rate(1234.5), "1,234"),
        (figures.size(999.0), "999 B"),
        (figures.size(999_999.0), "1.0 MB"),
        (figures.size(63_900_000.0), "63.9 MB"),
        (figures.size(5e15), "5000 TB"),
        (figures.share(0.0), "0 %"),
        (figures.share(0.0004), "< 0.1 %"),
        (figures.share(0.034), "3.4 %"),
        (figures.share(1.5), "150 %"),
        (figures.latency(0.0004), "0.4 ms"),
        (figures.latency(0.25), "250 ms"),
        (figures.latency(0.99999), "1.0 s"),
        (figures.duration(59.9), "59 s"),
        (figures.duration(60), "1 min"),
        (figures.duration(3725), "1 h 2 min"),
        (figures.duration(200_000), "2 d 7 h"),
        (figures.moment(0), "1970-01-01 00:00:00 UTC"),
        (figures.machine_moment(0), "1970-01-01T00:00:00Z"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    """Each with its unit, and no more digits than one reads at a glance."""
    assert written == expected


@pytest.mark.parametrize(
    "write", [figures.count, figures.rate, figures.size, figures.share, figures.latency, figures.duration]
)
def test_what_is_not_known_is_said_so(write: object) -> None:
    """NaN and None are no numbers."""
    assert callable(write)
    assert write(None) == write(math.nan) == figures.UNKNOWN
