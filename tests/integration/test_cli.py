"""The command line when something is wrong: the exact words and exit code, and never a traceback."""

import contextlib
import errno
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from commands import run_command
from faults.deployments import make_certificates
from faults.repos import make_repo
from hindcast.cli.main import cli
from hindcast.lookups import reading
from services import held_port, run_hindcast, wait_for

CANARY = "c4n4ry-in-the-cage"
PACKED = "hindcast.online.plugin.PackedRedisOnlineStore"


def hindcast(*arguments: object, **env: str) -> tuple[int, str, str]:
    """Exit code, output and error output of the command."""
    done = run_command("hindcast", *arguments)
    return done.returncode, done.stdout, done.stderr


def serve(repo: Path, *options: object) -> tuple[int, str, str]:
    """The outcome of `hindcast serve`, which must end by itself."""
    return hindcast("serve", "--repo", repo, "--address", "127.0.0.1:0", *options)


@pytest.fixture
def repo(tmp_path, redis) -> Path:
    """A repo that could be served."""
    return make_repo(tmp_path / "repo", redis.connection_string)


def configured(folder: Path, text: str) -> Path:
    """A folder whose feature_store.yaml is the text."""
    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(text)
    return folder


def test_repo_that_is_no_directory(tmp_path):
    """A path that is not there is named, with exit code 2."""
    missing = tmp_path / "missing"
    assert (
        2,
        "",
        f"hindcast: {missing} is not a directory; give the directory that holds feature_store.yaml as --repo\n",
    ) == serve(missing)


def test_repo_without_configuration(tmp_path):
    """A directory without feature_store.yaml is no Feast repo, with exit code 2."""
    assert (
        2,
        "",
        (
            f"hindcast: {tmp_path} is not a Feast repo: it has no feature_store.yaml. Give the directory that `feast apply` "
            "runs in (after `feast init NAME` that is NAME/feature_repo) as --repo\n"
        ),
    ) == serve(tmp_path)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param("project: p\nregistry: [\n", ":3", id="unclosed"),
        pytest.param("project: p\n\tregistry: r\n", ":2", id="tab"),
        pytest.param("project: p\nsince: 2001-99-99\n", "", id="no-such-day"),
        pytest.param("a: &a [*a, !!python/object:os.system x]\n", ":1", id="python-tag"),
        pytest.param("[" * 5000, "", id="too-deep"),
        pytest.param("project: \x00\n", "", id="control-character"),
    ],
)
def test_configuration_that_is_no_yaml(tmp_path, text, where):
    """YAML that cannot be read is named with its line where there is one, with exit code 2."""
    code, output, error = serve(configured(tmp_path, text))
    assert (
        2,
        "",
        f"hindcast: {tmp_path}/feature_store.yaml{where} cannot be read as YAML; mend it and try `feast apply`\n",
    ) == (code, output, error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{config} holds no settings; see `feast init` for an example"),
        ("- a list\n", "{config} holds no settings; see `feast init` for an example"),
        ("registry: r.db\n", "{config} names no project; add a line `project: NAME`"),
        ("project: 7\n", "{config} names no project; add a line `project: NAME`"),
        ("project: p\nregistry: 7\n", "{config}: `registry` must be a path or a block with a line `path: …`"),
        ("project: p\nonline_store:\n", "{config}: `online_store` must be a block with a line `type: …`"),
        ("project: p\nonline_store: [redis]\n", "{config}: `online_store` must be a block with a line `type: …`"),
    ],
)
def test_configuration_of_wrong_content(tmp_path, text, message):
    """Settings that Feast would not load are named, with what to write, with exit code 2."""
    configured(tmp_path, text)
    expected = message.format(config=tmp_path / "feature_store.yaml")
    assert (2, "", f"hindcast: {expected}\n") == serve(tmp_path)


@pytest.mark.parametrize(
    ("block", "store"),
    [
        ("", "sqlite"),
        ("online_store: dynamodb\n", "dynamodb"),
        ("online_store:\n  path: data/online.db\n", "sqlite"),
    ],
)
def test_store_of_another_type_is_shown_the_lines_to_change(tmp_path, block, store):
    """A repo on another online store is answered with the lines that serve it here, with exit code 2."""
    configured(tmp_path, f"project: p\nregistry: r.db\n{block}")
    assert (
        2,
        "",
        (
            f"hindcast: {tmp_path}/feature_store.yaml has online_store.type {store!r}, and Hindcast serves from Redis. Change "
            "the block to these lines, then run `feast apply` and `feast materialize`:\n"
            f"online_store:\n    type: {PACKED}\n    connection_string: embedded    # or HOST:PORT\n"
        ),
    ) == serve(tmp_path)


