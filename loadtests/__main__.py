"""Seed, gate, scale, soak: ``python -m loadtests``."""

import argparse
import random
import signal
import sys
import time
from pathlib import Path

from benchmarks.agent import REPOSITORY, AgentError

_RESULTS = REPOSITORY / "loadtests/results"
_USAGE = 2
_OF_TWELVE = (
    "browser_login=1,refresh=1,userinfo=1,client_credentials=2,introspection=3,discovery=1,jwks=2,admin_reads=1"
)


def main() -> int:
    """Do what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m loadtests", description="Load Authly, and judge what comes of it.")
    commands = parser.add_subparsers(dest="command", required=True)

    seed = commands.add_parser("seed", help="make accounts and clients in the database that AUTHLY_* name")
    seed.add_argument("--output", type=Path, default=_RESULTS / "seeds.json", help="the file to write")
    seed.add_argument("--users", type=int, default=50, help="how many accounts")

    gate = commands.add_parser(
        "gate",
        help="measure what metrics cost, and hold it against its budgets",
        description="Exit status: 0 all budgets kept, 1 one exceeded or the books wrong, 3 inconclusive.",
    )
    gate.add_argument("--blocks", type=int, default=2, help="how often both sides are started anew")
    gate.add_argument("--pairs", type=int, default=6, help="measurements of each side in a block")
    gate.add_argument("--seconds", type=float, default=33.0, help="that each takes, with all sides under load at once")
    gate.add_argument("--arrivals", type=float, default=50.0, help="flows that begin in a second on each (open loop)")
    gate.add_argument("--scrapes", type=int, default=3200, help="that availability is judged by")
    gate.add_argument("--scrape-interval", type=float, default=15.0, help="seconds from one scrape to the next")
    gate.add_argument("--busy-seconds", type=float, default=3.0, help="without a pause, for throughput; 0: none")
    gate.add_argument("--workers", type=int, default=2, help="of each side")
    gate.add_argument("--control", action="store_true", help="a third side with a handicap has to be found out")

    scale = commands.add_parser("scale", help="measure what metrics cost with more and more workers")
    scale.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of workers")
    scale.add_argument("--pairs", type=int, default=3, help="measurements of each side")
    scale.add_argument("--seconds", type=float, default=13.0, help="that each takes")
    scale.add_argument("--arrivals", type=float, default=40.0, help="flows that begin in a second on each (open loop)")

    soak = commands.add_parser(
        "soak",
        help="load and chaos",
        description="Exit status: 0 all invariants hold, 1 one does not.",
    )
    soak.add_argument("--minutes", type=float, default=5.0, help="how long")
    soak.add_argument("--every", type=float, default=2.0, help="seconds from one mishap to the next, on average")
    soak.add_argument("--users", type=int, default=12, help="of the closed loop")
    soak.add_argument("--mix", default=_OF_TWELVE, help="as in LOAD_MIX; by default somebody does each thing")
    soak.add_argument("--workers", type=int, default=3)

    for command in (gate, scale, soak):
        command.add_argument("--seed", type=int, help="that choices follow from; by default another one each time")
        command.add_argument("--output", type=Path, default=_RESULTS, help="the folder for the reports")
    options = parser.parse_args()
    if options.command == "seed":
        from loadtests.seed import seed as make_seeds

        make_seeds(options.output, options.users)
        sys.stdout.write(f"{options.users} accounts and their clients: {options.output}\n")
        return 0

    # Whoever ends this ends what it has started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    started = time.monotonic()

    def progress(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:5.1f} s] {line}\n")
        sys.stderr.flush()

    progress(f"seed {options.seed}")
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        if options.command == "gate":
            from loadtests import gate as overhead

            plan = overhead.Plan(*(getattr(options, name) for name in overhead.Plan._fields))
            return overhead.run(plan, options.output, progress)
        if options.command == "scale":
            from loadtests import scale as growth

            return growth.run(
                growth.plan_of(options.pairs, options.seconds, options.arrivals, options.seed),
                options.sizes,
                options.output,
                progress,
            )
        from loadtests import soak as chaos

        return chaos.run(
            chaos.Plan(options.minutes * 60, options.every, options.users, options.mix, options.workers, options.seed),
            options.output,
            progress,
        )
    except AgentError as error:
        progress(str(error))
        return _USAGE


if __name__ == "__main__":
    sys.exit(main())
