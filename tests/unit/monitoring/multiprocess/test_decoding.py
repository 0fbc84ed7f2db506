"""One file taken apart: as prometheus-client reads it, and never anything but an error for what is none."""

import os
from pathlib import Path
from typing import Any

import prometheus_client.mmap_dict
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import mmap_key

from authly.monitoring.multiprocess.decoding import decode
from authly.monitoring.multiprocess.file_format import CorruptFileError
from tests.unit.monitoring.multiprocess.support import key, metric_file

new_stock_file: Any = prometheus_client.mmap_dict.MmapedDict


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(values=st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False), max_size=8))
def test_a_file_of_prometheus_client_is_read_as_it_was_written(values: dict[str, float], tmp_path: Path) -> None:
    """Labels of any text, values of any size, in the order in which they were written."""
    path = tmp_path / "gauge_mostrecent_4711.db"
    path.unlink(missing_ok=True)
    written = new_stock_file(str(path))
    for label, value in values.items():
        written.write_value(mmap_key("x", "x", ["label"], [label], "Help."), value, 5.0)
    written.close()
    file = decode(path)
    assert [(entry.labels["label"], entry.value, entry.timestamp) for entry in file.entries] == [
        (label, value, 5.0) for label, value in values.items()
    ]
    assert file.name is not None
    assert (file.name.writer, file.name.slot) == ("4711", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    content=st.binary(max_size=300)
    | st.binary(max_size=80).map(lambda tail: metric_file([(key("x"), 1.0, 0.0)]) + tail)
)
def test_any_bytes_are_a_file_or_corrupt(content: bytes, tmp_path: Path) -> None:
    """Nothing else is raised, whatever a file holds."""
    path = tmp_path / "counter_s0.db"
    path.write_bytes(content)
    try:
        file = decode(path)
    except CorruptFileError:
        return
    assert file.used <= file.size == len(content)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO without a writer, a directory and a symbolic link are errors at once."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("fifo", "link", "."):
        with pytest.raises(OSError):
            decode(tmp_path / name)
