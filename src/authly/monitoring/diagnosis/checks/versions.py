"""Versions of what is installed."""

import importlib.metadata
from collections.abc import Iterator

from authly.monitoring.diagnosis.findings import Finding, error
from authly.monitoring.diagnosis.subject import Subject

_WATCHED = {"prometheus-client", "gunicorn"}


def dependencies(_: Subject) -> Iterator[Finding]:
    """Check that what Authly builds upon is of a version it was built for."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("authly") or []
    except importlib.metadata.PackageNotFoundError:
        return  # run from its sources, without having been installed
    for line in lines:
        requirement = Requirement(line)
        if requirement.name not in _WATCHED:
            continue
        installed = importlib.metadata.version(requirement.name)
        if not requirement.specifier.contains(installed, prereleases=True):
            yield error(
                "dependency_version",
                f"{requirement.name} {installed} is installed; Authly needs {requirement.specifier}.",
                "Authly relies on its file format, or on its hooks, which may have changed: metrics may be lost or "
                "wrong.",
                f"Run `pip install '{requirement.name}{requirement.specifier}'`.",
            )
