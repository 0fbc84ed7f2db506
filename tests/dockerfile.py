"""A Dockerfile, read as far as this project's goes: stages, and their instructions one after another."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

KNOWN = {"COPY", "RUN", "ENV", "USER", "WORKDIR", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}


class Instruction(NamedTuple):
    """A line of a stage: its word, and what follows."""

    word: str
    rest: str

    def words(self) -> list[str]:
        """Return what follows as words, from a JSON array or as a shell would split it."""
        return list(json.loads(self.rest)) if self.rest.startswith("[") else shlex.split(self.rest)

    def copied(self) -> tuple[str | None, list[str], str]:
        """Return of a COPY the stage (None is the context), the sources and the destination."""
        words = self.words()
        stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
        return stage, words[:-1], words[-1]


class Stage(NamedTuple):
    """What begins with FROM."""

    image: str
    name: str | None
    instructions: list[Instruction]

    def environment(self) -> dict[str, str]:
        """Return the variables that the stage sets."""
        pairs = [word for line in self.instructions if line.word == "ENV" for word in line.words()]
        return dict(pair.split("=", 1) for pair in pairs)

    def last(self, word: str) -> Instruction:
        """Return the instruction of a kind that counts, which is the last."""
        return [line for line in self.instructions if line.word == word][-1]


def read(path: Path) -> list[Stage]:
    """Read a Dockerfile.

    Raises:
        ValueError: it has an instruction that is not known here.
    """
    stages: list[Stage] = []
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            match = re.fullmatch(r"(\S+)(?: AS (\S+))?", rest)
            assert match is not None, line
            stages.append(Stage(match[1], match[2], []))
        elif word in KNOWN:
            stages[-1].instructions.append(Instruction(word, rest.strip()))
        else:
            raise ValueError(f"an instruction that is not known: {line}")
    return stages
