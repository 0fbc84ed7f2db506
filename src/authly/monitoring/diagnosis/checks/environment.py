"""The environment: variables that contradict one another, or that nobody reads."""

import difflib
import os
from collections.abc import Iterator

from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "AUTHLY_METRICS_"


def invalid(subject: Subject) -> Iterator[Finding]:
    """Check that each setting holds what it accepts."""
    for line in subject.invalid_settings:
        yield error(
            "setting_invalid",
            line,
            "Authly does not start with it.",
            "Set it to what it accepts, or unset it; docs/configuration.md lists the settings.",
        )


def lower_case(subject: Subject) -> Iterator[Finding]:
    """Check that only the upper-case variable names the directory."""
    held = subject.environment.get(_VARIABLE.lower())
    if held is not None:
        yield warning(
            "lower_case_variable",
            f"{_VARIABLE.lower()}={held} is set, in lower case.",
            f"Authly reads {_VARIABLE} alone, while prometheus-client still takes the old name where it is imported "
            "first: processes may end up with different directories.",
            f"Unset it, and set {_VARIABLE} in its place.",
        )


def relative(subject: Subject) -> Iterator[Finding]:
    """Check that the directory does not depend on where a process was started."""
    held = subject.environment.get(_VARIABLE, "")
    if held and not held.startswith(("/", "~")):
        yield warning(
            "relative_directory",
            f"{_VARIABLE}={held} is a relative path.",
            "It means another directory for each working directory: for Gunicorn, a sidecar, this command.",
            f"Set it to an absolute path, such as {subject.directory}.",
        )


def measured_by_others(subject: Subject) -> Iterator[Finding]:
    """Check that where metrics are switched off, nothing else writes them."""
    held = subject.environment.get(_VARIABLE)
    if not subject.measuring and held:
        yield warning(
            "switched_off_with_directory",
            f"AUTHLY_METRICS_ENABLED is false, but {_VARIABLE}={held} is set.",
            "prometheus-client, where a library of the application uses it, then writes files named after process ids "
            "there, which nobody reads and nobody clears.",
            f"Unset {_VARIABLE}, or set AUTHLY_METRICS_ENABLED=true.",
        )


def unknown(subject: Subject) -> Iterator[Finding]:
    """Check that each variable that looks like a setting is one."""
    if not subject.known_variables:
        return
    for name in sorted(subject.environment):
        if name.startswith(_PREFIX) and name not in subject.known_variables:
            near = difflib.get_close_matches(name, subject.known_variables, 1)
            yield warning(
                "unknown_setting",
                f"{name} is set, but is no setting.",
                "Nobody reads it; what it was meant to change has its default.",
                f"Did you mean {near[0]}?" if near else "Unset it; docs/configuration.md lists the settings.",
            )


def differing(subject: Subject) -> Iterator[Finding]:
    """Check that who asks has no other settings than the running instance."""
    for name in sorted(subject.known_variables):
        held = subject.caller.get(name)
        if name.startswith(_PREFIX) and held and held != subject.environment.get(name):
            yield warning(
                "environment_differs",
                f"{name} is {held!r} here, and {subject.environment.get(name, 'not set')!r} where the instance was "
                "started.",
                "The instance goes by what it was started with; a sidecar or a command started here goes by this.",
                "Restart the instance with the new value, or take it back here.",
            )


def given_by_gunicorn(subject: Subject) -> Iterator[Finding]:
    """Check that Gunicorn does not name another directory."""
    if subject.gunicorn is None:
        return
    for pair in subject.gunicorn.raw_env:
        name, _, value = pair.partition("=")
        if name == _VARIABLE and os.path.realpath(value) != os.path.realpath(subject.directory):
            yield error(
                "gunicorn_names_another_directory",
                f"Gunicorn's setting raw_env sets {pair}, but the directory is {subject.directory}.",
                "Authly's hooks read the variable before Gunicorn sets it, programs that the workers start read it "
                "after: they end up with different directories.",
                f"Remove it from raw_env, and set {_VARIABLE} in the environment that Gunicorn is started with.",
            )