def test_keys_of_an_older_serialization_are_refused(tmp_path):
    """A repo whose entity keys Feast serializes in an older way is shown the line to change, with exit code 2."""
    configured(tmp_path, "project: p\nonline_store: {type: redis}\nentity_key_serialization_version: 2\n")
    assert (
        2,
        "",
        (
            f"hindcast: {tmp_path}/feature_store.yaml has entity_key_serialization_version 2, and Hindcast reads version 3. "
            "Change the line to `entity_key_serialization_version: 3`, then run `feast apply` and `feast materialize`\n"
        ),
    ) == serve(tmp_path)


def test_repo_before_feast_apply(repo):
    """A repo without a registry is told to run `feast apply`, with exit code 1."""
    (repo / "registry.db").unlink()
    assert (
        1,
        "",
        f"hindcast: the registry {repo}/registry.db does not exist or cannot be read. Run `feast apply` in {repo} first\n",
    ) == serve(repo)


def test_empty_registry(repo):
    """A registry without views (as Feast leaves it for a moment at each write) is refused, with exit code 1."""
    (repo / "registry.db").write_bytes(b"")
    assert (
        1,
        "",
        "hindcast: the registry holds no feature views of project 'tiny'. Run `feast apply` first\n",
    ) == serve(repo)


def test_torn_registry(repo):
    """A registry that ends in the midst of a message is refused, with exit code 1."""
    whole = (repo / "registry.db").read_bytes()
    (repo / "registry.db").write_bytes(whole[: len(whole) // 2 + 1])
    assert (
        1,
        "",
        "hindcast: the registry of project 'tiny' is damaged or half written; run `feast apply` again\n",
    ) == serve(repo)


def test_redis_that_is_not_there(tmp_path):
    """A Redis that does not answer is named by its address, with exit code 1."""
    with held_port() as port:
        assert (
            1,
            "",
            (
                f"hindcast: Redis at 127.0.0.1:{port} does not answer. Start it, or change online_store.connection_string in "
                "feature_store.yaml (`embedded` starts one for this repo)\n"
            ),
        ) == serve(make_repo(tmp_path, f"127.0.0.1:{port}"))


@pytest.mark.parametrize("redis_type", ["redis_cluster", "redis_sentinel"])
def test_cluster_and_sentinel_that_are_not_there(tmp_path, redis_type):
    """A Cluster or Sentinel that does not answer is named by its addresses, with exit code 1."""
    with held_port() as first, held_port() as second:
        addresses = f"127.0.0.1:{first},127.0.0.1:{second}"
        code, output, error = serve(make_repo(tmp_path, addresses, redis_type=redis_type))
    assert (1, "") == (code, output)
    assert error.startswith(f"hindcast: Redis at {addresses} does not answer. Start it, or change")
    assert 1 == error.count("\n")


def test_redis_that_refuses_the_login(tmp_path, redis):
    """A wrong password is said to be one, and is not repeated, with exit code 1."""
    with contextlib.closing(redis.client()) as client:
        client.execute_command("ACL", "SETUSER", "someone", "on", ">right", "+@all", "~*")
    repo = make_repo(tmp_path, f"{redis.connection_string},username=someone,password={CANARY}")
    assert (
        1,
        "",
        (
            f"hindcast: Redis at {redis.connection_string} refuses the login; check username and password in "
            "online_store.connection_string, and that this user may PING and MGET\n"
        ),
    ) == serve(repo)


PART = (
    "part {} of online_store.connection_string is neither HOST:PORT nor OPTION=VALUE; write for example "
    "`localhost:6379,db=0,password=…` (no comma in a value, no URL), or `embedded`"
)
OPTION = (
    "part {} of online_store.connection_string sets an option that redis-py does not take; write for example "
    "`localhost:6379,db=0,password=…` (no comma in a value)"
)


@pytest.mark.parametrize(
    ("connection_string", "message"),
    [
        (f"redis://:{CANARY}@127.0.0.1:6379", PART.format(1)),
        (f"{CANARY}@127.0.0.1:6379", PART.format(1)),
        (f"127.0.0.1:6379,password=a,{CANARY}", PART.format(3)),
        (f"127.0.0.1:6379,password=a,{CANARY}=b", OPTION.format(3)),
        (f"127.0.0.1:6379,passwrod={CANARY}", OPTION.format(2)),
        (f"127.0.0.1:6379,host={CANARY}", OPTION.format(2)),
        (f"127.0.0.1:6379,decode_responses={CANARY}", OPTION.format(2)),
        ("127.0.0.1:65536", PART.format(1)),
        ("127.0.0.1:²", PART.format(1)),
        ("127.0.0.1", PART.format(1)),
        ("", PART.format(1)),
        (
            f"password={CANARY}",
            "online_store.connection_string names no HOST:PORT; write `localhost:6379`, or `embedded`",
        ),
        (
            f"127.0.0.1:6379,db={CANARY}",
            "option 'db' of online_store.connection_string is not a number; write for example `db=1`",
        ),
        (
            "127.0.0.1:6379,socket_timeout=null",
            (
                "option 'socket_timeout' of online_store.connection_string is not a number; write for example "
                "`socket_timeout=1`"
            ),
        ),
    ],
)
def test_connection_string_that_cannot_be_understood(tmp_path, connection_string, message):
    """What is wrong is said by its position, with no piece of what may be a password, with exit code 2."""
    assert (2, "", f"hindcast: {message}\n") == serve(make_repo(tmp_path, connection_string))


def test_unknown_redis_type(tmp_path):
    """The types that there are, are named, with exit code 2."""
    repo = make_repo(tmp_path, "127.0.0.1:1", redis_type="redis_ring")
    assert (
        2,
        "",
        "hindcast: online_store.redis_type is 'redis_ring'; it must be one of redis, redis_cluster, redis_sentinel\n",
    ) == serve(repo)


def test_database_of_a_cluster(tmp_path):
    """A Cluster has one database, with exit code 2."""
    assert (
        2,
        "",
        "hindcast: online_store.connection_string sets db, but a Redis Cluster has database 0 only; leave it out\n",
    ) == serve(make_repo(tmp_path, "127.0.0.1:1,db=3", redis_type="redis_cluster"))


@pytest.mark.parametrize("listens", [True, False])
def test_port_of_another_program(repo, listens):
    """A port that another program holds, listening or not yet, is not shared, with exit code 1."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert (
            1,
            "",
            f"hindcast: {address} cannot be listened on: it is in use; stop who listens there (`ss -ltnp` names the process), or take another port\n",
        ) == hindcast("serve", "--repo", repo, "--address", address)


def test_port_of_another_hindcast(repo):
    """A second server does not take half of the calls of the first, which shares its port among its own workers only."""
    with run_hindcast(repo) as first:
        assert (
            1,
            "",
            f"hindcast: {first.address} cannot be listened on: it is in use; stop who listens there (`ss -ltnp` names the process), or take another port\n",
        ) == hindcast("serve", "--repo", repo, "--address", first.address)
        assert first.process.poll() is None


@pytest.mark.parametrize(
    "address", ["nonsense", ":50051", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:65536", "h:²", ""]
)
def test_address_that_is_none(repo, address):
    """An address that is not HOST:PORT is bad usage: exit code 2."""
    code, output, error = hindcast("serve", "--repo", repo, "--address", address)
    assert (2, "") == (code, output)
    assert error.endswith(
        f"Error: Invalid value for '--address': {address!r} is not an address; write HOST:PORT, for example "
        "127.0.0.1:50051\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "[2001:db8::1]"])
def test_address_of_another_machine(repo, host):
    """An address that this machine does not have is refused, with exit code 1."""
    address = f"{host}:50051"
    assert (
        1,
        "",
        f"hindcast: {address} cannot be listened on: it is not of this machine; `ip address` lists those that are\n",
    ) == hindcast("serve", "--repo", repo, "--address", address)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """PEM files, and files that are none."""
    made = make_certificates(tmp_path_factory.mktemp("tls"))
    (made.folder / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    (made.folder / "empty.pem").write_text("")
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", f"pass:{CANARY}", "-in", made.server_key, "-out", made.locked_key],
        check=True,
        capture_output=True,
    )
    return made


@pytest.mark.parametrize(
    "given",
    [("--tls-cert", "server"), ("--tls-key", "server_key"), ("--tls-client-ca", "ca")],
)
def test_tls_options_that_belong_together(repo, certificates, given):
    """Half of the TLS options is bad usage: exit code 2."""
    option, name = given
    code, output, error = serve(repo, option, getattr(certificates, name))
    assert (2, "") == (code, output)
    assert error.endswith("Error: TLS needs --tls-cert and --tls-key together; --tls-client-ca comes on top of them\n")


def test_tls_files_that_are_not_there(repo, certificates, tmp_path):
    """A TLS file that is missing, or is a directory, is bad usage: exit code 2."""
    missing = tmp_path / "missing.pem"
    code, output, error = serve(repo, "--tls-cert", missing, "--tls-key", certificates.server_key)
    assert (2, "") == (code, output)
    assert error.endswith(f"Error: Invalid value for '--tls-cert': File '{missing}' does not exist.\n")
    code, output, error = serve(repo, "--tls-cert", certificates.server, "--tls-key", tmp_path)
    assert (2, "") == (code, output)
    assert error.endswith(f"Error: Invalid value for '--tls-key': File '{tmp_path}' is a directory.\n")


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("garbage", "server_key"),
        ("empty", "server_key"),
        ("server", "garbage"),
        ("server", "client_key"),
        ("server", "locked_key"),
        ("server_key", "server"),
    ],
)
def test_tls_pair_that_is_none(repo, certificates, certificate, key):
    """A certificate and key that are broken, swapped, locked or of two pairs are refused, with exit code 1."""
    certificate_file, key_file = getattr(certificates, certificate), getattr(certificates, key)
    assert (
        1,
        "",
        (
            f"hindcast: {certificate_file} and {key_file} are not a PEM certificate and its PEM key without a passphrase; "
            "check --tls-cert and --tls-key\n"
        ),
    ) == serve(repo, "--tls-cert", certificate_file, "--tls-key", key_file)


@pytest.mark.parametrize("authority", ["garbage", "empty"])
def test_tls_authority_that_is_none(repo, certificates, authority):
    """A client CA that holds no certificate is refused, with exit code 1."""
    pair = ("--tls-cert", certificates.server, "--tls-key", certificates.server_key)
    file = getattr(certificates, authority)
    assert (1, "", f"hindcast: {file} holds no PEM certificate; check --tls-client-ca\n") == serve(
        repo, *pair, "--tls-client-ca", file
    )


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--timeout-ms", "0"),
        ("--drain-seconds", "-1"),
        ("--max-connection-age-seconds", "0"),
        ("--stale-values", "hide"),
        ("--nope",),
    ],
)
def test_options_out_of_range(repo, options):
    """An option that is unknown or out of range is bad usage: exit code 2, and nothing is started."""
    code, output, error = serve(repo, *options)
    assert (2, "") == (code, output)
    assert error.startswith("Usage: hindcast serve [OPTIONS]\n")
    assert "Traceback" not in error


def test_password_is_in_no_argument_and_no_line(tmp_path, redis):
    """While it serves, the password is in no process's arguments or environment, and in no line that is printed."""
    with contextlib.closing(redis.client()) as client:
        client.execute_command("ACL", "SETUSER", "keeper", "on", f">{CANARY}", "+@all", "~*")
    repo = make_repo(tmp_path, f"{redis.connection_string},username=keeper,password={CANARY}")
    with run_hindcast(repo, "--workers", "2") as server:
        supervisor = psutil.Process(server.process.pid)
        wait_for(lambda: len(supervisor.children()) == 3, what="two workers and a sealer")
        processes = [supervisor, *supervisor.children(recursive=True)]
        for process in processes:
            assert CANARY not in " ".join(process.cmdline())
            assert CANARY not in str(process.environ())
        with contextlib.closing(redis.client()) as client:
            # The workers lose their connections and may not log in again: what they say of it must not hold it.
            client.execute_command("ACL", "SETUSER", "keeper", "resetpass")
            client.client_kill_filter(_type="normal", skipme=True)
        assert 0 == server.stop()
    assert CANARY not in "\n".join(server.output)
    assert "Traceback" not in "\n".join(server.output)


def test_what_belongs_to_another_user_is_told_in_a_line(monkeypatch, tmp_path):
    """A log that the user of a command may not read is no traceback."""

    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(reading, "_listed", refuse)
    done = CliRunner().invoke(cli, ["lookups", "ls", "--log-dir", str(tmp_path)])

    assert (1, f"hindcast: {tmp_path / 'segments'} cannot be read or written; run this as the server's user\n") == (
        done.exit_code,
        done.stderr,
    )
