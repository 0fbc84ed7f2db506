"""The page and what it finds wrong."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from authly.monitoring.exporter.application import Configuration
from authly.monitoring.exporter.collectors.gunicorn import Listener, Snapshot, Worker
from authly.monitoring.exporter.process_facts import ProcessFacts
from authly.monitoring.exporter.status import page
from authly.monitoring.exporter.status.findings import Severity, findings
from authly.monitoring.exporter.status.journal import Journal
from authly.monitoring.exporter.status.lookup import Lookup
from authly.monitoring.exporter.status.state import State
from authly.monitoring.master_facts import EXIT_REASONS, MasterFacts
from authly.monitoring.multiprocess.families import Family, Sample
from authly.monitoring.multiprocess.reader import SKIP_REASONS

NASTY = "<script>alert(1)</script>\"'&"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it was set to."""
        return self.now


class Outline(HTMLParser):
    """The elements of a page, which must be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that begins."""
        self.names.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "link", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the one that began last."""
        assert self.open.pop() == tag


def master(desired: int = 1, **changes: object) -> MasterFacts:
    """Return a master."""
    return MasterFacts(1, 500.0, desired, False, 100, 1, 1, (), ())._replace(**changes)  # type: ignore[arg-type]


def worker(**changes: object) -> Worker:
    """Return a worker that is well."""
    healthy = Worker(0, 70, False, 100.0, 1.0, 0.0, ProcessFacts(1, False, 1.0, 50_000_000))
    return healthy._replace(**changes)  # type: ignore[arg-type]


def gauge(name: str, value: float, **labels: str) -> Family:
    """Return a family of one sample."""
    return Family.of(name, "gauge", "Help.", [Sample(name, tuple(labels.items()), value)])


def ended(**numbers: float) -> Family:
    """Return how many workers ended."""
    samples = [
        Sample("gunicorn_worker_exits_total", (("reason", reason),), numbers.get(reason, 0.0))
        for reason in EXIT_REASONS
    ]
    return Family.of("gunicorn_worker_exits", "counter", "Help.", samples)


def state(
    *families: Family,
    snapshot: Snapshot | None = None,
    journal: Journal | None = None,
    problem: str = "",
    settings: tuple[tuple[str, str, str], ...] = (),
    unknown: bool = False,
) -> State:
    """Return an instance that is well but for what is given."""
    if journal is None:
        journal = Journal(lambda: 1000.0, lambda: 1000.0)
    if snapshot is None:
        snapshot = Snapshot([master()], [worker()], [Listener("127.0.0.1:8000", 0, 100)])
    configuration = Configuration(Path("/metrics directory"), master=1, settings=settings)
    return State(
        configuration, Lookup(families), None if unknown else snapshot, journal, problem, journal._monotonic(), 1000.0
    )


def said(state: State) -> list[tuple[Severity, str]]:
    """Return what is wrong."""
    return [(finding.severity, finding.what) for finding in findings(state)]


def test_of_a_healthy_instance_nothing_is_wrong() -> None:
    """There is no finding, and the page begins with that."""
    healthy = state(ended())
    assert findings(healthy) == []
    text = page.page(healthy).decode()
    assert "Nothing is wrong" in text
    assert "<title>Authly exporter</title>" in text


SNAPSHOTS = {
    "2 of 4 workers run.": (Severity.WARNING, Snapshot([master(4)], [worker(), worker(slot=1, pid=71)], [])),
    "0 of 4 workers run.": (Severity.CRITICAL, Snapshot([master(4)], [], [])),
    "No Gunicorn master uses this directory.": (Severity.CRITICAL, Snapshot([], [], [])),
    "Worker 70 (slot 0) is stopped by a signal or a debugger.": (
        Severity.CRITICAL,
        Snapshot([master()], [worker(process=ProcessFacts(1, True, 1.0, 1))], []),
    ),
    "Worker 70 (slot 0) has given no heartbeat for 25 s.": (
        Severity.CRITICAL,
        Snapshot([master()], [worker(heartbeat_age=25.0)], []),
    ),
    "Worker 70 has been starting for 1 min 40 s.": (
        Severity.WARNING,
        Snapshot([master()], [worker(slot=None, is_booting=True, heartbeat_age=None)], []),
    ),
    "An upgrade is in progress; masters: 1, 2.": (
        Severity.NOTE,
        Snapshot([master(), master(0, pid=2)], [worker()], []),
    ),
    "60 connections wait at 127.0.0.1:8000, which has room for 100.": (
        Severity.CRITICAL,
        Snapshot([master()], [worker()], [Listener("127.0.0.1:8000", 60, 100)]),
    ),
    "20 connections wait at unix:/x, which has room for 100.": (
        Severity.WARNING,
        Snapshot([master()], [worker()], [Listener("unix:/x", 20, 100)]),
    ),
}


@pytest.mark.parametrize("words", SNAPSHOTS)
def test_what_gunicorn_suffers_from_is_found(words: str) -> None:
    """Each with how bad it is, and what to do."""
    severity, snapshot = SNAPSHOTS[words]
    found = findings(state(snapshot=snapshot))
    assert [(finding.severity, finding.what) for finding in found] == [(severity, words)]
    assert all(len(finding.advice) > 20 for finding in found)


FAMILIES = {
    "The container uses 95 % of the memory it may use (1.0 GB).": [
        gauge("authly_container_memory_limit_bytes", 1e9),
        gauge("authly_container_memory_usage_bytes", 0.95e9),
    ],
    "A process of the role worker has 900 of 1024 file descriptors open.": [
        gauge("authly_file_descriptors_limit", 1024.0, role="worker"),
        gauge("authly_open_file_descriptors_max", 900.0, role="worker"),
    ],
    "Metric files that are left out: corrupt 1.": [gauge("authly_exporter_skipped_files", 1.0, reason="corrupt")],
    "The file system of the metrics directory has 5.0 MB left.": [gauge("authly_exporter_directory_free_bytes", 5e6)],
    "The web configuration file cannot be used as it is now.": [gauge("authly_exporter_web_config_valid", 0.0)],
    "The collector x failed at the last scrape, and its metrics were missing.": [
        gauge("authly_exporter_collector_success", 0.0, collector="x")
    ],
}


@pytest.mark.parametrize("words", FAMILIES)
def test_what_the_metrics_tell_is_found(words: str) -> None:
    """Limits that are near, files and collectors that are missing."""
    assert said(state(*FAMILIES[words])) == [(Severity.WARNING, words)]


def test_a_directory_that_cannot_be_read_comes_first() -> None:
    """With the reason; and the page is whole without any figure."""
    broken = state(problem="it is full", snapshot=Snapshot([], [], []))
    assert said(broken) == [(Severity.CRITICAL, "The workers' metrics are not here: it is full.")]
    assert "The directory cannot be read." in page.page(broken).decode()


def test_a_collector_without_an_answer_is_no_dead_instance() -> None:
    """What is not known is said to be so."""
    assert [severity for severity, _ in said(state(unknown=True))] == [Severity.WARNING]
    page.page(state(unknown=True))


@pytest.mark.parametrize("reason", ["timeout", "out_of_memory", "boot_error", "crash", "signal"])
def test_workers_that_ended_badly_are_news_for_a_while(reason: str) -> None:
    """Those of the last ten minutes are found, with what to do; ordinary ends and earlier ones are not."""
    clock = Clock()
    journal = Journal(clock, clock)
    snapshot = Snapshot([master()], [worker()], [])
    journal.note([ended(**{reason: 5.0})], snapshot)
    assert findings(state(journal=journal)) == []
    clock.now += 5
    after = ended(**{reason: 7.0}, max_requests=9.0, reload=4.0, shutdown=1.0, scale_down=1.0)
    journal.note([after], snapshot)
    [(severity, words)] = said(state(after, journal=journal))
    assert severity < Severity.NOTE
    assert words.endswith("in the last 10 min: 2.")
    assert page._REASONS[reason] in page.page(state(after, journal=journal)).decode()
    for _ in range(125):
        clock.now += 5
        journal.note([after], snapshot)
        journal.scrape(clock.now)
    assert findings(state(after, journal=journal)) == []


def test_failing_and_slow_requests_are_found() -> None:
    """With the endpoints that fail most."""
    clock = Clock()
    journal = Journal(clock, clock)
    for number in (0.0, 100.0):
        labels = (("endpoint", "/token"), ("method", "POST"))
        counter = Family.of(
            "authly_http_requests",
            "counter",
            "Help.",
            [
                Sample("authly_http_requests_total", (*labels, ("status_code", "200")), 0.8 * number),
                Sample("authly_http_requests_total", (*labels, ("status_code", "500")), 0.2 * number),
            ],
        )
        name = "authly_http_request_duration_seconds"
        bucket = [
            Sample(f"{name}_bucket", (("le", edge), *labels), share * number)
            for edge, share in (("1.0", 0.5), ("4.0", 1.0), ("+Inf", 1.0))
        ]
        journal.note([counter, Family.of(name, "histogram", "Help.", bucket)], Snapshot([], [], []))
        clock.now += 5
    assert said(state(journal=journal)) == [
        (Severity.CRITICAL, "20 % of the requests of the last minute failed (5xx). Most of them: POST /token (500)."),
        (Severity.WARNING, "One request in twenty takes longer than 3.7 s."),
    ]


def test_nobody_scraping_is_a_note() -> None:
    """It is no failure of the instance: the page does not call it wrong."""
    clock = Clock()
    journal = Journal(clock, clock)
    clock.now += 400
    assert said(state(journal=journal)) == [(Severity.NOTE, "Nobody has scraped since this exporter started.")]
    assert "Nothing is wrong" in page.page(state(journal=journal)).decode()
    journal.scrape(clock.now)
    assert said(state(journal=journal)) == []
    clock.now += 200
    assert said(state(journal=journal)) == [(Severity.NOTE, "Nobody has scraped for 3 min 20 s.")]


def nasty() -> State:
    """Return a state in which everything that has a name has a dangerous one."""
    journal = Journal(lambda: 1000.0, lambda: 1000.0)
    journal.problem(NASTY)
    journal.skip([(NASTY, "corrupt"), ("x.db", NASTY)])
    listeners = [Listener(NASTY, 99, 100)]
    bad = state(
        gauge(NASTY, 1.0, **{NASTY: NASTY}),
        gauge("authly_exporter_collector_success", 0.0, collector=NASTY),
        gauge("authly_exporter_files", 1.0, type=NASTY),
        gauge("authly_exporter_scrapes", 1.0, outcome=NASTY),
        snapshot=Snapshot([master()], [worker()], listeners),
        journal=journal,
        problem=NASTY,
        settings=((NASTY, NASTY, NASTY),),
    )
    return bad._replace(configuration=bad.configuration._replace(path=f"/{NASTY}", directory=Path(NASTY)))


def test_everything_is_escaped() -> None:
    """No name becomes markup, and what is open is closed."""
    for write in (page.page, page.fragment):
        text = write(nasty()).decode()
        assert NASTY not in text
        assert "&lt;script&gt;alert" in text
        outline = Outline(text)
        assert outline.open == []
        assert outline.names.count("script") == (write is page.page)


def test_the_page_keeps_its_own_rules() -> None:
    """The policy allows neither styles nor scripts in the page, nor anything from elsewhere."""
    text = page.page(nasty()).decode()
    outline = Outline(text)
    assert "style" not in outline.names
    assert not [name for name, _ in outline.attributes if name == "style" or name.startswith("on")]
    for name, value in outline.attributes:
        if name in {"src", "href"} and value is not None:
            assert value.startswith(("-/", "#")) or value in {"metrics", f"{NASTY}"}, value
    for name in page.ASSETS:
        content = page.asset(name).decode()
        assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", content)


def test_tables_and_sections_have_names() -> None:
    """Each table has a caption and headers with a scope, each section a heading, each id exists once."""
    text = page.page(state(ended(), settings=(("A", "b", "default"),))).decode()
    tables = text.count("<table>")
    assert tables == text.count("<caption") >= 5
    assert text.count("<th ") == text.count('scope="col"') + text.count('scope="row"')
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'aria-labelledby="([^"]+)"', text):
        assert target in ids


def test_every_reason_has_words() -> None:
    """Of ends and of skipped files."""
    assert set(page._REASONS) == set(EXIT_REASONS)
    assert set(page._SKIPPED) == set(SKIP_REASONS)


def test_the_twenty_largest_families_are_shown() -> None:
    """Those with most series, the largest first, counters by the name that one asks for."""
    families = [
        Family.of(f"f{n:02}", "counter", "", [Sample("x", (("a", str(i)),), 1.0) for i in range(n)])
        for n in range(1, 31)
    ]
    text = page.page(state(*families)).decode()
    shown = re.findall(r"<code>(f\d\d)_<wbr>total</code>", text)
    assert shown == [f"f{n:02}" for n in range(30, 10, -1)]
