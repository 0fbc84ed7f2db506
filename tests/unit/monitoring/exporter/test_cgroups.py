"""The limits of a container, in the layouts that kernels and container engines show them in."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.collectors.cgroups import Container, Hierarchy, Limits, find

UNLIMITED_V1 = "9223372036854771712\n"
# What is mounted in a container of Docker with version 2, and on a host.
V2_NAMESPACE = "731 722 0:26 / {top} ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
# Version 1: the root of each mount is the container's group on the host.
V1_MEMORY = "40 30 0:33 {root} {top}/memory ro,nosuid - cgroup cgroup rw,memory\n"
V1_CPU = "41 30 0:34 {root} {top}/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "39 30 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
)


class Machine:
    """The files that tell of cgroups, below a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.top = folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)

    def write(self, path: str, text: str) -> None:
        """Write a file below the top of the cgroups."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def limits(self, membership: str, mounts: str, root: str = "/") -> Limits:
        """Return the limits of a process with these files."""
        (self.proc / "self/cgroup").write_text(membership)
        (self.proc / "self/mountinfo").write_text(OTHERS + mounts.format(top=self.top, root=root))
        return Container(self.proc).limits()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine without any group."""
    return Machine(tmp_path)


def test_version_2_in_a_container(machine: Machine) -> None:
    """With a namespace of its own, the container's group is the top of all that it sees."""
    machine.write("memory.max", "536870912\n")
    machine.write("memory.current", "104857600\n")
    machine.write("cpu.max", "150000 100000\n")
    assert machine.limits("0::/\n", V2_NAMESPACE) == Limits(536870912, 104857600, 1.5)


def test_version_2_without_limits(machine: Machine) -> None:
    """What is unlimited has no number; what is used has one."""
    machine.write("memory.max", "max\n")
    machine.write("memory.current", "7\n")
    machine.write("cpu.max", "max 100000\n")
    assert machine.limits("0::/\n", V2_NAMESPACE) == Limits(None, 7, None)


def test_version_2_of_a_service_on_a_host(machine: Machine) -> None:
    """The lowest limit on the way up counts, and its group's usage is what it is compared with."""
    machine.write("system.slice/authly.service/memory.max", "max\n")
    machine.write("system.slice/authly.service/memory.current", "5\n")
    machine.write("system.slice/authly.service/cpu.max", "200000 100000\n")
    machine.write("system.slice/memory.max", "1000\n")
    machine.write("system.slice/memory.current", "600\n")
    machine.write("system.slice/cpu.max", "400000 100000\n")
    found = machine.limits("0::/system.slice/authly.service\n", V2_NAMESPACE)
    assert found == Limits(1000, 600, 2.0)


def test_the_root_of_a_host_has_no_files(machine: Machine) -> None:
    """There the kernel has neither limits nor usage."""
    machine.top.mkdir()
    assert machine.limits("0::/\n", V2_NAMESPACE) == Limits(None, None, None)


