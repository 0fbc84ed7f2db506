"""What is shipped for deployments: valid by its own rules, and about settings, files and ports that exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from authly.cli.__main__ import authly
from authly.settings import SECRETS_DIRECTORY, Settings, load_settings, variable_name
from tests import dockerfile
from tests.certificates import Authority
from tests.instance import REPOSITORY, free_port
from tests.kubernetes import manifests, problems
from tests.prometheus import program
from tests.requirements import require

COMPOSE = REPOSITORY / "docker-compose"
KUBERNETES = REPOSITORY / "deploy/kubernetes"
UNIT = REPOSITORY / "deploy/systemd/authly.service"
VARIABLES = {variable_name(field) for field in Settings.model_fields} | {SECRETS_DIRECTORY}
STAGES = dockerfile.read(COMPOSE / "Dockerfile")
IMAGE = STAGES[-1].environment()


def compose() -> dict[str, Any]:
    """Return the compose file."""
    return dict(yaml.safe_load((COMPOSE / "compose.yaml").read_text()))


def own(variables: list[str]) -> list[str]:
    """Return the variables that only Authly could mean."""
    return [name for name in variables if name.startswith("AUTHLY_") or name == "PROMETHEUS_MULTIPROC_DIR"]


def tracked(path: str) -> list[str]:
    """Return the files of the repository at a path, or below it."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", path]
    return subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()


# --- the image


def test_the_image_is_made_of_what_is_there() -> None:
    """Each COPY finds its sources, past .dockerignore; the stages it copies from are above it."""
    ignore = (COMPOSE / "Dockerfile.dockerignore").read_text().split()
    let_in = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    assert "*" in ignore
    names: list[str | None] = []
    for stage in STAGES:
        for line in stage.instructions:
            if line.word != "COPY":
                continue
            begin, sources, _ = line.copied()
            if begin is None:
                assert [source for source in sources if not tracked(source) or source not in let_in] == []
            else:
                assert begin in names
        names.append(stage.name)
    assert [path for path in let_in if not tracked(path)] == []


def test_the_image_says_where_and_as_whom_it_runs() -> None:
    """Variables are Authly's, ports are those it binds, and it is nobody's root."""
    last = STAGES[-1]
    assert set(own(list(IMAGE))) <= VARIABLES
    ports = [IMAGE[name].rpartition(":")[2] for name in ("AUTHLY_BIND", "AUTHLY_METRICS_BIND")]
    assert last.last("EXPOSE").words() == ports
    assert f"127.0.0.1:{ports[0]}/health/live" in last.last("HEALTHCHECK").rest
    assert last.last("USER").rest == "10001:10001"
    assert last.last("CMD").words() == ["authly", "serve"]
    assert IMAGE["PROMETHEUS_MULTIPROC_DIR"].startswith(f"{IMAGE['AUTHLY_STATE_DIR']}/")
    assert len({stage.image for stage in STAGES}) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-\S+", last.image)


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_an_image_has_the_versions_that_are_tested(name: str) -> None:
    """Its locks are parts of the one that the suite runs with."""

    def pins(path: Path) -> set[str]:
        return {line.rstrip(" \\") for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()}

    locked = pins(REPOSITORY / "deploy" / name)
    assert len(locked) > 4
    # A condition may be wider where tests are among those who want a package.
    assert {pin.split(" ;")[0] for pin in locked} <= {
        pin.split(" ;")[0] for pin in pins(REPOSITORY / "requirements.lock")
    }


# --- the compose stack


