"""What the exporter answers to people, beside the expositions."""

import time
from pathlib import Path

import pytest

from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.guard import Guard
from authly.monitoring.exporter.application import Application, Configuration, Scrape
from authly.monitoring.exporter.http import Request, Response
from authly.monitoring.multiprocess.collector import Collection, DirectoryCollector
from authly.monitoring.multiprocess.families import Family, Sample
from tests.instance import parse, total
from tests.vocabulary import observe

MARKED = "authly_system_mark"


class Counted:
    """A collector that counts how often it ran."""

    name = "counted"

    def __init__(self) -> None:
        self.runs = 0

    def collect(self) -> list[Family]:
        """Return one gauge."""
        self.runs += 1
        return [Family.of(MARKED, "gauge", "Help.", [Sample(MARKED, (), 1.0)])]


class Failing:
    """A collector that fails, with words that are not for everybody."""

    name = "failing"

    def collect(self) -> list[Family]:
        """Raise."""
        raise ValueError("postgresql://admin:secret@host")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it was set to."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


def ask(application: Application, path: str, method: str = "GET") -> Response:
    """Return the answer to a request."""
    return application.respond(Request(method, path))


@pytest.mark.parametrize("path", ["/", "/-/status", "/-/status.css", "/-/status.js", "/-/status.svg"])
def test_what_belongs_to_the_page_comes_with_its_policy(tmp_path: Path, path: str) -> None:
    """Nothing from elsewhere, nothing inline, nothing kept, no other page around it."""
    answer = ask(Application(Configuration(tmp_path), time.monotonic, lambda _: None), path)
    headers = dict(answer.headers)
    assert answer.status == 200
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    "path", ["/-/status/", "/-/status.py", "/-/status/../page.py", "/-/statuspage", "/-/status.css/"]
)
def test_nothing_else_is_there(tmp_path: Path, path: str) -> None:
    """Files of the package that are not for browsers are not to be had."""
    assert ask(Application(Configuration(tmp_path), time.monotonic, lambda _: None), path).status == 404


def test_several_who_look_cost_one_look(tmp_path: Path, clock: Clock) -> None:
    """Within half a second the same state is shown again; the fragment is of the same look."""
    counted = Counted()
    application = Application(Configuration(tmp_path), clock, lambda _: None, [counted])
    for path in ["/", "/-/status", "/"]:
        assert MARKED.replace("_", "_<wbr>").encode() in ask(application, path).body
    assert counted.runs == 1
    clock.now += 0.6
    ask(application, "/-/status")
    assert counted.runs == 2


