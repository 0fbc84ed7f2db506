"""The one place that decides who may look, by the rules of a web configuration file that may change at any time."""

import binascii
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from authly.monitoring.definitions import Definition
from authly.monitoring.exporter.access.bucket import Bucket
from authly.monitoring.exporter.access.changes import Changes
from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.web_config import WebConfig, WebConfigError, parse
from authly.monitoring.exporter.deferred import Deferred, changed
from authly.monitoring.exporter.http import TEXT, Pending, Request, Response
from authly.monitoring.labels import Severity
from authly.monitoring.multiprocess.families import Family

if TYPE_CHECKING:
    import ssl

    from authly.monitoring.exporter.access.passwords import Passwords

VALID = Definition(
    "authly_exporter_web_config_valid",
    "gauge",
    "Whether the web configuration file, as it is now, is the one in force.",
    detail="With a web configuration file: 0 if it cannot be used and an earlier one is, or none.",
    example="authly_exporter_web_config_valid == 0",
)
_REALM = 'realm="authly exporter"'
_REPORT_EVERY = 60.0
# Seconds that a client waits for its password to be checked; the outcome is remembered all the same.
_PATIENCE = 10.0
# What a client did who is kept out, and how bad that is: one who says nothing may not know that he should.
_SILENT = Severity.LOW
_WRONG = Severity.MEDIUM

Respond = Callable[[Request], Response | Pending]


class Access(Protocol):
    """Who may look, as the exporter's process asks."""

    @property
    def protects(self) -> bool:
        """Whether anybody is kept out."""

    def context(self) -> "ssl.SSLContext | None":
        """Return how a connection that begins now is encrypted; None if it is not."""

    def refuse_handshake(self, error: OSError) -> None:
        """Note that a connection could not be encrypted."""

    def respond(self, request: Request, respond: Respond) -> Response | Pending:
        """Let a request through to ``respond``, or not."""

    def collect(self, families: Iterable[Family]) -> list[Family]:
        """Return the families of an exposition with those of this among them."""


class Everybody:
    """Lets everybody look."""

    protects = False

    def context(self) -> None:
        """Return that nothing is encrypted."""

    def refuse_handshake(self, error: OSError) -> None:
        """Do nothing; there are no handshakes."""

    def respond(self, request: Request, respond: Respond) -> Response | Pending:
        """Let a request through."""
        return respond(request)

    def collect(self, families: Iterable[Family]) -> list[Family]:
        """Return the families as they are."""
        return list(families)


class _Rules(NamedTuple):
    """A web configuration in force."""

    config: WebConfig
    context: "ssl.SSLContext | None"
    tokens: tuple[bytes, ...]
    # Apart, so that strangers can not use up what those who may look have.
    limit: Bucket
    limit_of_strangers: Bucket


