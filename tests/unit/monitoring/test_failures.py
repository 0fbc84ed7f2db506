"""Metrics that fail: nothing that is recorded ever raises, and each failure is said once."""

import inspect
import logging
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import prometheus_client.values
import pytest
from prometheus_client import CollectorRegistry

from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import Group
from authly.monitoring.metrics import LAYERS


class BrokenError(RuntimeError):
    """What a metric raises in these tests."""


def broken(*_: Any, **__: Any) -> None:
    """Raise."""
    raise BrokenError


def an_argument(annotation: Any) -> Any:
    """Return something of a type."""
    if get_origin(annotation) is Mapping:
        return {"pool_size": 1}
    if get_args(annotation):
        return get_args(annotation)[0]
    if issubclass(annotation, Enum):
        return next(iter(annotation))
    return {str: "x", int: 1, float: 0.1, bool: True}[annotation]


def calls_of(group: Group, instruments: Instruments) -> dict[str, Callable[[], None]]:
    """Return the recording calls of a layer, with arguments; the one that records nothing says what they take."""
    layer = LAYERS[group].real(instruments)
    calls: dict[str, Callable[[], None]] = {}
    for name, call in inspect.getmembers(LAYERS[group].null, inspect.isfunction):
        if name[0] != "_":
            hints = get_type_hints(call)
            positional: list[Any] = []
            keywords: dict[str, Any] = {}
            for parameter in list(inspect.signature(call).parameters.values())[1:]:
                argument = an_argument(hints[parameter.name])
                if parameter.kind is parameter.KEYWORD_ONLY:
                    keywords[parameter.name] = argument
                else:
                    positional.append(argument)
            calls[name] = partial(getattr(layer, name), *positional, **keywords)
    return calls


@pytest.mark.parametrize("group", Group)
@pytest.mark.parametrize("place", ["values", "children"])
def test_a_call_that_fails_raises_nothing_and_is_said_once(
    group: Group, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether a value cannot be written or a series cannot be made: business goes on, with a line for each call."""
    instruments = Instruments("authly", CollectorRegistry())
    calls = calls_of(group, instruments)
    if place == "values":
        for method in ("inc", "set"):
            monkeypatch.setattr(prometheus_client.values.MutexValue, method, broken)
    else:
        monkeypatch.setattr(prometheus_client.metrics.MetricWrapperBase, "labels", broken)
    assert calls
    with caplog.at_level(logging.ERROR):
        for name, call in calls.items():
            caplog.clear()
            instruments._failures.clear()
            for _ in range(3):
                call()
            lines = [record.message for record in caplog.records]
            assert len(lines) == len(set(lines)), name
            # The failure alone: no look-up before it, which would show labels that a client may have chosen.
            causes = [record.exc_info[1] for record in caplog.records if record.exc_info]
            assert all(cause is not None and cause.__context__ is None for cause in causes), name
            assert lines or place == "children", name
