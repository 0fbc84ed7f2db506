"""Business code records, and never asks whether anybody listens."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

import authly
from authly.core.database import create_pool
from authly.core.repository import Database
from authly.identity import Identity
from authly.monitoring.database_metrics import NullDatabaseMetrics
from authly.monitoring.metrics import no_metrics
from authly.monitoring.recorders import NullAuthenticationMetrics, NullOAuthMetrics, NullOIDCMetrics, Recorders
from authly.oauth_server import OAuthServer
from authly.settings import Settings

SOURCE = Path(authly.__file__).parent
PACKAGES = ("admin", "api", "audit", "core", "keys", "oauth", "oidc", "sessions", "tokens", "users")
MODULES = sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py"))


def questions(source: str) -> Iterator[int]:
    """Yield the line of each condition in which metrics, or who records them, occur."""
    for node in ast.walk(ast.parse(source)):
        tests: list[ast.expr] = []
        if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
            tests = [node.test]
        elif isinstance(node, ast.comprehension):
            tests = node.ifs
        elif isinstance(node, ast.Match):
            tests = [node.subject]
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            tests = node.values[:-1]
        for test in tests:
            for part in ast.walk(test):
                name = part.attr if isinstance(part, ast.Attribute) else part.id if isinstance(part, ast.Name) else ""
                # Constants, such as the scope of access tokens that let somebody read metrics, switch nothing.
                if not name.isupper() and any(word in name.lower() for word in ("metrics", "recorder", "measured")):
                    yield test.lineno


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_condition_is_about_metrics(module: Path) -> None:
    """Who records nothing is a null object: there is no `if` about it."""
    assert not list(questions(module.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "if self._metrics is not None:\n    pass",
        "x = 1 if settings.metrics_enabled else 2",
        "metrics and metrics.count()",
        "while recorder:\n    pass",
        "[x for x in y if self.metrics]",
        "assert self._metrics",
    ],
)
def test_a_condition_about_metrics_would_be_found(source: str) -> None:
    """The check sees conditions of every kind."""
    assert list(questions(source)) == [1]


def test_a_default_is_no_condition() -> None:
    """Without anybody to tell, a service tells a null object."""
    assert not list(questions("self._metrics = metrics or NullMetrics()"))


def test_services_are_given_null_objects_where_nothing_is_measured() -> None:
    """From the composition root down to who records: what is off arrives as what does nothing."""
    metrics = no_metrics()
    recorders = Recorders(metrics.oauth, metrics.auth, metrics.oidc, metrics.security)
    pool = create_pool("postgresql://nowhere.invalid/", 1)
    settings = Settings(secret_key=SecretStr("k" * 32))
    database = Database(pool, metrics.database)
    identity = Identity(settings, database, recorders=recorders)
    server = OAuthServer(settings, database, identity.audit, recorders=recorders)
    assert type(database._observer) is NullDatabaseMetrics
    assert type(server.tokens._metrics) is NullOAuthMetrics
    assert type(server.id_tokens._metrics) is NullOIDCMetrics
    assert type(identity.users._metrics) is NullAuthenticationMetrics
    assert type(identity.hasher._metrics) is NullAuthenticationMetrics
    identity.hasher.close()
