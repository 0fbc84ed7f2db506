"""``authly metrics doctor``."""

import os
import pwd
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

import authly
from authly.cli.metrics.common import ERRORS, WARNINGS, directory_option, json_option, print_json
from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.diagnose import CHECKS, diagnose, look_into
from authly.monitoring.diagnosis.findings import Finding
from authly.monitoring.diagnosis.gunicorn_settings import (
    GunicornSettings,
    GunicornSettingsError,
    arguments_of,
    evaluate,
)
from authly.monitoring.diagnosis.processes import Instance, find_instance
from authly.monitoring.diagnosis.subject import Subject
from authly.settings import Settings, SettingsError, load_settings, variable_name

_WIDTH = 100


def _host_and_port(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):[0-9]{1,5}", value):
        raise click.BadParameter(f"{value!r} is not HOST:PORT or [IPv6]:PORT")
    return value


def _user_id(_: click.Context, __: click.Parameter, value: str | None) -> int:
    if value is None:
        return os.geteuid()
    try:
        return int(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid
    except KeyError:
        raise click.BadParameter(f"there is no user {value!r}") from None


@click.command()
@directory_option
@click.option(
    "--address",
    metavar="HOST:PORT",
    callback=_host_and_port,
    help="Where the exporter answers. Default: $AUTHLY_METRICS_BIND.",
)
@click.option("--user", metavar="NAME", callback=_user_id, help="Who Authly runs as. Default: who calls this.")
@click.option(
    "--gunicorn-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Gunicorn's configuration file. Default: what the running master was started with, else Authly's own.",
)
@json_option(
    "One JSON object: directory, running, owner, masters, slots with their holders, findings (code, severity, what, "
    "why, remedy)."
)
def doctor(directory: Path | None, address: str | None, user: int, gunicorn_config: Path | None, as_json: bool) -> None:
    """Look for what is wrong with the metrics of an instance, running or not, and say what to do about it.

    Changes nothing. Looks at the directory, its file system, locks, files and what they hold, at the exporter, at
    Gunicorn's settings, limits and versions, and at the environment: of a running instance at the one that it was
    started with, otherwise at that of this command. Run it as the user of Authly, or as root; what other users'
    processes do cannot be seen.

    \b
    Examples:
      authly metrics doctor
      authly metrics doctor --directory /run/authly/metrics --address 127.0.0.1:9464
      authly metrics doctor --json | jq -r '.findings[].remedy'

    \b
    Exit codes:
      0  nothing is wrong
      2  the command line is wrong
      3  there are warnings, and no errors
      4  there are errors
    """
    subject = _subject(directory, address, user, gunicorn_config)
    findings = diagnose(subject)
    if as_json:
        record = {
            "directory": str(subject.directory),
            "running": subject.instance.runs,
            "owner": subject.instance.owner,
            "masters": subject.instance.masters,
            "slots": subject.instance.slots,
            "findings": [finding._asdict() for finding in findings],
        }
        print_json(record)
    else:
        _show(subject, findings)
    if findings:
        sys.exit(ERRORS if any(finding.severity == "error" for finding in findings) else WARNINGS)


def _subject(directory: Path | None, address: str | None, user: int, gunicorn_config: Path | None) -> Subject:
    """Gather what is to be looked at; settings that are wrong are something to report, not an obstacle."""
    caller = dict(os.environ)
    settings, invalid = _settings()
    directory = directory or settings.metrics_directory
    instance = find_instance(directory)
    master = instance.masters[0] if instance.masters else None
    environment = (processes.environment(master) if master else None) or caller
    with _variables_of(environment):
        # A running instance is held to its own settings, whatever those of the caller are.
        settings, invalid = _settings()
    gunicorn, problem = _gunicorn(master, environment, gunicorn_config)
    return Subject(
        directory=directory,
        environment=environment,
        caller=caller,
        instance=instance,
        contents=look_into(directory),
        now=time.time(),
        user=user,
        address=address or settings.metrics_bind,
        path=settings.metrics_path,
        max_bytes=settings.metrics_max_bytes,
        measuring=settings.metrics_enabled,
        known_variables=frozenset(variable_name(field) for field in Settings.model_fields),
        invalid_settings=invalid,
        gunicorn=gunicorn,
        gunicorn_problem=problem,
    )


def _settings() -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of the environment, and what is wrong with them: then the settings are the defaults."""
    try:
        return load_settings(), ()
    except SettingsError as error:
        return Settings.model_construct(), tuple(str(error).splitlines())


@contextmanager
def _variables_of(environment: Mapping[str, str]) -> Iterator[None]:
    """Let this process have another environment for a while."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _gunicorn(
    master: int | None, environment: dict[str, str], file: Path | None
) -> tuple[GunicornSettings | None, str]:
    """Return how Gunicorn is set up, or why that is not known."""
    folder = None
    arguments = None
    if master is not None and file is None:
        arguments, folder = arguments_of(processes.command(master)), processes.folder(master)
    if arguments is None:
        configuration = file or Path(authly.__file__).with_name("gunicorn_conf.py")
        # Gunicorn wants an application to be named; it is not loaded.
        arguments = ["--config", str(configuration.absolute()), "authly.main:app"]
    try:
        return evaluate(arguments, environment, folder), ""
    except GunicornSettingsError as error:
        return None, str(error)


def _show(subject: Subject, findings: list[Finding]) -> None:
    click.echo(f"{subject.directory}: {_state(subject.instance)}")
    for slot, pids in subject.instance.slots.items():
        click.echo(f"  slot {slot}: process {', '.join(map(str, pids)) or 'unknown'}")
    for finding in findings:
        click.echo()
        click.secho(
            f"{finding.severity}: {finding.code}", bold=True, fg="red" if finding.severity == "error" else "yellow"
        )
        for words in (finding.what, finding.why, f"-> {finding.remedy}"):
            hanging = "     " if words.startswith("->") else "  "
            click.echo(
                textwrap.fill(
                    words,
                    _WIDTH,
                    initial_indent="  ",
                    subsequent_indent=hanging,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    click.echo()
    errors = sum(finding.severity == "error" for finding in findings)
    if findings:
        click.echo(f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}")
    else:
        click.echo(f"nothing is wrong ({len(CHECKS)} checks)")


def _state(instance: Instance) -> str:
    if instance.runs:
        return f"in use by {instance.owner}"
    return "no instance runs here"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