class Guard:
    """Lets those look who may, by a web configuration file.

    The file, and each that it names, is read again when it has changed. A new one that cannot be used leaves the old
    one in force; without an old one nobody may look. Requests over the Unix socket are those of this instance's own
    workers, which have asked who may look in their own way.

    Args:
        path: the file.
        denials: counts who was kept out.
        monotonic: the clock, in seconds.
        report: takes a line about something an operator should know.
        changes: notices new files.
    """

    def __init__(
        self,
        path: Path,
        denials: Denials,
        monotonic: Callable[[], float],
        report: Callable[[str], None],
        changes: Changes | None = None,
    ) -> None:
        self._path = path
        self._denials = denials
        self._monotonic = monotonic
        self._report = report
        self._changes = changes or Changes()
        self._rules: _Rules | None = None
        self._problem = ""
        self._passwords: Passwords | None = None
        self._report_denials_at = 0.0
        self._unreported = 0
        self._refresh()

    @property
    def protects(self) -> bool:
        """Whether anybody is kept out; everybody is while there are no rules."""
        return self._rules is None or self._rules.config.protects

    # The rules

    def _refresh(self) -> _Rules | None:
        if self._changes.found():
            self._load()
        return self._rules

    def _load(self) -> None:
        before = self._rules
        named: tuple[Path, ...] = before.config.files if before else ()
        self._changes.note({self._path, *named})
        try:
            config = self._parse()
            # Those that the new file names count too, even if it turns out not to be usable.
            self._changes.note_too(config.files)
            self._rules = self._rules_of(config)
        except WebConfigError as error:
            kept = "the rules before it stay in force" if before else "nobody may look until it can"
            self._set_problem(f"The web configuration {self._path} cannot be used, and {kept}: {error}.")
            return
        self._set_problem("")
        if before is not None:
            openly = "" if config.protects else "; everybody may look now"
            self._report(f"The web configuration {self._path} was read again and is in force{openly}.")
        for note in config.notes:
            self._report(f"The web configuration {self._path}: {note}.")

    def _parse(self) -> WebConfig:
        try:
            text = self._path.read_text("utf-8")
        except OSError as error:
            raise WebConfigError(f"it cannot be read ({error.strerror})") from error
        except UnicodeDecodeError:
            raise WebConfigError("it is not UTF-8") from None
        if not text.strip() and self._rules is not None and self._rules.config.protects:
            # A disk that was full, rather than the wish that everybody may look.
            raise WebConfigError("it is empty; to let everybody look, write {} into it")
        return parse(text, self._path.parent)

    def _rules_of(self, config: WebConfig) -> _Rules:
        context = None
        if config.tls is not None:
            from authly.monitoring.exporter.access import tls

            context = tls.context_of(config.tls)
        tokens: tuple[bytes, ...] = ()
        if config.tokens_file is not None:
            from authly.monitoring.exporter.access import tokens as token_files

            try:
                tokens = token_files.read(config.tokens_file)
            except token_files.TokenFileError as error:
                raise WebConfigError(f"bearer_tokens_file {config.tokens_file}: {error}") from error
        if config.users and self._passwords is None:
            from authly.monitoring.exporter.access.passwords import Passwords

            self._passwords = Passwords()
        limits = (Bucket(config.interval, config.burst, self._monotonic) for _ in range(2))
        return _Rules(config, context, tokens, *limits)

    def _set_problem(self, problem: str) -> None:
        if problem and problem != self._problem:
            self._report(problem)
        self._problem = problem

    # Connections

    def context(self) -> "ssl.SSLContext | None":
        """Return how a connection that begins now is encrypted; None if it is not."""
        rules = self._refresh()
        return rules.context if rules else None

    def refuse_handshake(self, error: OSError) -> None:
        """Note that a connection could not be encrypted, if that was because of the client's certificate."""
        reason = getattr(error, "reason", None)
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self._count_denial(_SILENT, "a client", "no certificate")
        elif reason == "CERTIFICATE_VERIFY_FAILED":
            self._count_denial(_WRONG, "a client", "a certificate that is not accepted")

    # Requests

    def respond(self, request: Request, respond: Respond) -> Response | Pending:
        """Let a request through to ``respond``, or answer 401, 403, 429 or 503."""
        if request.is_local:
            return respond(request)
        rules = self._refresh()
        if rules is None:
            return Response(503, TEXT, b"The web configuration cannot be used; the exporter's log says why.\n")

        def through(request: Request) -> Response | Pending:
            answer = respond(request) if rules.limit.take() else _too_many()
            return changed(answer, lambda response: _with_headers(response, rules))

        sans = rules.config.tls.allowed_sans if rules.config.tls else None
        if sans is not None and sans.isdisjoint(request.certificate_names):
            self._count_denial(_WRONG, request.peer, "a certificate of somebody else")
            return _with_headers(Response(403, TEXT, b"This certificate is not among those that may look.\n"), rules)
        if not rules.config.users and rules.config.tokens_file is None:
            return through(request)
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        scheme, credentials = scheme.lower(), credentials.strip(" ")
        if scheme == "bearer" and rules.config.tokens_file is not None:
            from authly.monitoring.exporter.access import tokens

            if tokens.matches(rules.tokens, credentials):
                return through(request)
            return self._deny(request, rules, _WRONG)
        pair = _name_and_password(credentials) if scheme == "basic" else None
        if pair is None or self._passwords is None or not rules.config.users:
            return self._deny(request, rules, _SILENT if not scheme else _WRONG)
        return self._check_password(request, rules, *pair, through)

    def _check_password(
        self, request: Request, rules: _Rules, name: bytes, password: bytes, through: Respond
    ) -> Response | Pending:
        assert self._passwords is not None
        users: Mapping[str, str] = rules.config.users
        outcome = self._passwords.known(users, name, password)
        if outcome is not None:
            return through(request) if outcome else self._deny(request, rules, _WRONG)
        if not rules.limit_of_strangers.take():
            return _with_headers(_too_many(), rules)

        late = Response(503, TEXT, b"Too many others are asking; come again.\n", (("retry-after", "1"),))
        deferred = Deferred(self._monotonic() + _PATIENCE, _with_headers(late, rules))

        def conclude(outcome: bool | None) -> None:
            if outcome is None:
                deferred.resolve(lambda: _with_headers(_too_many(), rules))
            elif outcome and self._rules is rules:
                deferred.resolve(lambda: through(request))
            else:
                # Of rules that were replaced meanwhile nothing follows; the client asks again.
                deferred.resolve(lambda: self._denied(request, rules, _WRONG))

        self._passwords.ask(users, name, password, _network(request.peer), conclude)
        return deferred

    def _deny(self, request: Request, rules: _Rules, severity: Severity) -> Response:
        denied = self._denied(request, rules, severity)
        return denied if rules.limit_of_strangers.take() else _with_headers(_too_many(), rules)

    def _denied(self, request: Request, rules: _Rules, severity: Severity) -> Response:
        self._count_denial(severity, request.peer, "no credentials" if severity is _SILENT else "wrong credentials")
        challenges = []
        if rules.config.users:
            challenges.append(("www-authenticate", f"Basic {_REALM}"))
        if rules.config.tokens_file is not None:
            challenges.append(("www-authenticate", f"Bearer {_REALM}"))
        return _with_headers(Response(401, TEXT, b"Who may look has to say who he is.\n", tuple(challenges)), rules)

    def _count_denial(self, severity: Severity, peer: str, reason: str) -> None:
        self._denials.count(severity)
        self._unreported += 1
        now = self._monotonic()
        # The number is in the metrics; the log names one of many, however many there are.
        if now >= self._report_denials_at:
            others = f", and {self._unreported - 1} before it" if self._unreported > 1 else ""
            self._report(f"A request of {peer} to the exporter was denied for {reason}{others}.")
            self._report_denials_at, self._unreported = now + _REPORT_EVERY, 0

    # Metrics

    def collect(self, families: Iterable[Family]) -> list[Family]:
        """Return the families of an exposition with those of this among them."""
        return [*self._denials.added_to(families), Family.defined(VALID, [((), not self._problem)])]


def _name_and_password(credentials: str) -> tuple[bytes, bytes] | None:
    """Return what a client of HTTP Basic sent (RFC 7617); None if it is not that."""
    try:
        decoded = binascii.a2b_base64(credentials.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    name, colon, password = decoded.partition(b":")
    return (name, password) if colon else None


def _network(address: str) -> str:
    """Return what stands for a client: its address, of IPv6 the network that one subscriber has to himself."""
    if ":" not in address:
        return address
    from ipaddress import IPv6Network

    try:
        return str(IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


def _too_many() -> Response:
    return Response(429, TEXT, b"Too many requests; come again in a second.\n", (("retry-after", "1"),))


def _with_headers(response: Response, rules: _Rules) -> Response:
    return response._replace(headers=(*response.headers, *rules.config.headers)) if rules.config.headers else response
