"""Authly under traffic, with a Prometheus that has the rules, and an Alertmanager: ``make observe``.

Everything is real and ends with Ctrl-C; what it wrote is in a temporary folder, and goes with it. The ports are those
that the documentation names. Scrapes and evaluations are every five seconds rather than fifteen, so that graphs have
something to show within a minute.
"""

import argparse
import contextlib
import itertools
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx

from tests.instance import REPOSITORY, Instance, free_port
from tests.oauth import PASSWORD, SETTINGS, Person, Registered, Server, embedded_url
from tests.postgres import postmaster_pid
from tests.processes import wait_until

STACK = REPOSITORY / "docker-compose"
TOOLS = REPOSITORY / ".tools"
# In the order of Authly, exporter, Prometheus, Alertmanager.
PORTS = (8000, 9464, 9090, 9093)
# Between two scrapes, and between two evaluations of the rules.
INTERVAL = "5s"
# Where Debian's Alertmanager looks for its templates, wherever it was unpacked.
TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")


def tool(package: str, name: str) -> str:
    """Return the path of a program: unpacked beside the checkout, or installed."""
    unpacked = TOOLS / package / "usr/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"There is no {name}: call .ci/tools {package}, or install Debian's package {package}.")
    return found


def alertmanager() -> list[str]:
    """Return the words that begin Alertmanager's command line."""
    program = tool("prometheus-alertmanager", "prometheus-alertmanager")
    if TEMPLATES.exists():
        return [program]
    # In a namespace of its own, where what was unpacked lies over /usr/share. That needs no root.
    share = Path(program).parent.parent / "share"
    mount = 'mount -t overlay overlay -o "lowerdir=$1:/usr/share" /usr/share && shift && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(share), program]


@contextlib.contextmanager
def running(folder: Path, name: str, *command: str) -> Iterator[None]:
    """Run a program for a while, with its log in the folder."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


def configure(folder: Path, exporter: str, alerts: str) -> Path:
    """Write Prometheus' configuration: that of the project, quicker, and where the two are; return its path."""
    shutil.copytree(STACK / "prometheus/rules", folder / "rules")
    for file in (folder / "rules").iterdir():
        # What looks back for weeks is soon calculated where there are minutes.
        file.write_text(file.read_text().replace("interval: 5m", f"interval: {INTERVAL}"))
    text = (STACK / "prometheus/prometheus.yml").read_text()
    for shipped, here in (
        ("127.0.0.1:9464", exporter),
        ("127.0.0.1:9093", alerts),
        ("scrape_interval: 15s", f"scrape_interval: {INTERVAL}"),
        ("evaluation_interval: 15s", f"evaluation_interval: {INTERVAL}"),
    ):
        if shipped not in text:
            raise SystemExit(f"{shipped!r} is not in docker-compose/prometheus/prometheus.yml any more")
        text = text.replace(shipped, here)
    path = folder / "prometheus.yml"
    path.write_text(text)
    return path


