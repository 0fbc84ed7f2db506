"""From settings to the configuration of the exporter: the same for the Gunicorn master and for each worker."""

from authly.monitoring.exporter.application import Configuration
from authly.settings import Settings, shown


def exporter_configuration(settings: Settings) -> Configuration:
    """Return how the exporter is to be set up."""
    return Configuration(
        settings.metrics_directory,
        settings.metrics_path,
        settings.metrics_rate_limit,
        collectors=settings.metrics_collectors,
        series_ttl=settings.metrics_series_ttl,
        log_format=settings.log_format,
        constant_labels=settings.metrics_const_labels,
        settings=shown(settings),
        web_config_file=str(settings.metrics_web_config_path or ""),
    )