def test_several_who_wait_are_answered_from_one_look(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They asked before there was anything to show: the directory is read once for all of them."""
    application = Application(Configuration(tmp_path), clock, lambda _: None)
    looks = []
    collect = DirectoryCollector.collect

    def look(collector: DirectoryCollector, *, exemplars: bool = False) -> Collection:
        looks.append(exemplars)
        return collect(collector, exemplars=exemplars)

    monkeypatch.setattr(DirectoryCollector, "collect", look)
    pending = [application.begin(Request("GET", path)) for path in ("/", "/-/status", "/")]
    assert [scrape.wait().status for scrape in pending if isinstance(scrape, Scrape)] == [200, 200, 200]
    assert len(looks) == 1


def test_looking_leaves_no_trace_in_a_scrape(tmp_path: Path, clock: Clock) -> None:
    """The exporter's own metrics are of scrapes alone, and a collector of others is not run for the page."""
    application = Application(Configuration(tmp_path), clock, lambda _: None, [Counted()])
    for _ in range(20):
        ask(application, "/")
        clock.now += 1
    series = parse(ask(application, "/metrics").body.decode())
    assert total(series, "authly_exporter_scrapes_total") == 0
    assert total(series, "authly_exporter_scrape_duration_seconds_count", phase="read") == 1


def test_a_scrape_pays_for_a_note_every_five_seconds_at_most(tmp_path: Path, clock: Clock) -> None:
    """However often it is scraped and looked at."""
    application = Application(Configuration(tmp_path), clock, lambda _: None)
    for _ in range(100):
        ask(application, "/metrics")
        ask(application, "/-/status")
        clock.now += 0.5
    assert len(application._journal.notes) == 10


def test_words_of_exceptions_are_for_the_log_alone(tmp_path: Path, clock: Clock) -> None:
    """The page names the collector that failed; what it said may be anybody's words."""
    log: list[str] = []
    application = Application(Configuration(tmp_path), clock, log.append, [Failing()])
    ask(application, "/metrics")
    text = ask(application, "/").body.decode()
    assert "secret" in log[0]
    assert "The collector failing failed, and its metrics are missing." in text
    assert "secret" not in text


def test_a_slow_collector_is_missing_from_the_page_and_from_no_scrape(tmp_path: Path) -> None:
    """Whoever looks waits a second at most, and a scrape that shares the run still waits for it."""

    class Slow(Counted):
        def collect(self) -> list[Family]:
            time.sleep(1.5)
            return super().collect()

    application = Application(Configuration(tmp_path), time.monotonic, lambda _: None, [Slow()])
    assert MARKED.replace("_", "_<wbr>").encode() not in ask(application, "/").body
    scrape = application.begin(Request("GET", "/metrics"))
    assert isinstance(scrape, Scrape)
    series = parse(scrape.wait().body.decode())
    assert total(series, MARKED) == total(series, "authly_exporter_collector_success", collector="counted") == 1


def test_a_file_that_is_left_out_is_named(tmp_path: Path, clock: Clock) -> None:
    """With the reason, for as long as there are no twenty later ones."""
    application = Application(Configuration(tmp_path), clock, lambda _: None)
    path = tmp_path / "counter_s0.db"
    path.write_bytes(b"\xff" * 4096)
    ask(application, "/metrics")
    path.unlink()
    clock.now += 1
    assert b"counter_<wbr>s0.db" in ask(application, "/").body


@pytest.mark.parametrize("path", ["/", "/-/status", "/-/status.css", "/-/status.js", "/-/status.svg"])
def test_who_may_not_scrape_may_not_look(tmp_path: Path, path: str) -> None:
    """The page and all its parts are behind the same guard as the metrics."""
    (tmp_path / "tokens").write_text("a-token-of-sufficient-length-0123456789\n")
    (tmp_path / "tokens").chmod(0o600)
    (tmp_path / "web.yml").write_text("bearer_tokens_file: tokens\n")
    (tmp_path / "metrics").mkdir()
    application = Application(Configuration(tmp_path / "metrics"), time.monotonic, lambda _: None)
    guard = Guard(tmp_path / "web.yml", Denials(), time.monotonic, lambda _: None)
    denied = guard.respond(Request("GET", path, peer="192.0.2.1"), application.respond)
    assert isinstance(denied, Response)
    assert denied.status == 401
    headers = {"authorization": "Bearer a-token-of-sufficient-length-0123456789"}
    shown = guard.respond(Request("GET", path, headers=headers, peer="192.0.2.1"), application.respond)
    assert isinstance(shown, Response)
    assert shown.status == 200


@pytest.mark.produces("authly_exporter_files", type=("counter", "gauge", "histogram", "summary"))
def test_metric_files_are_counted_by_type(tmp_path: Path) -> None:
    """Other applications than Authly have summaries too."""
    for name in ("counter_s0.db", "gauge_max_s0.db", "histogram_s0.db", "summary_s0.db", "summary_s1.db"):
        (tmp_path / name).write_bytes((8).to_bytes(4, "little") + bytes(16380))
    answer = ask(Application(Configuration(tmp_path), time.monotonic, lambda _: None), "/metrics")
    series = parse(answer.body.decode())
    observe(series)
    files = {type_: total(series, "authly_exporter_files", type=type_) for type_ in ("counter", "gauge", "summary")}
    assert files == {"counter": 1, "gauge": 1, "summary": 2}
