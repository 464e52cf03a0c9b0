"""What can be known of the deployment files without Docker."""

import json
import re
import shutil
import stat
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import click
import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from hindcast.catalog import read_repo
from hindcast.cli.main import cli
from hindcast.online.connection import Endpoint, read_target
from hindcast.serving.drain import part_seconds
from hindcast.serving.families import FAMILIES, Kind
from hindcast.settings import STATE_DIR_VARIABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
CI_TEMPLATES = ("github-actions.yml", "gitlab-ci.yml")


def parse_hindcast(arguments):
    """Parse arguments of `hindcast` by the real command line, without running it."""
    name, *rest = arguments
    return name, cli.commands[name].make_context(name, rest).params


def instructions(name):
    """The arguments of every instruction of one name, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def mounts(service):
    """(source, target) of each volume of a service."""
    return [tuple(volume.split(":")[:2]) for volume in service.get("volumes", [])]


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_an_image(name):
    """Every service of the compose file says where its image comes from."""
    assert {"image", "build"} & SERVICES[name].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_service_mounts_what_exists(name):
    """Every path that a service mounts is in the repo, and every volume is declared."""
    missing = [
        source
        for source, _ in mounts(SERVICES[name])
        if not ((ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"])
    ]
    assert [] == missing


@pytest.mark.parametrize("name", SERVICES)
def test_service_waits_for_services_that_exist(name):
    """A service waits only for services of the same file, and for a health check only where there is one."""
    waits = SERVICES[name].get("depends_on", {})
    waits = waits if isinstance(waits, dict) else {other: {"condition": "service_started"} for other in waits}
    assert [] == [other for other in waits if other not in SERVICES]
    healthy = [other for other, how in waits.items() if how["condition"] == "service_healthy"]
    assert [] == [other for other in healthy if "healthcheck" not in SERVICES[other]]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback(name):
    """No service is published beyond the machine, because there is no authentication."""
    assert [] == [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")]


def test_compose_serves_by_the_real_command_line():
    """The server's command is one that `hindcast` accepts, on the port that is published."""
    name, options = parse_hindcast(SERVICES["server"]["command"])
    assert "serve" == name
    assert Path("/repo") == options["repo_root"]
    _, published, inside = SERVICES["server"]["ports"][0].split(":")
    assert options["address"].endswith(f":{inside}")
    assert published == inside


def test_unknown_options_would_be_noticed():
    """The check above refuses an option that `hindcast serve` does not have."""
    with pytest.raises(click.UsageError):
        parse_hindcast(["serve", "--metrics-everywhere"])


def test_stop_grace_covers_the_drain():
    """The container is not killed before its calls had the time that the server gives them."""
    _, options = parse_hindcast(SERVICES["server"]["command"])
    grace_seconds = float(SERVICES["server"]["stop_grace_period"].removesuffix("s"))
    assert grace_seconds > part_seconds(options["max_connection_age_seconds"]) + options["drain_seconds"] + 5


def test_compose_builds_from_the_dockerfile():
    """Both services that run our image build it from the file that is there, under one name."""
    ours = [service for service in SERVICES.values() if "build" in service]
    assert 2 == len(ours)
    assert 1 == len({service["image"] for service in ours})
    for service in ours:
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_compose_repo_is_the_redis_of_the_compose_file(tmp_path):
    """The configuration that the demo runs on names the compose file's Redis, and differs from the repo's in that only."""
    written = yaml.safe_load((DEPLOY / "feature_store.yaml").read_text())
    (tmp_path / "feature_store.yaml").write_text((DEPLOY / "feature_store.yaml").read_text())
    target = read_target(read_repo(tmp_path).online_store, repo_root=tmp_path)
    assert (Endpoint("redis", 6379),) == target.endpoints
    demo = yaml.safe_load((ROOT / "feature_repo" / "feature_store.yaml").read_text())
    written["online_store"].pop("connection_string")
    demo["online_store"].pop("connection_string")
    assert demo == written


