"""Layers of metrics, and what puts them together."""

import dataclasses
import inspect
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from authly.api.admin_middleware import RESOURCES
from authly.api.rate_limiter import Policy
from authly.core.rate_limits import MemoryStore, PostgresStore, RedisStore
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import ADMIN_RESOURCES, OTHER, RATE_LIMIT_BACKENDS, RATE_LIMIT_POLICIES, Group
from authly.monitoring.metrics import LAYERS, Metrics, compose


def calls(layer: Any) -> dict[str, inspect.Signature]:
    """Return the recording calls of a layer, with what they take."""
    return {name: inspect.signature(call) for name, call in inspect.getmembers(layer, callable) if name[0] != "_"}


def test_every_layer_has_a_group() -> None:
    """Each group switches one layer."""
    assert set(LAYERS) == set(Group)
    assert [layer.field for layer in LAYERS.values()] == [field.name for field in dataclasses.fields(Metrics)]


@pytest.mark.parametrize("group", Group)
def test_what_can_be_recorded_can_be_left_out(group: Group) -> None:
    """A layer that records nothing has the calls of the one that does."""
    registry = CollectorRegistry()
    layer = LAYERS[group]
    real, null = layer.real(Instruments("authly", registry)), layer.null()
    assert set(calls(null)) == set(calls(real))
    for name, signature in calls(null).items():
        parameters = signature.parameters.values()
        positional = [None for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
        keywords = {parameter.name: None for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        getattr(null, name)(*positional, **keywords)
        inspect.signature(getattr(real, name)).bind(*positional, **keywords)


@pytest.mark.parametrize("group", Group)
def test_a_group_that_is_off_has_no_metrics(group: Group) -> None:
    """Its families are not there, and those of the others are."""

    def families(*groups: Group) -> set[str]:
        registry = CollectorRegistry()
        compose(groups, Instruments("authly", registry))
        return {family.name for family in registry.collect()}

    everything = families(*Group)
    own = families(group) - families()
    assert own
    composed = compose([other for other in Group if other is not group], Instruments("authly", CollectorRegistry()))
    for other, layer in LAYERS.items():
        assert type(getattr(composed, layer.field)) is (layer.null if other is group else layer.real)
    assert families(*(other for other in Group if other is not group)) == everything - own


def test_names_of_business_code_are_those_of_the_vocabularies() -> None:
    """What cannot be imported from below is the same all the same."""
    assert set(RATE_LIMIT_POLICIES) == set(Policy)
    assert set(RATE_LIMIT_BACKENDS) == {store.name for store in (MemoryStore, PostgresStore, RedisStore)}
    assert set(ADMIN_RESOURCES) == RESOURCES | {OTHER}
