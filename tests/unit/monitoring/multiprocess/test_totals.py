"""Totals: found with little work or with much, they are the same numbers."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.multiprocess import dense_file
from authly.monitoring.multiprocess.file_format import parse_name
from authly.monitoring.multiprocess.reader import File
from authly.monitoring.multiprocess.totals import ABSENT, Totals

COLUMNS = 300
# Numbers of which sums lose digits, so that another order of additions would be seen.
NUMBERS = [0.0, 1.0, 0.1, 1 / 3, 1e16, 1e-9, 3e15 + 0.5]


def make_file(slot: int, values: list[float]) -> File:
    """Return a file of these numbers."""
    name = parse_name(f"counter_s{slot}.db")
    assert name is not None
    file = File(name, -1, slot)
    write(file, values)
    return file


def write(file: File, values: list[float]) -> None:
    """Let a file have other numbers."""
    file.data = bytes(dense_file.HEADER_SIZE) + array("d", values).tobytes()


@given(st.data())
def test_totals_do_not_depend_on_how_they_are_found(data: st.DataObject) -> None:
    """After any history of changes, totals are those that somebody finds who has not seen the history."""
    count = data.draw(st.integers(1, 20))
    # Thousands of numbers, each drawn by itself, would take ten times as long as all that is tested.
    chance = data.draw(st.randoms(use_true_random=True))
    columns = [chance.sample(range(COLUMNS), COLUMNS) for _ in range(count)]
    for order in columns:
        order[chance.randrange(COLUMNS)] = ABSENT
    contents = [[chance.choice(NUMBERS)] * COLUMNS for _ in range(count)]
    files = [make_file(slot, values) for slot, values in enumerate(contents)]
    totals = Totals()
    for file, order in zip(files, columns, strict=True):
        totals.place(file, order, COLUMNS)
    assert totals.update(files, COLUMNS) is None
    for _ in range(data.draw(st.integers(1, 4))):
        touched = set()
        for _ in range(data.draw(st.sampled_from([0, 1, 5, 400]))):
            slot, entry, number = chance.randrange(count), chance.randrange(COLUMNS), chance.choice(NUMBERS)
            if contents[slot][entry] != number:
                contents[slot][entry] = number
                touched.add(columns[slot][entry])
        for file, values in zip(files, contents, strict=True):
            if array("d", values).tobytes() != file.data[dense_file.HEADER_SIZE :]:
                write(file, values)
        changed = totals.update(files, COLUMNS)
        assert changed is None or touched - {ABSENT} >= set(changed)
        anew = Totals()
        for file, order in zip(files, columns, strict=True):
            anew.place(file, order, COLUMNS)
        anew.update(files, COLUMNS)
        assert totals.values == anew.values


def test_few_changes_are_found_alone() -> None:
    """Where one number in one file has changed, its column is the only one that is looked at."""
    contents = [[float(n) for n in range(COLUMNS)] for _ in range(3)]
    files = [make_file(slot, values) for slot, values in enumerate(contents)]
    totals = Totals()
    for file in files:
        totals.place(file, list(range(COLUMNS))[::-1], COLUMNS)
    totals.update(files, COLUMNS)
    contents[1][7] += 0.5
    write(files[1], contents[1])
    assert set(totals.update(files, COLUMNS) or ()) == {COLUMNS - 1 - 7}
    assert totals.values[COLUMNS - 1 - 7] == 3 * 7 + 0.5
    assert set(totals.update(files, COLUMNS) or ()) == set()


def test_a_file_that_is_gone_takes_its_numbers_along() -> None:
    """The totals are of the files that count this time."""
    files = [make_file(slot, [1.0, 2.0]) for slot in range(2)]
    totals = Totals()
    for file in files:
        totals.place(file, [0, 1], 2)
    totals.update(files, 2)
    assert totals.values == [2.0, 4.0]
    assert totals.update(files[:1], 2) is None
    assert totals.values == [1.0, 2.0]


def test_a_column_that_a_file_was_placed_before_is_0_in_it() -> None:
    """Columns that came with a later file add nothing from an earlier one."""
    early, late = make_file(0, [1.0]), make_file(1, [5.0, 7.0])
    totals = Totals()
    totals.place(early, [0], 1)
    totals.place(late, [1, 0], 2)
    totals.update([early, late], 2)
    assert totals.values == [8.0, 5.0]
    write(late, [5.5, 7.0])
    totals.update([early, late], 2)
    assert totals.values == [8.0, 5.5]