def test_apply_script_uses_mounted_paths():
    """The script of the apply service is executable shell, and touches only folders that the service mounts."""
    script = DEPLOY / "apply-demo"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["sh", "-n", script], check=True)
    mounted = {target for _, target in mounts(SERVICES["apply"])}
    used = set(re.findall(r"(?<=\s)/(?:\w+)", "\n".join(script.read_text().splitlines()[2:])))
    assert used <= mounted
    assert SERVICES["apply"]["entrypoint"] == ["/deploy/apply-demo"]


def run_health_check(address):
    """Run the compose file's health check against another address; its exit code."""
    kind, program, flag, code, _ = SERVICES["server"]["healthcheck"]["test"]
    assert ("CMD", "python", "-c") == (kind, program, flag)
    return subprocess.run([sys.executable, flag, code, address], check=False, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize(("status", "healthy"), [("SERVING", True), ("NOT_SERVING", False)])
def test_health_check_tells_serving_from_not(status, healthy):
    """The container's health check passes where the health service says SERVING, and only there."""
    servicer = HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert healthy == (run_health_check(f"127.0.0.1:{port}") == 0)
    finally:
        server.stop(None).wait()


def test_health_check_fails_without_a_server():
    """The container's health check fails where nobody listens."""
    assert 0 != run_health_check("127.0.0.1:1")


def test_dockerfile_has_two_stages():
    """The image is built where there is a C compiler and runs where there is none, on the Python that the project supports first."""
    stages = instructions("FROM")
    assert ["python:3.11 AS build", "python:3.11-slim"] == stages


def test_dockerfile_does_not_run_as_root():
    """The image's user is a number other than 0, so that an orchestrator can check it."""
    (user,) = instructions("USER")
    assert 0 < int(user.split(":")[0])


def test_dockerfile_installs_under_the_constraints():
    """The image has the versions that the tests run with, and the server, whatever else is asked for."""
    (build, _) = instructions("RUN")
    assert "--constraint constraints.txt" in build
    assert ["EXTRAS=server", "PACKAGES="] == instructions("ARG")
    assert build.endswith('[${EXTRAS}]" ${PACKAGES}')


def test_dockerfile_copies_what_exists_and_is_not_ignored():
    """Every path that the build copies is in the repo, and the ignore file lets it through."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [path for line in instructions("COPY") if not line.startswith("--from") for path in line.split()[:-1]]
    assert [] == [path for path in copied if not (ROOT / path).exists()]
    assert let_through == set(copied)


def test_dockerfile_serves_by_the_real_command_line():
    """The image's own command is one that `hindcast` accepts, on the port that it exposes, and it stops by SIGTERM."""
    assert ['["hindcast"]'] == instructions("ENTRYPOINT")
    name, options = parse_hindcast(yaml.safe_load(instructions("CMD")[0]))
    assert "serve" == name
    assert [options["address"].rpartition(":")[2]] == instructions("EXPOSE")
    assert ["SIGTERM"] == instructions("STOPSIGNAL")


def test_dockerfile_keeps_state_where_its_user_may_write():
    """The image sets the state directory by the variable that Hindcast reads, inside its user's home."""
    variables = dict(pair.split("=", 1) for pair in instructions("ENV")[0].split())
    (home,) = re.findall(r"--home-dir (\S+)", DOCKERFILE)
    assert variables[STATE_DIR_VARIABLE].startswith(f"{home}/")


def test_prometheus_scrapes_what_runs():
    """Prometheus asks only services that answer it: itself, and the server where its command says."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    ]
    _, options = parse_hindcast(SERVICES["server"]["command"])
    assert ["localhost:9090", f"server:{options['metrics_address'].rpartition(':')[2]}"] == targets
    assert [] == [name for name in config["rule_files"] if not (DEPLOY / "prometheus" / name).is_file()]


def dashboard_queries():
    """Title and query of every panel of the dashboard."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "hindcast.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def alert_queries():
    """Name and query of every alert."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    return [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]


SAMPLES = {
    f"{family.name}{end}": {*family.labels, "job", "instance", *(["le"] if end == "_bucket" else [])}
    for family in FAMILIES
    for end in (("_bucket", "_sum", "_count") if family.kind is Kind.HISTOGRAM else ("",))
}
"""Every sample that the server shows (tests/unit/test_metrics.py holds it to that), with the labels that it has."""


@pytest.mark.parametrize(("name", "query"), dashboard_queries() + alert_queries())
def test_queries_ask_for_what_is_shown(name, query):
    """Panels and alerts name only metrics that the server shows, and select and group by labels that those have."""
    asked = re.findall(r"\b(?:hindcast|grpc|feast)_(?!code|method|service|type)\w+", query)
    assert asked or "up{" in query
    assert [] == [metric for metric in asked if metric not in SAMPLES]
    known = set.intersection(*(SAMPLES[metric] for metric in asked)) if asked else {"job"}
    selected = re.findall(r"(\w+)(?:=~|!=|=)\"", query)
    grouped = [label.strip() for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(",")]
    assert {*selected, *grouped} <= known
    assert query.count("(") == query.count(")")


def test_alerts_say_what_to_do():
    """Each alert has a severity, says what is wrong, and what to do about it."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "action"} == set(rule["annotations"])


def test_the_dashboard_is_the_generated_one(tmp_path):
    """The committed dashboard is what its script writes."""
    script = shutil.copy(DEPLOY / "grafana" / "generate", tmp_path)
    (tmp_path / "dashboards").mkdir()
    subprocess.run([sys.executable, script], check=True)
    written = (tmp_path / "dashboards" / "hindcast.json").read_text()
    assert (DEPLOY / "grafana" / "dashboards" / "hindcast.json").read_text() == written


def test_grafana_is_given_the_dashboard():
    """The folder that Grafana is told to read is the one that the compose file mounts the dashboard into."""
    config = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "hindcast.yml").read_text())
    (provider,) = config["providers"]
    assert ("./deploy/grafana/dashboards", provider["options"]["path"]) in mounts(SERVICES["grafana"])