class Traffic:
    """What people and applications do all day, right and wrong, about ten times a second.

    Args:
        server: to whom.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._application = server.client(name="An application", scopes=("openid", "profile", "offline_access"))
        self._service = server.service(name="A service")
        self._people = [server.person(name=name) for name in ("Ada", "Grace", "Radia")]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def somebody(self) -> Person:
        """One of the people."""
        return self._people[0]

    def _run(self) -> None:
        work: list[tuple[Callable[[], object], int]] = [
            (self._act_for_oneself, 8),
            (self._sign_in, 3),
            (self._mistype, 1),
            (self._be_a_stranger, 1),
            (self._get_lost, 1),
            (self._look_up, 1),
        ]
        pool = list(itertools.chain.from_iterable([what] * often for what, often in work))
        while not self._stop.wait(0.1):
            # Whoever watches may have stopped something, to see what happens then.
            with contextlib.suppress(httpx.HTTPError, AssertionError, KeyError):
                random.choice(pool)()

    def _act_for_oneself(self) -> None:
        answer = self._server.token(self._service, grant_type="client_credentials", scope="read")
        self._server.introspect(self._service, answer.json()["access_token"])

    def _sign_in(self) -> None:
        person = random.choice(self._people)
        if random.random() < 0.5:
            person.cookies.clear()
        tokens = self._server.tokens(self._application, person, scope="openid profile offline_access")
        header = {"authorization": f"Bearer {tokens['access_token']}"}
        self._server.http.get("/oidc/userinfo", headers=header)
        if "refresh_token" in tokens:
            self._server.refresh(self._application, tokens["refresh_token"])

    def _mistype(self) -> None:
        person = Person(self._server, self.somebody.username, "")
        person.open("/login")
        person.submit(username=f"nobody-{random.randrange(1000)}", password="not the password")

    def _be_a_stranger(self) -> None:
        stranger = Registered(self._service.client, "not the secret")
        self._server.token(stranger, grant_type="client_credentials")

    def _look_up(self) -> None:
        for path in ("/.well-known/openid-configuration", "/jwks"):
            self._server.http.get(path)

    def _get_lost(self) -> None:
        self._server.http.get(f"/nowhere/{random.randrange(1000)}")


class Observation(NamedTuple):
    """Everything that runs.

    Args:
        server: Authly.
        prometheus: where Prometheus answers.
        text: what to open.
    """

    server: Server
    prometheus: str
    text: str


@contextlib.contextmanager
def observation(folder: Path, ports: tuple[int, ...], **environment: str) -> Iterator[Observation]:
    """Run everything, with traffic.

    Args:
        folder: for all that is written.
        ports: of Authly, the exporter, Prometheus and Alertmanager.
        environment: further settings of Authly.
    """
    addresses = [f"127.0.0.1:{port}" for port in ports]
    for address in addresses:
        if Instance.answers(f"http://{address}/"):
            raise SystemExit(f"Something answers at {address} already: end it first (make run, another make observe?).")
    settings = {
        **SETTINGS,
        "AUTHLY_BIND": addresses[0],
        "AUTHLY_METRICS_BIND": addresses[1],
        "AUTHLY_METRICS_COLLECTION_INTERVAL": "5",
        "AUTHLY_LOG_LEVEL": "warning",
        **environment,
    }
    instance = Instance(folder / "authly", settings)
    instance.folder.mkdir()
    instance.address, instance.metrics_address = addresses[:2]
    del instance.environment["AUTHLY_DATABASE_URL"]
    instance.command = [str(Path(sys.executable).with_name("authly")), "serve"]
    prometheus = f"http://{addresses[2]}"
    with contextlib.ExitStack() as stack:
        stack.callback(instance.stop)
        instance.start()
        wait_until(lambda: instance.get("/health/ready")[0] == 200, 60)
        server = Server(instance, embedded_url(instance.folder / "state"))
        traffic = Traffic(server)
        stack.enter_context(
            running(
                folder,
                "alertmanager",
                *alertmanager(),
                f"--config.file={STACK / 'alertmanager/alertmanager.yml'}",
                f"--storage.path={folder / 'alerts'}",
                f"--web.listen-address={addresses[3]}",
                "--cluster.listen-address=",
            )
        )
        stack.enter_context(
            running(
                folder,
                "prometheus",
                tool("prometheus", "prometheus"),
                f"--config.file={configure(folder, addresses[1], addresses[3])}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address={addresses[2]}",
                f"--web.external-url={prometheus}/",
                f"--web.user-assets={REPOSITORY / 'docs'}",
                "--enable-feature=exemplar-storage",
            )
        )
        for address in addresses[2:]:
            wait_until(lambda address=address: Instance.answers(f"http://{address}/-/ready"), 30)  # type: ignore[misc]
        stack.enter_context(traffic)
        queries = (
            "sum by (endpoint) (rate(authly_http_requests_total[1m]))",
            "histogram_quantile(0.95, sum by (le) (rate(authly_http_request_duration_seconds_bucket[1m])))",
        )
        graph = "&".join(f"g{n}.expr={quote(query)}&g{n}.tab=0&g{n}.range_input=5m" for n, query in enumerate(queries))
        database = postmaster_pid(instance.folder / "state")
        text = (
            f"Authly         {instance.folder.name} at http://{addresses[0]}/login\n"
            f"               {traffic.somebody.username}, password: {PASSWORD}\n"
            f"Status page    http://{addresses[1]}/\n"
            f"Graphs         {prometheus}/graph?{graph}\n"
            f"Alerts         {prometheus}/alerts\n"
            f"Rules          {prometheus}/rules\n"
            f"Alertmanager   http://{addresses[3]}/\n"
            f"Logs           {folder}\n"
            "\nTo see an alert begin and end: stop the database, and let it go on.\n"
            f"    kill -STOP {database}; sleep 120; kill -CONT {database}\n"
        )
        yield Observation(server, prometheus, text)


def main() -> None:
    """Run until told to end."""
    parser = argparse.ArgumentParser(prog="python -m tests.observe", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--free-ports", action="store_true", help="take any ports, rather than those everybody knows")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end by itself after so many")
    arguments = parser.parse_args()
    ports = tuple(free_port() for _ in PORTS) if arguments.free_ports else PORTS
    # However it is told to end, what it started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()
    print("Starting Authly with a database of its own, Prometheus and Alertmanager ...", flush=True)  # noqa: T201
    with (
        contextlib.suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="authly-observe-", ignore_cleanup_errors=True) as folder,
    ):
        # The database may have a user of its own.
        Path(folder).chmod(0o711)
        with observation(Path(folder), ports) as found:
            print(f"\n{found.text}\nCtrl-C ends all of it.", flush=True)  # noqa: T201
            while time.monotonic() - began < arguments.seconds:
                time.sleep(0.2)


if __name__ == "__main__":
    main()
