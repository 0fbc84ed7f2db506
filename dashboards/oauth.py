"""OAuth and OIDC: what clients ask for, what they get, and with which keys."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.expressions import level, quantile, rate, select, share
from dashboards.panels import Board, Look, Query, Words, bars, graph, number

_SUCCESS = 'status="success"'
_ERROR = 'status!="success"'
_CODE = 'grant_type="authorization_code"'


def build() -> Dashboard:
    """Return the dashboard."""
    return (
        Board(
            "authly-oauth", "OAuth and OIDC", "The way from an authorization request to tokens; grants, errors, keys."
        )
        .row(
            "From the question to the token",
            graph(
                Words(
                    "The funnel",
                    "How many of those who ask get a code, redeem it, and are given an access token. Codes that nobody "
                    "redeems: a client cannot reach the token endpoint. Questions without codes: people turn back.",
                    "tokens#authlynotokensissued",
                    "Nobody was sent here by a client yet",
                ),
                Look("reqps", 12),
                Query(rate("authly_oauth_authorization_requests_total"), "1 answered"),
                Query(rate("authly_oauth_authorization_requests_total", where=_SUCCESS), "2 got a code"),
                Query(rate("authly_oauth_token_requests_total", where=_CODE), "3 code presented"),
                Query(
                    rate("authly_oauth_tokens_issued_total", where=f'{_CODE}, token_type="access_token"'),
                    "4 access token issued",
                ),
            ),
            graph(
                Words(
                    "Answers to authorization requests",
                    "access_denied: people said no. login_required, consent_required: clients asked without a page. "
                    "Others: a client that is set up wrongly.",
                    "tokens#authlytokenerrors",
                    "Nobody was sent here by a client yet",
                ),
                Look("reqps", 12, stacked=True),
                Query(
                    rate("authly_oauth_authorization_requests_total", "response_type, status") + " > 0",
                    "{{response_type}} {{status}}",
                ),
            ),
        )
        .row(
            "Tokens",
            graph(
                Words(
                    "Token requests",
                    "Token requests a second, by grant.",
                    "tokens#authlynotokensissued",
                    "No token was asked for yet",
                ),
                Look("reqps", stacked=True),
                Query(rate("authly_oauth_token_requests_total", "grant_type"), "{{grant_type}}"),
            ),
            graph(
                Words(
                    "Errors of token requests",
                    "By grant and error code. invalid_client: secrets. invalid_grant: codes and refresh tokens.",
                    "tokens#authlytokenerrors",
                    "No token request failed in this time",
                ),
                Look("reqps", stacked=True),
                Query(
                    rate("authly_oauth_token_requests_total", "grant_type, status", _ERROR) + " > 0",
                    "{{grant_type}} {{status}}",
                ),
            ),
            graph(
                Words(
                    "Share that fails",
                    "Of token requests. A quarter for ten minutes is an alert.",
                    "tokens#authlytokenerrors",
                    "No token was asked for in this time",
                ),
                Look("percentunit", most=1, warning=0.1, alarm=0.25),
                Query(
                    share(
                        rate("authly_oauth_token_requests_total", where=_ERROR),
                        rate("authly_oauth_token_requests_total"),
                    ),
                    "token requests",
                ),
            ),
            graph(
                Words("Issued", "Tokens a second that clients were given.", "tokens", "No token was issued yet"),
                Look("ops", stacked=True),
                Query(
                    rate("authly_oauth_tokens_issued_total", "token_type, grant_type"), "{{token_type}} {{grant_type}}"
                ),
            ),
            graph(
                Words(
                    "Revoked",
                    "What ended before its time, by reason. code_reuse, refresh_reuse: tokens may have been stolen.",
                    "tokens#authlyrefreshtokenreuse",
                    "Nothing was revoked yet",
                ),
                Look("ops", stacked=True, bars=True),
                Query(rate("authly_oauth_token_revocations_total", "token_type, reason"), "{{token_type}} {{reason}}"),
            ),
            graph(
                Words("Making a token", "Time to make one, the chosen percentile.", "slo#authlylatencyburnfast"),
                Look("s"),
                Query(quantile("authly_oauth_token_generation_duration_seconds", "token_type"), "{{token_type}}"),
                Query(quantile("authly_oidc_id_token_duration_seconds", "algorithm"), "id_token {{algorithm}}"),
            ),
        )
        .row(
            "Clients",
            graph(
                Words(
                    "Clients that authenticate",
                    "By method and outcome. failure: a wrong secret or assertion.",
                    "tokens#authlyclientauthenticationfailures",
                    "No client authenticated yet",
                ),
                Look("reqps", stacked=True),
                Query(
                    rate("authly_oauth_client_authentications_total", "method, status") + " > 0",
                    "{{method}} {{status}}",
                ),
            ),
            graph(
                Words(
                    "Requests by client",
                    "Only with AUTHLY_METRICS_INCLUDE_CLIENT_IDS, and by a keyed hash of the client id.",
                    "tokens",
                    "Clients are not told apart: AUTHLY_METRICS_INCLUDE_CLIENT_IDS is off",
                ),
                Look("reqps", stacked=True),
                Query(
                    "topk(10, " + rate("authly_oauth_client_requests_total", "client_id, endpoint") + ")",
                    "{{client_id}} {{endpoint}}",
                ),
            ),
            graph(
                Words("Introspections", "Tokens that resource servers asked about.", "tokens", "Nobody asked yet"),
                Look("reqps", stacked=True),
                Query(rate("authly_oauth_introspections_total", "status"), "{{status}}"),
            ),
            bars(
                Words(
                    "Valid tokens", "Tokens that have not expired and are not revoked.", "tokens", "Not looked at yet"
                ),
                Look("short"),
                Query(level("authly_oauth_active_tokens", "token_type", how="max"), "{{token_type}}"),
            ),
            bars(
                Words("Registered clients", "Clients that are enabled.", "tokens", "Not looked at yet"),
                Look("short"),
                Query(level("authly_oauth_clients", "client_type", how="max"), "{{client_type}}"),
            ),
        )
        .row(
            "OpenID Connect and keys",
            graph(
                Words(
                    "Requests",
                    "Discovery, keys, userinfo and logout, by answer.",
                    "slo#authlyerrorsburnfast",
                    "Nobody asked yet",
                ),
                Look("reqps", stacked=True),
                Query(rate("authly_oidc_requests_total", "endpoint, status") + " > 0", "{{endpoint}} {{status}}"),
            ),
            bars(
                Words(
                    "Signing keys",
                    "active ones sign. pending ones will. retiring ones verify what they signed.",
                    "keys#authlysigningkeymissing",
                    "Not looked at yet",
                ),
                Look("short"),
                Query(level("authly_oidc_signing_keys", "state", how="max"), "{{state}}"),
            ),
            number(
                Words(
                    "Age of the oldest key that signs",
                    "Replaced after AUTHLY_SIGNING_KEY_DAYS (90).",
                    "keys#authlysigningkeyold",
                    "Not looked at yet",
                ),
                Look("s", warning=91 * 86400, alarm=100 * 86400),
                Query(f"max({select('authly_oidc_signing_key_age_seconds')})"),
            ),
        )
        .build()
    )
