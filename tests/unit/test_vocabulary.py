"""Which values tests produce is seen, not believed (tests/vocabulary.py)."""

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from authly.monitoring.catalogue import Process, Section, catalogue
from authly.monitoring.definitions import closed
from tests import vocabulary
from tests.vocabulary import Series, Value, Watch, missing, promise, promised

pytest_plugins = ["pytester"]

COUNTER, GAUGE = "authly_cleanup_runs_total", "gunicorn_workers"
ERROR, BUSY = Value(COUNTER, "status", "error"), Value(GAUGE, "state", "busy")
HEAD = """
    import pytest
    from prometheus_client import CollectorRegistry, Counter, Gauge

    @pytest.fixture
    def registry():
        return CollectorRegistry()
"""


def counted(errors: float, busy: float = 0.0) -> Series:
    """Return series of one moment."""
    return {
        (COUNTER, frozenset({("task", "tokens"), ("status", "error")})): errors,
        (COUNTER, frozenset({("task", "tokens"), ("status", "success")})): 7.0,
        (GAUGE, frozenset({("state", "busy")})): busy,
    }


@pytest.mark.parametrize(
    ("values", "act", "complaints"),
    [
        ('"error",', 'runs.labels("error").inc()', []),
        ('"error",', "", ["*cleanup_runs_total status error"]),
        ('"error", "timeout"', 'runs.labels("error").inc()', ["*cleanup_runs_total status timeout"]),
        ('"error",', 'runs.labels("error")', ["*cleanup_runs_total status error"]),
        ('"error",', "assert False", ["E*assert False"]),
        ('"errors",', "", ["*no vocabulary has authly_cleanup_runs_total status errors"]),
    ],
)
def test_a_test_has_to_keep_what_it_promises(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, values: str, act: str, complaints: list[str]
) -> None:
    """A test whose metric did not rise under each value that it promised fails, and says which."""
    # Not those that are installed, which take longer to load than all of this.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    source = f"""
    @pytest.mark.produces("authly_cleanup_runs_total", status=({values}))
    def test_something(registry):
        runs = Counter("authly_cleanup_runs_total", "Help.", ["status"], registry=registry)
        {act}
    """
    pytester.makepyfile(dedent(HEAD) + dedent(source))
    result = pytester.runpytest_inprocess("--strict-markers", plugins=[vocabulary])
    result.stdout.fnmatch_lines(complaints)
    assert (result.ret == pytest.ExitCode.OK) == (not complaints)


def test_what_is_there_already_is_no_rise() -> None:
    """What other tests did to an instance that outlives them does not count; to one of the test's own nobody did."""
    watch = Watch({ERROR}, lambda: 100.0)
    for errors in (5.0, 5.0, 4.0):
        watch.see(counted(errors), "shared", made=99.0)
        assert watch.missing == {ERROR}
    # Another one has other numbers.
    watch.see(counted(6.0), "another", made=99.0)
    assert watch.missing == {ERROR}
    watch.see(counted(6.0), "shared", made=99.0)
    assert not watch.missing
    watch = Watch({ERROR}, lambda: 100.0)
    watch.see(counted(1.0), "own", made=101.0)
    assert not watch.missing


def test_a_gauge_has_to_show_something() -> None:
    """A series that is there, and is 0, says nothing of its value; one that was not 0 for a moment does."""
    watch = Watch({BUSY}, lambda: 100.0)
    watch.see(counted(0.0), "own", made=101.0)
    assert watch.missing == {BUSY}
    watch.see(counted(0.0, busy=1.0), "own", made=101.0)
    watch.see(counted(0.0), "own", made=101.0)
    assert not watch.missing


@pytest.mark.parametrize(
    ("metric", "labels"),
    [(COUNTER, {}), (COUNTER, {"status": ()}), (COUNTER, {"state": ("error",)}), ("nothing_total", {"a": ("b",)})],
)
def test_a_promise_is_about_what_there_is(metric: str, labels: dict[str, tuple[str, ...]]) -> None:
    """Of no value at all, of another label or of another metric there is nothing to promise."""
    with pytest.raises(AssertionError):
        promise(metric, **labels)


def test_promises_are_read_from_the_source(tmp_path: Path) -> None:
    """Those of each test count, and of its parameters, be it run or not; what is no test promises nothing."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/test_it.py").write_text(
        dedent("""
        import pytest, nothing_that_can_be_imported

        @pytest.mark.produces("authly_cleanup_runs_total", status=("error",), task=("tokens", "devices"))
        @pytest.mark.parametrize(
            "state", [pytest.param("x", marks=pytest.mark.produces("gunicorn_workers", state=("busy",)))]
        )
        async def test_something(): ...

        @pytest.mark.produces("authly_cleanup_runs_total", status=("timeout",))
        def no_test(): ...

        TEXT = '@pytest.mark.produces("authly_cleanup_runs_total", status=("success",))'
        """)
    )
    (tmp_path / "helper.py").write_text((tmp_path / "below/test_it.py").read_text().replace("error", "success"))
    tasks = {Value(COUNTER, "task", task) for task in ("tokens", "devices")}
    assert promised(tmp_path) == {ERROR, BUSY, *tasks}


@pytest.mark.parametrize("process", ["worker", "master", "exporter"])
def test_a_value_that_is_added_is_missing_until_a_test_produces_it(process: Process, tmp_path: Path) -> None:
    """A vocabulary that grows, whosever it is, is noticed, and so is a metric that gets its first one."""
    section = next(
        Section("grown", ((replace(definition, labels={**definition.labels, "x": closed(["old", "new"])}), by),))
        for section in catalogue()
        for definition, by in section.definitions
        if by == process
    )
    name = section.definitions[0][0].name
    # Whatever it had before is produced, and the old value.
    before = vocabulary.vocabulary([section]) - {Value(name, "x", "new")}
    assert missing(before, [section], tmp_path) == {Value(name, "x", "new")}
    assert missing({*before, Value(name, "x", "new")}, [section], tmp_path) == set()


def test_a_promise_makes_up_for_what_was_not_seen(tmp_path: Path) -> None:
    """A value that the flows do not lead to is not missing where a test promises it."""
    section = next(each for each in catalogue() if each.name == "cleanup")
    wanted = vocabulary.vocabulary([section])
    assert ERROR in wanted
    assert missing(wanted - {ERROR}, [section], tmp_path) == {ERROR}
    (tmp_path / "test_it.py").write_text(f'@pytest.mark.produces("{COUNTER}", status=("error",))\ndef test_it(): ...\n')
    assert missing(wanted - {ERROR}, [section], tmp_path) == set()


def test_each_promise_is_of_the_catalogue() -> None:
    """No mark names what no vocabulary has any more."""
    assert promised() <= vocabulary.vocabulary()
