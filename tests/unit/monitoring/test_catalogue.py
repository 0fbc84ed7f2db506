"""The catalogue: all metrics that there are, and nothing else."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest

from authly.cli.__main__ import authly
from authly.monitoring.cache_metrics import CACHE_OPERATIONS_TOTAL
from authly.monitoring.catalogue import NAMESPACE, catalogue, definitions_of, records
from authly.monitoring.definitions import Definition
from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.guard import Guard
from authly.monitoring.exporter.collectors import runner
from authly.monitoring.exporter.collectors.cgroups import Limits
from authly.monitoring.exporter.collectors.gunicorn import GunicornCollector
from authly.monitoring.exporter.collectors.own import OwnCollector
from authly.monitoring.exporter.collectors.system import Instance, SystemCollector, container_families
from authly.monitoring.exporter.ratios import with_hit_ratio
from authly.monitoring.gunicorn.recorder import COUNTERS
from authly.monitoring.instruments import Instruments
from authly.monitoring.labels import LABEL_NAMES, Group
from authly.monitoring.master_facts import ListenerFacts, MasterFacts, WorkerFacts, namespace, write
from authly.monitoring.metrics import compose
from authly.monitoring.multiprocess.collector import DirectoryCollector
from authly.monitoring.multiprocess.families import Family, Sample
from authly.monitoring.multiprocess.lease import MASTER, Lease
from authly.monitoring.multiprocess.value_file import ValueFile
from authly.monitoring.multiprocess.values import DROPPED
from tests.prometheus import program

SECTIONS = list(catalogue())
# What a share is computed of.
LOOK_UPS = Family.of(
    CACHE_OPERATIONS_TOTAL.family,
    "counter",
    CACHE_OPERATIONS_TOTAL.help,
    [Sample(CACHE_OPERATIONS_TOTAL.name, (("cache", "clients"), ("operation", "get"), ("status", "hit")), 1.0)],
)
DEFINITIONS = [definition for section in SECTIONS for definition, _ in section.definitions]


def of_sections(*names: str) -> dict[str, Definition]:
    """Return the definitions of some sections by their names."""
    chosen = (section for section in SECTIONS if section.name in names)
    return {definition.name: definition for section in chosen for definition, _ in section.definitions}


@pytest.mark.parametrize("group", Group)
def test_a_group_has_what_its_layer_makes(group: Group) -> None:
    """What a layer asks for, it defines in its module; and it asks for all that is defined there."""
    instruments = Instruments(NAMESPACE, CollectorRegistry())
    foundation = len(instruments.definitions)
    compose([group], instruments)
    made = instruments.definitions[foundation:]
    assert {definition.name for definition in made} == {definition.name for definition in definitions_of(group)}
    assert len(made) == len({definition.name for definition in made})


def test_what_all_groups_stand_on_is_in_the_catalogue() -> None:
    """The count of label values that became other, and that of series that could not be stored."""
    (overflow,) = Instruments(NAMESPACE, CollectorRegistry()).definitions
    assert of_sections("foundation") == {overflow.name: overflow, DROPPED.name: DROPPED}


def gunicorn_families(directory: Path) -> list[Family]:
    """Return what the Gunicorn collector has to say of a master and its worker, both of which this process plays."""
    with contextlib.ExitStack() as stack:
        master, _ = (stack.enter_context(contextlib.closing(Lease.acquire(directory, kind))) for kind in (MASTER, "s"))
        heart = stack.enter_context((directory / "heart").open("wb")).fileno()
        os.utime(heart, (time.monotonic(), time.monotonic()))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        file = ValueFile(directory / "gauge_livesum_s0.db", None, lambda _: None)
        file.place(b'["requests_in_progress", "requests_in_progress", {}, "Help."]')
        stack.callback(file.close)
        facts = MasterFacts(
            os.getpid(), 0.0, 1, False, 100, namespace("pid"), namespace("net"),
            (WorkerFacts(os.getpid(), 0.0, heart, os.fstat(heart).st_ino),),
            (ListenerFacts("x", os.fstat(listener.fileno()).st_ino, *listener.getsockname()),),
        )  # fmt: skip
        write(directory, master.slot, facts)
        return GunicornCollector(directory).collect()


def test_what_is_seen_from_outside_is_in_the_catalogue(tmp_path: Path) -> None:
    """Everything that the exporter and the master have to say: no family more, none less, with these labels."""
    collection = DirectoryCollector(tmp_path, time.monotonic).collect()
    families = [
        *OwnCollector().collect(collection, tmp_path),
        *runner.families_of([runner.Status("own", 0.0, True)]),
        # Everything at once: this process stands for the master, and for the exporter.
        *SystemCollector(Instance(os.getpid())).collect(),
        *container_families(Limits(1.0, 1.0, 1.0)),
        *Guard(tmp_path / "nowhere.yml", Denials(), time.monotonic, lambda _: None).collect([]),
        *gunicorn_families(tmp_path),
        *with_hit_ratio([LOOK_UPS]),
    ]
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label, _ in sample.labels} - {"le"}
        found[name] = family.type, family.help, labels
    for key in COUNTERS:
        family, name, labels, help_ = json.loads(key)
        found[name] = "counter", help_, set(labels)
    del found[CACHE_OPERATIONS_TOTAL.name]
    # The one family that workers and the exporter have in common.
    (shared,) = definitions_of(Group.SECURITY)
    assert found.pop(shared.name) == (shared.type, shared.help, set(shared.labels))
    assert found == {
        name: (definition.type, definition.help, set(definition.labels))
        for name, definition in of_sections("gunicorn", "processes", "exporter").items()
    }


def test_values_that_are_seen_from_outside_are_in_the_vocabularies(tmp_path: Path) -> None:
    """Labels of the exporter have no values but those of the catalogue, where it is closed."""
    collection = DirectoryCollector(tmp_path, time.monotonic).collect()
    families = [
        *OwnCollector().collect(collection, tmp_path),
        *SystemCollector(Instance(os.getpid())).collect(),
        *gunicorn_families(tmp_path),
    ]
    known = of_sections("gunicorn", "processes", "exporter")
    for family in families:
        definition = known[f"{family.name}_total" if family.type == "counter" else family.name]
        for label, values in definition.labels.items():
            found = {dict(sample.labels)[label] for sample in family.samples}
            assert values.others or found <= set(values.known), (definition.name, label)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_a_definition_follows_the_rules(definition: Definition) -> None:
    """Names, units, help texts and labels are as docs/metrics.md promises, and there is an example of the metric."""
    assert re.fullmatch(r"(authly|gunicorn)_[a-z]+[a-z_]*", definition.name)
    assert (definition.type == "counter") == definition.name.endswith("_total")
    assert definition.help.endswith(".")
    assert definition.name in definition.example
    assert set(definition.labels) <= LABEL_NAMES
    assert (definition.type == "histogram") == bool(definition.buckets)
    assert definition.type != "histogram" or definition.name.endswith("_seconds")
    for values in definition.labels.values():
        assert values.known or values.others
        assert len(set(values.known)) == len(values.known)


def test_no_label_name_is_reserved_for_nothing() -> None:
    """What constant labels may not be called is what labels are called."""
    assert {label for definition in DEFINITIONS for label in definition.labels} == LABEL_NAMES


def test_no_name_is_given_twice() -> None:
    """Each family is one metric's."""
    assert len({definition.name for definition in DEFINITIONS}) == len(DEFINITIONS)


