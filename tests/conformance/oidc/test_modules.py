"""That there is a test of our own for each module of certification's plans."""

from types import ModuleType

import pytest

from tests.conformance.oidc import test_basic_op, test_config_op, test_rp_initiated_logout

BASIC = """
    server server-client-secret-post response-type-missing idtoken-signature idtoken-unsigned userinfo-get
    userinfo-post-header userinfo-post-body ensure-request-without-nonce-succeeds-for-code-flow scope-profile
    scope-email scope-address scope-phone scope-all alternate-happy-flow display-page display-popup prompt-login
    prompt-none-not-logged-in prompt-none-logged-in max-age-1 max-age-10000
    ensure-request-with-unknown-parameter-succeeds id-token-hint login-hint ui-locales claims-locales
    ensure-request-with-acr-values-succeeds codereuse codereuse-30seconds ensure-registered-redirect-uri
    ensure-post-request-succeeds request-uri-unsigned-supported-correctly-or-rejected-as-unsupported
    unsigned-request-object-supported-correctly-or-rejected-as-unsupported claims-essential
    ensure-request-object-with-redirect-uri refresh-token ensure-request-with-valid-pkce-succeeds
"""
CONFIG = "discovery-endpoint-verification"
LOGOUT = """
    rp-initiated-logout-discovery-endpoint-verification rp-initiated-logout
    rp-initiated-logout-bad-post-logout-redirect-uri rp-initiated-logout-modified-id-token-hint
    rp-initiated-logout-bad-id-token-hint rp-initiated-logout-no-id-token-hint rp-initiated-logout-no-params
    rp-initiated-logout-no-post-logout-redirect-uri rp-initiated-logout-no-state rp-initiated-logout-only-state
    rp-initiated-logout-query-added-to-post-logout-redirect-uri
"""


@pytest.mark.parametrize(
    ("plan", "module", "count"),
    [(BASIC, test_basic_op, 38), (CONFIG, test_config_op, 1), (LOGOUT, test_rp_initiated_logout, 11)],
    ids=["basic", "config", "rp-initiated-logout"],
)
def test_each_has_a_test(plan: str, module: ModuleType, count: int) -> None:
    """Each module of a plan has the test that is named after it."""
    names = plan.split()
    assert len(set(names)) == count
    assert [name for name in names if not hasattr(module, f"test_oidcc_{name.replace('-', '_')}")] == []
