"""A process of its own that measures when it is asked: a line in, a line of JSON out.

Both ends are here. Imports little, because some agents are measured themselves.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
_PATIENCE = 60.0
_MISSING = "missing"


class AgentError(RuntimeError):
    """An agent ended, or did not answer in time."""


class NotInstalledError(Exception):
    """What the agent was to measure is not installed."""


class Agent:
    """The asking end.

    Args:
        module: below ``benchmarks``; its ``main`` calls :func:`serve`.
        arguments: for the module.
        environment: variables to add.

    Raises:
        NotInstalledError: what it was to measure is not there.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**os.environ, **(environment or {})},
        )
        try:
            if self.receive() == _MISSING:
                raise NotInstalledError(" ".join(arguments))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, words: str) -> None:
        """Ask for something without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(words.encode() + b"\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            AgentError: there is none.
        """
        assert self._process.stdout is not None
        # An answer is one line, and nothing follows it: what select sees is all that there is.
        if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
            raise AgentError("an agent does not answer")
        line = self._process.stdout.readline()
        if not line:
            raise AgentError("an agent ended")
        return json.loads(line)

    def ask(self, words: str) -> Any:
        """Ask for something and wait for it."""
        self.send(words)
        return self.receive()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def serve(prepare: Callable[[], Callable[[str], Any]]) -> None:
    """Answer lines of standard input until it ends.

    Args:
        prepare: returns what answers a line; raises ImportError where the thing to measure is not installed.
    """
    # Whatever a measured library writes must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        answer = prepare()
    except ImportError:
        answers.write(f'"{_MISSING}"\n')
        answers.flush()
        return
    answers.write('"ready"\n')
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(answer(line.strip())) + "\n")
        answers.flush()