def exposition() -> Iterator[str]:
    """Yield a line or more for each metric, as an instance would show it that has had everything happen."""
    instruments = Instruments(NAMESPACE, CollectorRegistry())
    for definition in DEFINITIONS:
        if definition.name == instruments.definitions[0].name:
            continue
        metric = getattr(instruments, definition.type)(definition)
        if definition.labels:
            metric.labels(*(values.known[0] if values.known else "x" for values in definition.labels.values()))
    yield re.sub(r"(?m)^.*_created.*\n", "", generate_latest(instruments._registry).decode())


def test_promtool_has_no_complaint_about_any_metric() -> None:
    """`promtool check metrics` accepts names, types, units and help texts of all families."""
    shown = "".join(exposition()).encode()
    check = subprocess.run([program("promtool"), "check", "metrics"], input=shown, capture_output=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")


def test_every_example_is_a_query(tmp_path: Path) -> None:
    """Prometheus can parse each of them."""
    rules = [{"record": f"example:{number}", "expr": each.example} for number, each in enumerate(DEFINITIONS)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "examples", "rules": rules}]}))
    check = subprocess.run(
        [program("promtool"), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, check=False
    )
    assert check.returncode == 0, check.stderr


def test_the_catalogue_is_printed() -> None:
    """For programs with --json, and for people without; one group, or an error that names them."""
    runner_ = CliRunner()
    answer = runner_.invoke(authly, ["metrics", "catalog", "--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == list(records())
    answer = runner_.invoke(authly, ["metrics", "catalog", "--group", "cache"])
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0] == "authly_cache_operations_total counter by cache, operation, status"
    assert "    cache: clients, scopes" in lines
    answer = runner_.invoke(authly, ["metrics", "catalog", "--group", "weather"])
    assert answer.exit_code == 2
    assert "http" in answer.stderr
