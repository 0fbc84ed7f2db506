"""Structured logs: one shape for Authly's own lines and for those of Gunicorn, Uvicorn and every library."""

import logging
import sys
from typing import Any

import gunicorn.glogging
import structlog
from structlog.typing import EventDict, Processor

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_format = "json"


def _drop_color_message(_: Any, __: str, event: EventDict) -> EventDict:
    """Remove Uvicorn's second copy of its message, which is meant for terminals."""
    event.pop("color_message", None)
    return event


def formatter() -> logging.Formatter:
    """Return the formatter of the configured format."""
    render: list[Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if _format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), _drop_color_message],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def configure(level: str, format_: str) -> None:
    """Send every log line of this process to standard error in one shape.

    Args:
        level: the least important level to write: debug, info, warning, error or critical.
        format_: json (an object a line) or console (for people).
    """
    global _format
    _format = format_
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Tests configure more than once.
        cache_logger_on_first_use=False,
    )


class GunicornLogger(gunicorn.glogging.Logger):  # type: ignore[misc]
    """Gunicorn's logger with Authly's formatter.

    Not ``logconfig_dict``: with it Gunicorn takes its access log for switched on, and prepares a line for each request
    that nobody reads.
    """

    def setup(self, cfg: Any) -> None:
        """Set up as Gunicorn does, at the start and at each reload."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())
