"""The names of queries: those of the repositories, and no others."""

import ast
from collections.abc import Iterator

from authly.monitoring.database_operations import DATABASE_OPERATIONS
from tests.instance import REPOSITORY

_RUN_QUERIES = {"_all", "_one", "_execute", "timed"}


def names() -> Iterator[str]:
    """Yield the name of each query of each repository, as it stands in the source."""
    for path in (REPOSITORY / "src/authly").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _RUN_QUERIES:
                match node.args:
                    case [ast.Constant(str(name)), *_]:
                        yield name


def test_each_query_of_a_repository_is_registered() -> None:
    """A query whose name is not in the vocabulary would be counted as other; a name without a query would stay at 0."""
    found = set(names())
    assert len(found) > 80
    assert found == DATABASE_OPERATIONS