def test_version_1_in_a_container(machine: Machine) -> None:
    """The path is the host's, and so is the root of the mount: together they are the folder that is seen."""
    machine.write("memory/memory.limit_in_bytes", "268435456\n")
    machine.write("memory/memory.usage_in_bytes", "1000000\n")
    machine.write("cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
    machine.write("cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    membership = "12:memory:/docker/4f\n11:cpu,cpuacct:/docker/4f\n1:name=systemd:/docker/4f\n0::/\n"
    assert machine.limits(membership, V1_MEMORY + V1_CPU, root="/docker/4f") == Limits(268435456, 1000000, 0.5)


def test_version_1_without_limits(machine: Machine) -> None:
    """No limit is the largest number of pages there, and a quota of -1."""
    machine.write("memory/a/memory.limit_in_bytes", UNLIMITED_V1)
    machine.write("memory/a/memory.usage_in_bytes", "9\n")
    machine.write("cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n")
    machine.write("cpu,cpuacct/a/cpu.cfs_period_us", "100000\n")
    assert machine.limits("4:memory:/a\n3:cpu,cpuacct:/a\n", V1_MEMORY + V1_CPU) == Limits(None, 9, None)


def test_version_1_of_nested_groups(machine: Machine) -> None:
    """A limit above holds for the group below."""
    machine.write("memory/memory.limit_in_bytes", UNLIMITED_V1)
    machine.write("memory/pod/memory.limit_in_bytes", "100\n")
    machine.write("memory/pod/memory.usage_in_bytes", "80\n")
    machine.write("memory/pod/app/memory.limit_in_bytes", UNLIMITED_V1)
    machine.write("memory/pod/app/memory.usage_in_bytes", "60\n")
    assert machine.limits("4:memory:/pod/app\n", V1_MEMORY) == Limits(100, 80, None)


def test_both_versions_at_once(machine: Machine) -> None:
    """Each controller is where the kernel has put it."""
    machine.write("memory/memory.limit_in_bytes", "100\n")
    machine.write("memory/memory.usage_in_bytes", "50\n")
    machine.write("unified/cpu.max", "100000 100000\n")
    mounts = V1_MEMORY + V2_NAMESPACE.replace("{top}", "{top}/unified")
    assert machine.limits("4:memory:/\n0::/\n", mounts) == Limits(100, 50, 1.0)


def test_a_group_outside_of_what_is_mounted(machine: Machine) -> None:
    """What can be seen is the top of the mount."""
    machine.write("memory.max", "100\n")
    machine.write("memory.current", "50\n")
    mounts = V2_NAMESPACE.replace(" / ", " /pod/a ")
    assert machine.limits("0::/pod/b\n", mounts) == Limits(100, 50, None)
    # From inside a namespace, what lies outside is shown like this.
    assert machine.limits("0::/../b\n", V2_NAMESPACE) == Limits(100, 50, None)


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    """Where the kernel has none, or shows none, nothing is known."""
    assert Container(tmp_path).limits() == Limits()


def test_spaces_in_a_path() -> None:
    """The kernel writes them as octal numbers in the list of mounts."""
    mounts = "1 0 0:1 /a\\040b /mnt/c\\040d rw - cgroup2 none rw\n"
    assert find("cpu", "0::/a b/e\n", mounts) == Hierarchy(2, ("/mnt/c d/e", "/mnt/c d"))


def test_limits_are_read_anew(machine: Machine) -> None:
    """They can be changed while the process runs."""
    machine.write("memory.max", "100\n")
    machine.write("memory.current", "50\n")
    machine.limits("0::/\n", V2_NAMESPACE)
    container = Container(machine.proc)
    machine.write("memory.max", "200\n")
    assert container.limits() == Limits(200, 50, None)


WORDS = ["/", "/a", "/a/b", "/..", "0", "4", "memory", "cpu,cpuacct", "", "rw", "-", "cgroup", "cgroup2", "\\040"]
MEMBERSHIPS = st.text() | st.lists(st.lists(st.sampled_from(WORDS)).map(":".join)).map("\n".join)
MOUNTS = st.text() | st.lists(st.lists(st.sampled_from(WORDS)).map(" ".join)).map("\n".join)


@given(MEMBERSHIPS, MOUNTS, st.sampled_from(["memory", "cpu"]))
def test_anything_is_read_without_an_error(membership: str, mounts: str, controller: str) -> None:
    """What makes no sense is as good as absent, and a group is never above what is mounted."""
    found = find(controller, membership, mounts)
    if found is not None:
        assert found.version in (1, 2)
        assert all(Path(folder).is_relative_to(found.folders[-1]) for folder in found.folders)
        fields = {field for line in mounts.splitlines() for field in line.split(" ")}
        assert found.folders[-1] in {str(Path(field.replace("\\040", " "))) for field in fields}


@given(st.text())
def test_any_number_is_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """A file that holds no number tells nothing."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    for name in ("memory.max", "memory.current", "cpu.max"):
        machine.write(name, text)
    found = machine.limits("0::/\n", V2_NAMESPACE)
    assert found.cpu_limit is None or found.cpu_limit > 0
