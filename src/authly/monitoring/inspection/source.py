"""Where an exposition comes from: an exporter at an address, an exporter at its socket, or the files themselves."""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from authly.monitoring.exporter.sockets import socket_address
from authly.monitoring.multiprocess import exposition
from authly.monitoring.multiprocess.collector import DirectoryCollector

TEXT: Final = "text/plain;version=0.0.4"
OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
_SECONDS: Final = 10.0


class SourceError(Exception):
    """There is no exposition to be had; the message says why and what to do."""


class Answer(NamedTuple):
    """What an HTTP server said.

    Args:
        status: of the response.
        content_type: as it was given; empty if it was not.
        body: undecoded.
    """

    status: int
    content_type: str
    body: bytes


class Source(Protocol):
    """Gives an exposition, again and again."""

    def fetch(self, *, openmetrics: bool = False) -> bytes:
        """Return the exposition of this moment.

        Raises:
            SourceError: there is none.
        """


class AddressSource:
    """An exporter, or anything else that answers scrapes, at a URL.

    Args:
        url: ``http://`` or ``https://``, with the path.
        headers: to be sent, besides Accept.
        ca_file: certificates to trust in the place of the system's.
        timeout: seconds.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, ca_file: Path | None = None, timeout: float = _SECONDS
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// URL")
        self._url = url
        self._host, self._port, self._secure = parts.hostname, parts.port, parts.scheme == "https"
        self._target = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
        self._headers = dict(headers or {})
        self._ca_file = ca_file
        self._timeout = timeout

    def fetch(self, *, openmetrics: bool = False) -> bytes:
        """Return the exposition of this moment.

        Raises:
            SourceError: nothing answers there, or not with an exposition.
        """
        try:
            if self._secure:
                context = ssl.create_default_context(cafile=self._ca_file)
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout, context=context
                )
            else:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            answer = ask(connection, self._target, openmetrics=openmetrics, headers=self._headers)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(
                f"no exposition can be had from {self._url} ({_words(error)}): check the address, and "
                "that the instance runs"
            ) from error
        return _exposition(answer, self._url)


class SocketSource:
    """The exporter of an instance on this machine, at the socket in its directory.

    Args:
        directory: of the metric files.
        path: of the exposition.
        timeout: seconds.
    """

    def __init__(self, directory: Path, path: str = "/metrics", timeout: float = _SECONDS) -> None:
        self._directory = directory
        self._path = path
        self._timeout = timeout

    def fetch(self, *, openmetrics: bool = False) -> bytes:
        """Return the exposition of this moment.

        Raises:
            SourceError: no exporter answers there.
        """
        try:
            answer = ask(_SocketConnection(self._directory, self._timeout), self._path, openmetrics=openmetrics)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"no exporter answers in {self._directory} ({_words(error)})") from error
        return _exposition(answer, f"the exporter in {self._directory}")


class FileSource:
    """The files themselves, merged here: works where no exporter runs, and knows nothing but what workers wrote.

    Args:
        directory: of the metric files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._collector = DirectoryCollector(directory, time.monotonic)

    def fetch(self, *, openmetrics: bool = False) -> bytes:
        """Return the exposition of this moment.

        Raises:
            SourceError: the directory cannot be read.
        """
        try:
            families = self._collector.collect(exemplars=openmetrics).families
        except OSError as error:
            raise SourceError(
                f"the metrics directory {self._directory} cannot be read ({error.strerror}): start the instance, or "
                "name its directory with --directory or PROMETHEUS_MULTIPROC_DIR"
            ) from error
        return exposition.render(exposition.distinct(families), openmetrics=openmetrics)


class LocalSource:
    """The exporter in a directory while one answers, and the files themselves while none does.

    Args:
        directory: of the metric files.
        path: of the exposition.
    """

    def __init__(self, directory: Path, path: str = "/metrics") -> None:
        self._exporter = SocketSource(directory, path)
        self._files = FileSource(directory)

    def fetch(self, *, openmetrics: bool = False) -> bytes:
        """Return the exposition of this moment.

        Raises:
            SourceError: no exporter answers, and the directory cannot be read.
        """
        try:
            return self._exporter.fetch(openmetrics=openmetrics)
        except SourceError:
            return self._files.fetch(openmetrics=openmetrics)


class _SocketConnection(http.client.HTTPConnection):
    """A connection to the exporter's Unix socket in a directory."""

    def __init__(self, directory: Path, timeout: float) -> None:
        super().__init__("exporter", timeout=timeout)
        self._directory = directory

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with socket_address(self._directory) as (_, address):
            self.sock.connect(address)


def ask(
    connection: http.client.HTTPConnection,
    target: str,
    *,
    openmetrics: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask over a connection, and close it.

    Raises:
        OSError: nobody answers, or not in time.
        http.client.HTTPException: what answers does not speak HTTP.
    """
    with closing(connection):
        connection.request("GET", target, headers={"Accept": OPENMETRICS if openmetrics else TEXT, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.headers.get("content-type", ""), response.read())


def ask_socket(directory: Path, target: str, timeout: float = _SECONDS) -> Answer:
    """Ask the exporter at the socket in a directory.

    Raises:
        OSError: nobody answers, or not in time.
        http.client.HTTPException: what answers does not speak HTTP.
    """
    return ask(_SocketConnection(directory, timeout), target)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _exposition(answer: Answer, place: str) -> bytes:
    if answer.status in {401, 403}:
        raise SourceError(
            f"{place} answers {answer.status} and wants to know who asks: give credentials with --header, or ask on "
            "the machine itself with --directory"
        )
    if answer.status != 200:
        raise SourceError(f"{place} answers {answer.status} and no exposition: check the path (AUTHLY_METRICS_PATH)")
    return answer.body