def test_the_compose_file_is_one() -> None:
    """The schema of the compose specification has nothing to say."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    said = subprocess.run([*check, str(COMPOSE / "compose.yaml")], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_all_of_the_stack_is_pinned_confined_and_watched() -> None:
    """Images by tag, health checks for all, and no way to more rights than they begin with."""
    services = compose()["services"]
    assert set(services) == {"authly", "postgres", "valkey", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        if name != "authly":
            # A tag with all its numbers; a digest besides, where it is known.
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(@sha256:[0-9a-f]{64})?", service["image"]), name
            assert "healthcheck" in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_authly_in_the_stack_is_as_the_image_wants_it() -> None:
    """Settings exist, the metrics are in its tmpfs, nothing else can be written, and it may finish its requests."""
    service = compose()["services"]["authly"]
    environment = service["environment"]
    assert set(own(list(environment))) == set(environment)
    assert set(environment) <= VARIABLES
    (tmpfs,) = service["tmpfs"]
    path, _, options = tmpfs.partition(":")
    user, group = STAGES[-1].last("USER").rest.split(":")
    assert {f"uid={user}", f"gid={group}", "mode=0700"} <= set(options.split(","))
    assert path == IMAGE["AUTHLY_STATE_DIR"]
    assert environment["PROMETHEUS_MULTIPROC_DIR"].startswith(f"{path}/")
    assert service["read_only"] is True
    assert service["user"] == f"{user}:{group}"
    grace = Settings.model_fields["graceful_timeout"].default
    assert int(service["stop_grace_period"].removesuffix("s")) > grace


def test_paths_in_the_compose_file_exist() -> None:
    """What is mounted from the repository is there."""
    document = compose()
    build = document["services"]["authly"]["build"]
    assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()
    for name, service in document["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert tracked(str((COMPOSE / source).resolve())), f"{name}: {source}"
            else:
                assert source in document["volumes"], f"{name}: {source}"


def test_secrets_are_made_once_and_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script makes each secret that the stack mounts, keeps it the second time, and Authly starts with them."""
    document = compose()

    def make() -> dict[str, str]:
        subprocess.run([COMPOSE / "make-secrets", tmp_path / "secrets"], check=True)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    made = make()
    assert set(made) == {Path(secret["file"]).name for secret in document["secrets"].values()}
    assert make() == made
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert len({len(made[name]) for name in made if name != "AUTHLY_DATABASE_URL"}) == 1
    assert not tracked("docker-compose/secrets")
    mounted = {name for service in document["services"].values() for name in service.get("secrets", [])}
    assert mounted == set(document["secrets"])
    monkeypatch.setenv(SECRETS_DIRECTORY, str(tmp_path / "secrets"))
    monkeypatch.setenv("AUTHLY_ENVIRONMENT", "compose")
    monkeypatch.setenv("AUTHLY_ISSUER", "http://localhost:8000")
    settings = load_settings()
    assert settings.database_url is not None
    assert made["postgres-password"].strip() in settings.database_url
    assert settings.secret_key is not None
    # Only names of files, and passwords that a variable has to bring, stand where a password would.
    for line in (COMPOSE / "compose.yaml").read_text().splitlines():
        if match := re.search(r"(PASSWORD|SECRET|TOKEN|KEY)\w*: (\S+)", line):
            assert match[2].startswith(("/run/secrets", "{file:")), line


