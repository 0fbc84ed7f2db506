"""What is to be diagnosed: everything the checks look at, gathered once."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from authly.monitoring.diagnosis.gunicorn_settings import GunicornSettings
from authly.monitoring.diagnosis.processes import Instance
from authly.monitoring.multiprocess.decoding import DecodedFile


class Contents(NamedTuple):
    """What is in the directory.

    Args:
        names: of everything there.
        decoded: the metric files that could be read.
        corrupt: by name of a metric file, what is wrong with its bytes.
        unreadable: by name of a metric file, why it cannot be read.
    """

    names: tuple[str, ...] = ()
    decoded: tuple[DecodedFile, ...] = ()
    corrupt: Mapping[str, str] = {}
    unreadable: Mapping[str, str] = {}


class Subject(NamedTuple):
    """An instance and its surroundings, at one moment.

    Args:
        directory: where the metric files are, or should be.
        environment: the variables that the instance runs with, or would.
        caller: the variables of whoever asks.
        instance: what runs on the directory.
        contents: what is in the directory.
        now: seconds since the epoch.
        user: the user id that Authly runs as, or is to run as.
        address: ``HOST:PORT`` of the exporter; empty where it is not to be asked.
        path: of the exposition.
        max_bytes: how many bytes of the directory each worker may take; 0 for no limit.
        measuring: whether metrics are switched on.
        known_variables: the variables of the environment that are settings.
        invalid_settings: what is wrong with the settings, a line each.
        gunicorn: how Gunicorn is set up; None where that is not known.
        gunicorn_problem: why it is not known, if it should be.
    """

    directory: Path
    environment: Mapping[str, str]
    caller: Mapping[str, str]
    instance: Instance
    contents: Contents
    now: float
    user: int
    address: str = ""
    path: str = "/metrics"
    max_bytes: int = 0
    measuring: bool = True
    known_variables: frozenset[str] = frozenset()
    invalid_settings: tuple[str, ...] = ()
    gunicorn: GunicornSettings | None = None
    gunicorn_problem: str = ""
