"""What the exporter answers: the one place that turns a request into a response.

Independent of the transport: the exporter's server calls it, and so does a worker that finds no exporter running.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from authly.monitoring.exporter import negotiation
from authly.monitoring.exporter.collectors import runner
from authly.monitoring.exporter.collectors.custom import CustomCollector
from authly.monitoring.exporter.collectors.gunicorn import GunicornCollector, Snapshot
from authly.monitoring.exporter.collectors.own import OwnCollector
from authly.monitoring.exporter.collectors.runner import Collector, Round, Runner
from authly.monitoring.exporter.http import Request, Response
from authly.monitoring.exporter.rate_limit import RateLimit
from authly.monitoring.exporter.ratios import with_hit_ratio
from authly.monitoring.exporter.status.journal import Journal
from authly.monitoring.exporter.status.lookup import Lookup
from authly.monitoring.multiprocess import exposition, text
from authly.monitoring.multiprocess.collector import Collection, DirectoryCollector
from authly.monitoring.multiprocess.families import Family
from authly.monitoring.multiprocess.text import Text

if TYPE_CHECKING:
    from authly.monitoring.exporter.status.state import State

# Set by a worker that passes on a question: whom to hold to the rate limit. Believed on the Unix socket alone.
CLIENT_HEADER = "x-authly-client"
_TEXT = "text/plain; charset=utf-8"

_STATUS = "/-/status"
_LOOK_SECONDS = 0.5
_LOOK_PATIENCE = 1.0
_HTML = "text/html; charset=utf-8"
_OF_THE_PAGE = (
    # Nothing from elsewhere, no script or style in the page itself, and no other page around it.
    (
        "content-security-policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
)


class Configuration(NamedTuple):
    """How an exporter is set up.

    Args:
        directory: where the metric files are; None where metrics have no usable directory.
        path: the path of the exposition.
        rate_limit: scrapes a minute for each client of the application port; 0 sets no limit.
        problem: why metrics have no directory, in words for the status page.
        collectors: ``package.module:name`` of each custom collector.
        series_ttl: seconds after which a series that nobody updates is left out; 0 keeps all.
        log_format: how the exporter writes its log: json (an object a line) or console (for people).
        web_config_file: who may look, in the format of Prometheus' exporter-toolkit; empty lets everybody.
        master: the process id of the Gunicorn master; 0 where there is none.
        ended_exporters: processor time, user and system, of the exporters before this one, in seconds.
        ended_others: of the master's children that ended before there were workers, likewise.
        constant_labels: name and value of labels that everything has.
        settings: name, value and origin of each setting that the status page shows; nothing secret.
    """

    directory: Path | None
    path: str = "/metrics"
    rate_limit: int = 0
    problem: str = ""
    collectors: tuple[str, ...] = ()
    series_ttl: float = 0.0
    log_format: str = "json"
    web_config_file: str = ""
    master: int = 0
    ended_exporters: tuple[float, float] = (0.0, 0.0)
    ended_others: tuple[float, float] = (0.0, 0.0)
    constant_labels: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()


def sentence(words: str) -> str:
    """Return the words as a sentence of a log."""
    return f"{words[:1].upper()}{words[1:]}."


class Scrape:
    """A scrape whose collectors are running.

    Args:
        round_: the collectors.
        deadline: when to answer with what is there.
        answer: makes the response.
    """

    def __init__(self, round_: Round, deadline: float, answer: Callable[[], Response]) -> None:
        self._round = round_
        self.deadline = deadline
        self.response = answer

    @property
    def ready(self) -> bool:
        """Whether all collectors are done."""
        return self._round.ready

    def notify(self, wake: Callable[[], None]) -> None:
        """Have something called, in any thread, whenever ``ready`` may have become true."""
        self._round.notify(wake)

    def wait(self) -> Response:
        """Wait until all collectors are done or the deadline has come, and return the response."""
        self._round.wait(self.deadline)
        return self.response()


class Application:
    """Answers requests.

    Args:
        configuration: how it is set up.
        monotonic: the clock, in seconds.
        report: takes a line about something an operator should know.
        collectors: what it collects besides the directory, its own metrics and the custom collectors.
        complete: adds what others have to say to the families that were collected.
    """

    def __init__(
        self,
        configuration: Configuration,
        monotonic: Callable[[], float],
        report: Callable[[str], None],
        collectors: Sequence[Collector] = (),
        complete: Callable[[Iterable[Family]], list[Family]] = list,
    ) -> None:
        self._configuration = configuration
        self._clock = monotonic
        self._log = report
        self._journal = Journal(monotonic, time.time)
        # What the status page saw last, and the statuses of the collectors at the last scrape.
        self._state: State | None = None
        self._statuses: list[Family] = []
        self._complete = complete
        self._rate_limit = RateLimit(configuration.rate_limit, monotonic)
        self._own = OwnCollector()
        self._collectors = collectors
        self._custom = [CustomCollector(name) for name in dict.fromkeys(configuration.collectors)]
        self._gunicorn = next((each for each in collectors if isinstance(each, GunicornCollector)), None)
        self._runner = Runner([*collectors, *self._custom], monotonic, self._report_collector)
        self._problem = configuration.problem
        self._directory = (
            DirectoryCollector(configuration.directory, monotonic, configuration.series_ttl)
            if configuration.directory is not None
            else None
        )

    def load_collectors(self) -> None:
        """Begin to load the custom collectors now, not at the first scrape."""
        self._runner.load()

    def respond(self, request: Request) -> Response:
        """Answer one request, waiting for the collectors."""
        answer = self.begin(request)
        return answer.wait() if isinstance(answer, Scrape) else answer

    def begin(self, request: Request) -> Response | Scrape:
        """Answer one request; a scrape is returned while its collectors run."""
        if request.method not in {"GET", "HEAD"}:
            return Response(405, _TEXT, b"Only GET and HEAD are answered here.\n", (("allow", "GET, HEAD"),))
        if request.path == self._configuration.path:
            return self._scrape(request)
        if request.path == "/" or request.path.startswith(_STATUS):
            return self._look(request.path)
        if request.path == "/-/healthy":
            return Response(200, _TEXT, b"The exporter is healthy.\n")
        if request.path == "/-/ready":
            return self._ready()
        return self._nothing()

    def _scrape(self, request: Request) -> Response | Scrape:
        client = request.headers.get(CLIENT_HEADER) if request.is_local else None
        wait = self._rate_limit.seconds_to_wait(client) if client is not None else 0
        if wait:
            self._own.count_scrape("rate_limited")
            words = f"Scraped too often from this address; come again in {wait} s.\n"
            return Response(429, _TEXT, words.encode(), (("retry-after", str(wait)),))
        began = self._clock()
        deadline = began + negotiation.patience(request.headers.get(negotiation.TIMEOUT_HEADER))
        round_ = self._runner.begin()
        return Scrape(round_, deadline, lambda: self._finish(request, round_, began))

    def _finish(self, request: Request, round_: Round, began: float) -> Response:
        format_ = negotiation.choose_format(request.headers.get("accept"))
        texts = self._expose(round_, began, openmetrics=format_.name == "openmetrics")
        vary = ("vary", "accept, accept-encoding")
        if negotiation.accepts_gzip(request.headers.get("accept-encoding")):
            return Response(200, format_.content_type, text.gzip(texts), (("content-encoding", "gzip"), vary))
        return Response(200, format_.content_type, text.plain(texts), (vary,))

    def exposition(self, *, openmetrics: bool) -> bytes:
        """Collect everything and return it as one exposition, waiting for the collectors."""
        began = self._clock()
        round_ = self._runner.begin()
        round_.wait(began + negotiation.DEFAULT_PATIENCE)
        return text.plain(self._expose(round_, began, openmetrics=openmetrics))

    def _expose(self, round_: Round, began: float, *, openmetrics: bool) -> list[Text]:
        """Return what there is as an exposition."""
        # The directory is read last and at once: what was read of it changes at the next scrape.
        collected = round_.finish()
        collection = self._collect(exemplars=openmetrics)
        if collection is not None:
            self._own.observe_phase("read", collection.read_seconds)
            self._own.observe_phase("aggregate", collection.aggregate_seconds)
        started = self._clock()
        own = self._own.collect(collection, self._configuration.directory)
        statuses = [runner.Status("own", self._clock() - started, True), *collected.statuses]
        self._statuses = runner.families_of(statuses)
        started = self._clock()
        # A name stands once: the exporter's own metrics win over what a worker may have written under their names, and
        # the workers' over those of a custom collector.
        families = exposition.distinct(
            [
                *own,
                *self._statuses,
                *(family for collector in self._collectors for family in collected.families[collector.name]),
                *self._complete(with_hit_ratio(collection.families) if collection else ()),
                *(family for collector in self._custom for family in collected.families[collector.name]),
            ]
        )
        texts = exposition.write(families, openmetrics=openmetrics, constant=self._configuration.constant_labels)
        self._own.observe_phase("render", self._clock() - started)
        partial = "partial" if collected.is_partial else "success"
        self._own.count_scrape(partial if collection else "directory_error")
        self._journal.scrape(began)
        if self._journal.is_due:
            self._journal.note(families, self._snapshot())
        return texts

    def _collect(self, *, exemplars: bool = False) -> Collection | None:
        if self._directory is None:
            return None
        try:
            collection = self._directory.collect(exemplars=exemplars)
        except OSError as error:
            self._set_problem(
                f"the metrics directory {self._configuration.directory} cannot be read ({error.strerror}): put it "
                "back, or restart Authly, which creates it"
            )
            return None
        self._set_problem("")
        self._journal.skip(collection.reading.left_out)
        return collection

    def _set_problem(self, problem: str) -> None:
        """Report a problem once when it comes and once when it goes, not at every scrape."""
        if problem != self._problem:
            words = sentence(problem or "the metrics directory can be read again")
            self._log(words)
            self._journal.problem(words)
            self._problem = problem

    def _report_collector(self, words: str) -> None:
        self._log(words)
        # What an exception says may be anybody's words: they are for the log alone.
        self._journal.problem(f"{words.partition(': ')[0].removesuffix('.')}.")

    # The status page

    def _look(self, path: str) -> Response | Scrape:
        """Answer with the status page or a part of it, which is made when the collectors have looked."""
        # Not at the top: most exporters, and all workers, never show it.
        from authly.monitoring.exporter.status import page

        write = {"/": page.page, _STATUS: page.fragment}.get(path)
        if write is None:
            return self._asset(path.removeprefix("/-/"))
        now = self._clock()
        if self._state is not None and now - self._state.now < _LOOK_SECONDS:
            return Response(200, _HTML, write(self._state), _OF_THE_PAGE)
        round_ = self._runner.begin(self._collectors)
        return Scrape(round_, now + _LOOK_PATIENCE, lambda: self._show(round_, write))

    def _show(self, round_: Round, write: "Callable[[State], bytes]") -> Response:
        from authly.monitoring.exporter.status.state import State

        # Of several who waited at the same time, the first looks for all.
        if self._state is not None and self._clock() - self._state.now < _LOOK_SECONDS:
            return Response(200, _HTML, write(self._state), _OF_THE_PAGE)
        seen = round_.peek()
        collection = self._collect()
        families = [
            *self._own.collect(collection, self._configuration.directory),
            *self._statuses,
            *(family for found in seen.values() for family in found),
            *self._complete(with_hit_ratio(collection.families) if collection else ()),
        ]
        looked = self._gunicorn is None or self._gunicorn.name in seen
        if self._journal.is_due:
            self._journal.note(families, self._snapshot())
        self._state = State(
            self._configuration,
            Lookup(families),
            self._snapshot() if looked else None,
            self._journal,
            self._problem,
            self._clock(),
            time.time(),
        )
        return Response(200, _HTML, write(self._state), _OF_THE_PAGE)

    def _snapshot(self) -> Snapshot:
        return self._gunicorn.snapshot if self._gunicorn is not None else Snapshot([], [], [])

    def _asset(self, name: str) -> Response:
        from authly.monitoring.exporter.status import page

        type_ = page.ASSETS.get(name)
        if type_ is None:
            return self._nothing()
        return Response(200, f"{type_}; charset=utf-8", page.asset(name), _OF_THE_PAGE)

    def _nothing(self) -> Response:
        return Response(404, _TEXT, f"Nothing is here. The metrics are at {self._configuration.path}.\n".encode())

    def _ready(self) -> Response:
        if self._directory is not None:
            self._collect()
        if self._problem:
            return Response(503, _TEXT, f"Not ready: {self._problem}.\n".encode())
        return Response(200, _TEXT, b"The exporter is ready.\n")