def test_prometheus_in_the_stack_asks_as_it_does_elsewhere(tmp_path: Path) -> None:
    """Its configuration is the other one, with the names of the stack and the token that the exporter wants."""
    path = COMPOSE / "prometheus/compose.yml"
    stack, other = (yaml.safe_load(text.read_text()) for text in (path, path.with_name("prometheus.yml")))
    (job,) = stack["scrape_configs"]
    token = job.pop("authorization")["credentials_file"]
    assert job["static_configs"] == [{"targets": ["authly:9464"]}]
    job["static_configs"] = other["scrape_configs"][0]["static_configs"]
    stack["alerting"] = other["alerting"]
    assert stack == other
    (document,) = [yaml.safe_load((COMPOSE / "authly/web-config.yml").read_text())]
    assert document == {"bearer_tokens_file": token}
    assert token == "/run/secrets/metrics-token"
    # promtool looks for the file of the token.
    shutil.copytree(path.parent, tmp_path / "prometheus")
    (tmp_path / "token").write_text("t")
    copy = tmp_path / "prometheus/compose.yml"
    copy.write_text(path.read_text().replace(token, str(tmp_path / "token")))
    check = subprocess.run([program("promtool"), "check", "config", str(copy)], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


# --- Kubernetes


def kubernetes_files() -> list[Path]:
    """Return the manifests."""
    return sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("path", kubernetes_files(), ids=lambda path: str(path.name))
def test_manifests_are_of_their_kind(path: Path) -> None:
    """Nothing is missing, of another type, or unknown to the kind's schema."""
    for manifest in manifests(path):
        assert problems(manifest) == []
        assert manifest["metadata"]["name"].startswith("authly")
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "authly"


def test_a_misspelt_name_in_a_manifest_is_found() -> None:
    """The check is one: a name that the API server would not know is told, wherever it is."""
    (manifest,) = manifests(KUBERNETES / "deployment.yaml")
    pod = manifest["spec"]["template"]["spec"]
    pod["containers"][0]["livenesProbe"] = {}
    pod["volumes"][0]["emptyDir"]["size"] = "1Mi"
    assert [place.rpartition(".")[2] for place in problems(manifest)] == ["livenesProbe", "size"]


def test_kustomize_applies_all_manifests() -> None:
    """But one: pods are scraped by the one monitor or by the other."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "servicemonitor.yaml"]) == [path.name for path in kubernetes_files()]


def test_the_pod_is_as_the_image_wants_it() -> None:
    """Settings, ports, user, directory, probes and time to end."""
    (deployment,) = manifests(KUBERNETES / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (settings,) = manifests(KUBERNETES / "configmap.yaml")
    assert {entry["name"] for entry in container["env"]} | set(settings["data"]) <= VARIABLES
    assert all(isinstance(value, str) for value in settings["data"].values())
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert [ports["http"], ports["metrics"]] == STAGES[-1].last("EXPOSE").words()
    assert str(pod["securityContext"]["runAsUser"]) == STAGES[-1].last("USER").rest.split(":")[0]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts[IMAGE["AUTHLY_STATE_DIR"]]["emptyDir"]["medium"] == "Memory"
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["PROMETHEUS_MULTIPROC_DIR"].startswith(f"{IMAGE['AUTHLY_STATE_DIR']}/")
    assert "secret" in mounts[variables["AUTHLY_SECRETS_DIR"]]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    waiting = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = Settings.model_fields["graceful_timeout"].default
    assert pod["terminationGracePeriodSeconds"] > waiting + grace
    (monitor,) = manifests(KUBERNETES / "podmonitor.yaml")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in ports
    assert waiting > int(endpoint["interval"].removesuffix("s"))


def test_selectors_select_the_pods() -> None:
    """Services, policy, budget and monitors mean the deployment's pods, and the ports that those have."""
    (deployment,) = manifests(KUBERNETES / "deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    services = manifests(KUBERNETES / "service.yaml")
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for name, place in (
        ("networkpolicy", "podSelector"),
        ("poddisruptionbudget", "selector"),
        ("podmonitor", "selector"),
    ):
        (manifest,) = manifests(KUBERNETES / f"{name}.yaml")
        assert manifest["spec"][place]["matchLabels"] == labels
    (policy,) = manifests(KUBERNETES / "networkpolicy.yaml")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
    (monitor,) = manifests(KUBERNETES / "servicemonitor.yaml")
    selected = [
        s for s in services if monitor["spec"]["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()
    ]
    assert [service["spec"]["ports"][0]["name"] for service in selected] == [monitor["spec"]["endpoints"][0]["port"]]


def test_the_prometheus_rule_has_the_rules_of_today() -> None:
    """`make kubernetes` has been called since the rules changed."""
    script = [sys.executable, str(KUBERNETES / "prometheusrule.py")]
    written = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert (KUBERNETES / "prometheusrule.yaml").read_text() == written


# --- systemd and nginx


def unit_values(name: str) -> list[str]:
    """Return the values of a key of the unit."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """Its verifier has nothing to say, once the programs are where the unit says, and confines it well."""
    analyze = shutil.which("systemd-analyze")
    require("systemd-analyze", analyze is not None, "systemd-analyze is not installed: get Debian's package systemd")
    assert analyze is not None
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/authly/bin/authly", str(Path(sys.executable).with_name("authly"))))
    said = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    # From 0 to 100; below 20 is what systemd calls OK.
    rated = subprocess.run([analyze, "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True)
    assert rated.returncode == 0, rated.stdout.decode()


def test_the_unit_calls_commands_that_exist() -> None:
    """With settings that exist, and a metrics directory below its runtime directory."""
    commands = [value.split()[1:] for key in ("ExecStartPre", "ExecStart") for value in unit_values(key)]
    assert commands == [["metrics", "prepare"], ["serve"]]
    for words in commands:
        command: click.Command | None = authly
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None
    pairs = dict(pair.split("=", 1) for value in unit_values("Environment") for pair in value.split())
    credentials = dict(value.split(":") for value in unit_values("LoadCredential"))
    assert set(pairs) | set(credentials) <= VARIABLES
    assert all(Path(path).name == name for name, path in credentials.items())
    assert pairs[SECRETS_DIRECTORY] == "%d"
    assert pairs["PROMETHEUS_MULTIPROC_DIR"].startswith(f"/run/{unit_values('RuntimeDirectory')[0]}/")
    assert pairs["AUTHLY_STATE_DIR"] == f"/var/lib/{unit_values('StateDirectory')[0]}"
    assert int(unit_values("TimeoutStopSec")[0]) > Settings.model_fields["graceful_timeout"].default


def environment_file() -> dict[str, str]:
    """Return the settings of the unit's example."""
    lines = (UNIT.parent / "authly.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_units_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authly takes them as they are, with a secret key beside them."""
    for name, value in environment_file().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AUTHLY_SECRET_KEY", "k" * 40)
    assert set(environment_file()) <= VARIABLES
    assert load_settings().environment == "production"


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    """`nginx -t` has nothing to say, and it is before the Authly of the unit."""
    nginx = shutil.which("nginx")
    require("nginx", nginx is not None, "nginx is not installed: get Debian's package nginx")
    assert nginx is not None
    text = (REPOSITORY / "deploy/nginx/authly.conf").read_text()
    settings = environment_file()
    assert f"server {settings['AUTHLY_BIND']};" in text
    assert f"server_name {settings['AUTHLY_ALLOWED_HOSTS']};" in text
    assert "client_max_body_size 64k;" in text
    assert Settings.model_fields["max_body_bytes"].default == 64 << 10
    pair = Authority(tmp_path).issue("nginx", server=True)
    for path, real in (("fullchain.pem", pair.cert), ("privkey.pem", pair.key)):
        text = text.replace(f"/etc/authly/tls/{path}", str(real))
    for port in (80, 443):
        text = re.sub(rf"listen (\[::\]:)?{port}\b", f"listen 127.0.0.1:{free_port()}", text, count=1)
        text = re.sub(rf"^ *listen (\[::\]:)?{port}\b.*$", "", text, flags=re.MULTILINE)
    paths = "".join(f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {paths} {text} }}")
    said = subprocess.run([nginx, "-t", "-q", "-e", "stderr", "-c", whole], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
