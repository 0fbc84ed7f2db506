"""What some tests need besides Python: tools, rights."""

import os

import pytest


def require(name: str, available: bool, reason: str) -> None:
    """Skip a test that cannot run here; fail it where it must run.

    Args:
        name: what the test needs, such as promtool or mount.
        available: whether it is there.
        reason: what is missing, and how to get it.
    """
    if available:
        return
    if name in os.environ.get("AUTHLY_TEST_REQUIRE", "").split(","):
        pytest.fail(f"AUTHLY_TEST_REQUIRE names {name}, but {reason}")
    pytest.skip(reason)
