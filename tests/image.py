"""Carry out the Dockerfile without a container engine: ``make check-image``.

Each stage's steps run in a plain root file system that debootstrap made, with Debian's Python in the place of the base
image's; what pip would fetch is fetched before, so that a step that needs anything else fails. Then the image's command
runs there as its user, on a file system that cannot be written to, and is asked what its health check asks. Needs root
and debootstrap, and takes about three minutes; a folder named behind it is such a file system, kept from one time to
the next. What it does not show: that the base image has what Debian has.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import dockerfile
from tests.dockerfile import Stage

REPOSITORY = Path(__file__).parent.parent
DOCKERFILE = REPOSITORY / "docker-compose/Dockerfile"
LOCKS = ["deploy/requirements.lock", "deploy/build.lock"]
# Debian 12 has this one.
RELEASE, PYTHON = "bookworm", "3.11"
# Not looked for on the PATH of the image.
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
INCLUDED = "ca-certificates,python3,python3-venv"


def say(text: str) -> None:
    """Tell what is being done."""
    print(f"== {text}", flush=True)  # noqa: T201


def make_root(folder: Path) -> None:
    """Make a root file system in which ``python`` is Debian's."""
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={INCLUDED}", RELEASE, str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")


def fetch(wheels: Path) -> None:
    """Fetch what the locks name, hashes checked, for the Python of the root file system."""
    wheels.mkdir()
    options = ["--only-binary", ":all:", "--python-version", PYTHON, "--no-deps", "--quiet", "--dest", str(wheels)]
    for lock in LOCKS:
        # All of it: pip would answer the conditions ("; python_full_version < ...") for the Python that it runs in.
        unconditional = wheels / "lock.txt"
        unconditional.write_text(re.sub(r" ;[^\\\n]*", " ", (REPOSITORY / lock).read_text()))
        pip = [sys.executable, "-m", "pip", "download", *options, "--require-hashes", "-r", str(unconditional)]
        subprocess.run(pip, check=True)
        unconditional.unlink()


@contextlib.contextmanager
def mounted(target: Path, *options: str) -> Iterator[None]:
    """Mount something for a while."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def build(stage: Stage, root: Path, earlier: dict[str, Path]) -> None:
    """Carry out a stage's steps.

    Args:
        stage: the stage.
        root: its root file system, as its base image would have it.
        earlier: the root file systems of the stages before, by their names.
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    # pip alone needs to be told where its packages are now.
    fetched = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    folder = "/"
    for line in stage.instructions:
        say(f"{line.word} {line.rest}")
        if line.word == "ENV":
            environment |= dict(word.split("=", 1) for word in line.words())
        elif line.word == "WORKDIR":
            folder = line.rest
            (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif line.word == "COPY":
            copy(*line.copied(), root, earlier)
        elif line.word == "RUN":
            subprocess.run(
                [CHROOT, str(root), "sh", "-c", f"cd {folder} && {line.rest}"],
                env=environment | fetched,
                check=True,
                stdout=subprocess.DEVNULL,
            )


def copy(stage: str | None, sources: list[str], target: str, root: Path, earlier: dict[str, Path]) -> None:
    """Carry out a COPY: files into a folder, or the contents of a folder as another."""
    begin = earlier[stage] if stage else REPOSITORY
    destination = root / target.lstrip("/")
    for source in sources:
        found = begin / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(
                found, destination, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(found, destination)


def serve(stage: Stage, root: Path, environment: dict[str, str]) -> None:
    """Run the image's command as its user, with nothing to write to but its tmpfs, and ask its health check."""
    user, _, group = stage.last("USER").rest.partition(":")
    tmpfs = f"uid={user},gid={group},mode=0700,size=64m,noexec"
    enter = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={group}",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mounted(root, "--bind", str(root)))
        stack.enter_context(mounted(root / "run/authly", "-t", "tmpfs", "-o", tmpfs, "tmpfs"))
        stack.enter_context(mounted(root / "proc", "-t", "proc", "proc"))
        stack.enter_context(mounted(root / "dev/shm", "-t", "tmpfs", "-o", "size=16m,mode=1777", "tmpfs"))
        subprocess.run(["mount", "-o", "remount,ro,bind", str(root)], check=True)
        inside = [CHROOT, str(root), *enter]
        say(f"as {user}: {' '.join(stage.last('CMD').words())}")
        process = subprocess.Popen([*inside, *stage.last("CMD").words()], env=environment)
        try:
            check = stage.last("HEALTHCHECK").rest.partition("CMD ")[2]
            probe = [*inside, *dockerfile.Instruction("CMD", check).words()]
            deadline = time.monotonic() + 60
            while subprocess.run(probe, env=environment, stderr=subprocess.DEVNULL).returncode:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("Authly did not come up")
                time.sleep(0.5)
            say("the health check passes")
            for command in (["authly", "db", "status"], ["authly", "metrics", "doctor"]):
                said = subprocess.run([*inside, *command], env=environment, capture_output=True, text=True)
                say(f"{' '.join(command)}: exit status {said.returncode}\n{said.stdout}{said.stderr}")
        finally:
            process.send_signal(signal.SIGTERM)
            say(f"ended with {process.wait(60)}")


def settings(stage: Stage, database_url: str) -> dict[str, str]:
    """Return the environment of the container, but on free ports of the loopback interface."""
    return stage.environment() | {
        "AUTHLY_DATABASE_URL": database_url,
        "AUTHLY_SECRET_KEY": "k" * 48,
        "AUTHLY_ENVIRONMENT": "check",
        "AUTHLY_ISSUER": "http://localhost:8000",
        "AUTHLY_WORKERS": "2",
    }


def main() -> None:
    """Build each stage and run the last."""
    # What runs PostgreSQL beside it is Authly's own, and not in the image.
    from authly.core.embedded_postgres import EmbeddedPostgres

    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SystemExit("This needs root and Debian's debootstrap: a root file system is made and entered.")
    with tempfile.TemporaryDirectory(prefix="authly-image-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        wheels = folder / "wheels"
        say("fetching what the locks name")
        fetch(wheels)
        base = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "base"
        if not base.exists():
            say(f"debootstrap {RELEASE}")
            make_root(base)
        roots: dict[str, Path] = {}
        for number, stage in enumerate(dockerfile.read(DOCKERFILE)):
            root = folder / f"stage{number}"
            say(f"FROM {stage.image}")
            subprocess.run(["cp", "-a", str(base), str(root)], check=True)
            shutil.copytree(wheels, root / "wheels")
            build(stage, root, roots)
            shutil.rmtree(root / "wheels")
            roots[stage.name or ""] = root
        database = EmbeddedPostgres(folder / "database")
        try:
            # Its socket is abstract: found by its name from every root of this network namespace.
            serve(stage, root, settings(stage, database.start()))
        finally:
            database.release()
        size = subprocess.run(
            ["du", "-sm", str(root / "opt/authly")], capture_output=True, text=True, check=True
        ).stdout
        say(f"Authly and its packages take {size.split()[0]} MB")


if __name__ == "__main__":
    main()