def test_grafana_reads_the_prometheus_of_the_compose_file():
    """Grafana's provisioned source is a service of the compose file."""
    config = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    (source,) = config["datasources"]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]


def commands(template):
    """Every shell line of a CI template."""
    config = yaml.safe_load((DEPLOY / "ci" / template).read_text())
    if template.startswith("github"):
        scripts = [step["run"] for job in config["jobs"].values() for step in job["steps"] if "run" in step]
    else:
        scripts = [line for job in config.values() if isinstance(job, dict) for line in job.get("script", [])]
    return [line.strip() for script in scripts for line in script.splitlines() if line.strip()]


@pytest.mark.parametrize("template", CI_TEMPLATES)
def test_ci_serves_by_the_real_command_line(template):
    """The server that a CI template starts is started by options that `hindcast` accepts."""
    (line,) = [line for line in commands(template) if line.startswith("hindcast ")]
    name, _ = parse_hindcast(line.removesuffix(" &").replace('"', "").split()[1:])
    assert "serve" == name


def test_ci_templates_run_the_same_commands():
    """Both CI systems are told the same: lint, plan, apply, materialize, serve and ask."""
    github, gitlab = (commands(template) for template in CI_TEMPLATES)
    assert [line for line in github if line != "kill $!"] == gitlab


@pytest.mark.parametrize("name", ["smoke", "same-on-spark"])
def test_scripts_of_the_templates_are_executable_python(name):
    """Each program that the templates call is one that Python can compile."""
    script = DEPLOY / "ci" / name
    assert script.stat().st_mode & stat.S_IXUSR
    compile(script.read_text(), str(script), "exec")
