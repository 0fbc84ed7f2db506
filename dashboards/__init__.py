"""The dashboards, as code: what is shown of Authly in Grafana.

Owns which panels there are, what they ask Prometheus, and what they tell people about it. Does not own the metrics or
the rules: a panel asks for what ``docs/metrics.md`` and ``docker-compose/prometheus/rules`` have. One module for each
dashboard; ``python -m dashboards`` (``make dashboards``) writes the JSON that Grafana is provisioned with. ``drawing``
shows that JSON where there is no Grafana.
"""

from collections.abc import Callable

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import authentication, oauth, overview, resources, workers

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "authly-overview": overview.build,
    "authly-oauth": oauth.build,
    "authly-authentication": authentication.build,
    "authly-resources": resources.build,
    "authly-workers": workers.build,
}
