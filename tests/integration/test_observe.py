"""``make observe``: what anybody sees who has no containers, for as long as a test has time."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.alerting import rules
from tests.instance import REPOSITORY, get
from tests.processes import children, is_alive, wait_until
from tests.prometheus import program


def family(pid: int) -> set[int]:
    """Return the process ids of a process and of all below it."""
    return {pid}.union(*(family(child) for child in children(pid)))


def test_traffic_is_scraped_judged_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    """Targets are up, rules are evaluated without error, Alertmanager is known, tokens are issued; then all ends."""
    program("prometheus")
    program("alertmanager")
    log = (tmp_path / "log").open("wb")
    # What a shell starts in the background ignores Ctrl-C, and so does all that it starts in turn, unless it is told.
    observe = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "tests.observe", "--free-ports", "--seconds", "120"],
        cwd=REPOSITORY,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    text = ""

    def ready() -> bool:
        nonlocal text
        text = (tmp_path / "log").read_text()
        return "Ctrl-C ends" in text or observe.poll() is not None

    started: set[int] = set()
    try:
        wait_until(ready, 60)
        match = re.search(r"Rules +(http://\S+)/rules", text)
        assert match, text

        def ask(path: str) -> Any:
            return json.loads(get(f"{match[1]}/api/v1/{path}")[2])["data"]

        wait_until(lambda: [target["health"] for target in ask("targets")["activeTargets"]] == ["up"], 30)
        wait_until(lambda: ask("alertmanagers")["activeAlertmanagers"], 30)

        def all_judged() -> bool:
            groups = ask("rules")["groups"]
            found = [rule for group in groups for rule in group["rules"]]
            assert len(found) == len(rules())
            assert not [rule for rule in found if rule["health"] == "err"], found
            return all(rule["health"] == "ok" for rule in found)

        wait_until(all_judged, 30)
        # The last of what an application does for somebody who logged in.
        issued = quote('sum(authly_oauth_tokens_issued_total{grant_type="refresh_token"}) > 0')
        wait_until(lambda: ask(f"query?query={issued}")["result"], 30)
        started = family(observe.pid)
        assert len(started) > 5
    finally:
        observe.send_signal(signal.SIGINT)
        ended = observe.wait(60)
        log.close()
    assert ended == 0, (tmp_path / "log").read_text()
    wait_until(lambda: not [pid for pid in started if is_alive(pid)], 10)
