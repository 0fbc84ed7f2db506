"""What can be chosen of the load: ``LOAD_*`` variables of the environment, checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Flows, and how often one of them begins for each that begins of the others. Resource servers ask most.
MIX = {
    "browser_login": 2.0,
    "refresh": 6.0,
    "userinfo": 6.0,
    "client_credentials": 10.0,
    "introspection": 40.0,
    "discovery": 6.0,
    "jwks": 6.0,
    "admin_reads": 2.0,
}
SHAPES = ("", "step", "spike", "soak")


class OptionsError(ValueError):
    """A variable holds something it does not accept."""


@dataclass(frozen=True)
class Options:
    """The load.

    Args:
        seeds: the file that ``python -m loadtests seed`` wrote.
        records: the file to write each request's record to; None writes none.
        mix: flows and their weights.
        think: seconds between two flows of a user, at least and at most; closed loop only.
        arrivals: flows that begin in a second whether or not others have ended (an open loop); 0 for a closed loop.
        shape: how the number of users, or the rate of arrivals, changes with time; empty for a steady one.
        peak: users, or arrivals in a second, at the height of a shape.
        seconds: that a shape takes, and for which arrivals come.
        random_seed: what all choices follow from.
        metrics_url: what a Prometheus scrapes; empty for none.
        scrape_interval: seconds.
    """

    seeds: Path
    records: Path | None
    mix: Mapping[str, float]
    think: tuple[float, float]
    arrivals: float
    shape: str
    peak: float
    seconds: float
    random_seed: int
    metrics_url: str
    scrape_interval: float


def read(environment: Mapping[str, str] = os.environ) -> Options:
    """Return what the environment says.

    Raises:
        OptionsError: a variable holds something it does not accept.
    """

    def text(name: str, default: str) -> str:
        return environment.get(name, "") or default

    def number(name: str, default: str) -> float:
        try:
            value = float(text(name, default))
        except ValueError as error:
            raise OptionsError(f"{name} is not a number: {text(name, default)}") from error
        if not 0 <= value < 1e6:
            raise OptionsError(f"{name} is not a number from 0 to a million: {text(name, default)}")
        return value

    shape = text("LOAD_SHAPE", "")
    if shape not in SHAPES:
        raise OptionsError(f"LOAD_SHAPE is not step, spike or soak: {shape}")
    records = text("LOAD_RECORDS", "")
    return Options(
        seeds=Path(text("LOAD_SEEDS", "loadtests/results/seeds.json")),
        records=Path(records) if records else None,
        mix=_mix(text("LOAD_MIX", "")),
        think=_range(text("LOAD_THINK", "0.5-2")),
        arrivals=number("LOAD_ARRIVALS", "0"),
        shape=shape,
        peak=number("LOAD_PEAK", "50"),
        seconds=number("LOAD_SECONDS", "60"),
        random_seed=int(number("LOAD_RANDOM_SEED", "1")),
        metrics_url=text("LOAD_METRICS_URL", ""),
        scrape_interval=number("LOAD_SCRAPE_INTERVAL", "1"),
    )


def _mix(words: str) -> Mapping[str, float]:
    """Parse ``introspection=40,jwks=6``; flows that are not named do not occur."""
    if not words:
        return MIX
    mix = {}
    for word in words.split(","):
        name, _, weight = word.strip().partition("=")
        if name not in MIX:
            raise OptionsError(f"LOAD_MIX names {name}, which is none of {', '.join(MIX)}")
        try:
            mix[name] = float(weight)
        except ValueError as error:
            raise OptionsError(f"LOAD_MIX says {word}, where FLOW=NUMBER is wanted") from error
        if not 0 <= mix[name] < 1e6:
            raise OptionsError(f"LOAD_MIX says {word}, where a weight from 0 to a million is wanted")
    if not any(mix.values()):
        raise OptionsError("LOAD_MIX leaves nothing to do")
    return mix


def _range(words: str) -> tuple[float, float]:
    low, _, high = words.partition("-")
    try:
        bounds = float(low), float(high or low)
    except ValueError as error:
        raise OptionsError(f"LOAD_THINK is not SECONDS or SECONDS-SECONDS: {words}") from error
    if not 0 <= bounds[0] <= bounds[1]:
        raise OptionsError(f"LOAD_THINK does not begin with the lower bound: {words}")
    return bounds
