"""The exporter: whether it answers where it should, and whether it is this instance's."""

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator

from authly import __version__
from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject
from authly.monitoring.exporter.sockets import SOCKET_NAME
from authly.monitoring.inspection.source import Answer, ask, ask_socket

_MARK = b"authly_exporter_build_info"
_MODULE = "authly.monitoring.exporter"
_SECONDS = 5.0
# A master that finds its exporter gone starts it again within so many seconds.
_PATIENCE = 3.0
_ANY = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where to ask, not where to listen


def address(subject: Subject) -> Iterator[Finding]:
    """Check that at the exporter's address this instance's exporter answers, and nobody else."""
    if not (subject.address and subject.measuring):
        return
    host, _, port = subject.address.rpartition(":")
    try:
        answer = _patiently(subject, lambda: _ask(f"{_ANY.get(host, host)}:{port}", subject.path))
    except ssl.SSLError:
        return  # it wants a certificate of its clients, and there is none here
    except http.client.HTTPException as problem:
        yield _taken(subject, int(port), f"does not speak HTTP ({str(problem) or type(problem).__name__})")
        return
    except OSError as problem:
        if subject.instance.runs:
            yield error(
                "exporter_silent",
                f"The instance runs, but nothing answers at {subject.address} ({problem}).",
                "Prometheus gets no metrics from there.",
                "Look for `exporter` in Authly's log. Where it could not listen, another process did: stop that, or "
                "set AUTHLY_METRICS_BIND to a free address.",
            )
        return
    if answer.status in {401, 403, 429}:
        return  # it asks who we are, and that is all that can be seen from here
    if _MARK not in answer.body:
        yield _taken(subject, int(port), f"answers {answer.status} without the metrics of an exporter")
        return
    if not re.match(r"(text/plain; version=|application/openmetrics-text; version=)", answer.content_type):
        yield error(
            "content_type",
            f"The answer at {subject.address}{subject.path} has the content type {answer.content_type or 'none'!r}.",
            "Prometheus 3 refuses an exposition whose content type it does not know.",
            "Something between Prometheus and the exporter changes it, a proxy for example: let it pass headers on.",
        )
    yield from _whose(subject, int(port))


def exporter_socket(subject: Subject) -> Iterator[Finding]:
    """Check that the exporter of a running instance answers its workers, and is of this version."""
    if not (subject.instance.runs and subject.measuring and subject.directory.is_dir()):
        return
    try:
        answer = _patiently(subject, lambda: ask_socket(subject.directory, subject.path, _SECONDS))
    except (OSError, http.client.HTTPException) as problem:
        yield error(
            "exporter_socket",
            f"The instance runs, but no exporter answers at {subject.directory / SOCKET_NAME} ({problem}).",
            f"Workers that are asked for {subject.path} have to read all files themselves, at the expense of requests.",
            "Look for `exporter` in Authly's log; restart Authly if the socket was deleted.",
        )
        return
    found = re.search(rb'authly_exporter_build_info\{[^}]*\bversion="([^"]*)"', answer.body)
    if found and found[1].decode() != __version__:
        yield warning(
            "version_mismatch",
            f"The exporter that runs is of version {found[1].decode()}; {__version__} is installed.",
            "Authly was upgraded under a running instance: a worker that is replaced now may load half of each.",
            "Restart Authly.",
        )


def _ask(place: str, path: str) -> Answer:
    try:
        return ask(http.client.HTTPConnection(place, timeout=_SECONDS), path)
    except (http.client.HTTPException, ConnectionResetError) as problem:
        context = ssl.create_default_context()
        # Whether the certificate is good is Prometheus' to decide; here nothing secret is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            return ask(http.client.HTTPSConnection(place, timeout=_SECONDS, context=context), path)
        except ssl.SSLError as other:
            # The other side understood, and refused for want of a certificate.
            if "ALERT" in (other.reason or ""):
                raise
            raise problem from None
        except OSError:
            raise problem from None


def _patiently(subject: Subject, call: Callable[[], Answer]) -> Answer:
    """Ask again for a while where an exporter may just be replaced."""
    until = time.monotonic() + (_PATIENCE if subject.instance.runs else 0.0)
    while True:
        try:
            return call()
        except (ConnectionRefusedError, FileNotFoundError, ConnectionResetError):
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)


def _taken(subject: Subject, port: int, what: str) -> Finding:
    pids = processes.listeners(port)
    who = f"Process {', '.join(map(str, pids))}" if pids else "Another process"
    return error(
        "port_taken",
        f"{who} listens at {subject.address}, and {what}.",
        "The exporter cannot listen there, and Prometheus scrapes something else.",
        "Stop that process, or set AUTHLY_METRICS_BIND to a free address and tell Prometheus.",
    )


def _whose(subject: Subject, port: int) -> Iterator[Finding]:
    """Check that the exporter that listens reads this directory."""
    directories = {}
    for pid in processes.listeners(port):
        directory = _directory_of(processes.command(pid))
        if directory is not None:
            directories[pid] = directory
    if directories and str(subject.directory) not in directories.values():
        pid, directory = next(iter(directories.items()))
        yield error(
            "exporter_of_another",
            f"The exporter at {subject.address} (process {pid}) reads {directory or 'no directory'}, not "
            f"{subject.directory}.",
            "Two instances are set up with one address: Prometheus scrapes only the one that came first.",
            "Give each instance an AUTHLY_METRICS_BIND of its own.",
        )


def _directory_of(command: list[str]) -> str | None:
    if _MODULE not in command:
        return None
    for word in command:
        if word.startswith("--configuration="):
            try:
                return str(json.loads(word.partition("=")[2])["directory"])
            except (ValueError, KeyError, TypeError):
                return None
    return None
