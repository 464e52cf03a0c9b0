"""A store of objects that speaks S3, on loopback, and how tests put things into it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import S3FileSystem, copy_files

from services import START_SECONDS, held_port, wait_for

MOTO = Path(sys.executable).with_name("moto_server")


@dataclass(frozen=True)
class ObjectStorage:
    """A server with one bucket, which anybody may read and write.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`.
        files: the server as a file system of Arrow.
    """

    endpoint: str
    bucket: str
    files: S3FileSystem

    @property
    def options(self) -> dict[str, str]:
        """What `find_source` needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "hindcast",
            "AWS_SECRET_ACCESS_KEY": "of-a-test",
        }

    def uri(self, key: str) -> str:
        """The address of a key."""
        return f"s3://{self.bucket}/{key}"

    def write(self, key: str, table: pa.Table, **options: object) -> None:
        """Put a Parquet file there."""
        pq.write_table(table, f"{self.bucket}/{key}", filesystem=self.files, **options)

    def put(self, key: str, content: bytes) -> None:
        """Put bytes there."""
        with self.files.open_output_stream(f"{self.bucket}/{key}") as stream:
            stream.write(content)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.files.delete_file(f"{self.bucket}/{key}")

    def upload(self, folder: Path, key: str) -> None:
        """Put a folder of this machine there."""
        copy_files(str(folder), f"{self.bucket}/{key}", destination_filesystem=self.files)

    def append_delta(self, key: str, table: pa.Table, **options: object) -> None:
        """Append to a Delta table there."""
        settings = self.options | {"AWS_ALLOW_HTTP": "true", "AWS_S3_ALLOW_UNSAFE_RENAME": "true"}
        deltalake.write_deltalake(self.uri(key), table, mode="append", storage_options=settings, **options)


@dataclass
class ObjectServer:
    """The process."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def bucket(self) -> ObjectStorage:
        """A new bucket in it."""
        files = S3FileSystem(
            access_key="hindcast", secret_key="of-a-test", region="us-east-1", allow_bucket_creation=True,  # noqa: S106
            scheme="http", endpoint_override=self.endpoint.removeprefix("http://"), background_writes=False,
        )  # fmt: skip
        name = f"bucket-{uuid4().hex[:12]}"
        files.create_dir(name)
        return ObjectStorage(self.endpoint, name, files)

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Let nobody in while the block runs: the server knows no user."""
        self._allow("0")
        try:
            yield
        finally:
            self._allow("inf")

    def _allow(self, calls: str) -> None:
        asked = Request(f"{self.endpoint}/moto-api/reset-auth", calls.encode(), {"Content-Type": "text/plain"})  # noqa: S310
        with urlopen(asked, timeout=5):  # noqa: S310 - a fixed http address
            pass


@contextlib.contextmanager
def run_object_server() -> Iterator[ObjectServer]:
    """Run a server until the block ends."""
    with held_port() as port:
        command = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        server = ObjectServer(f"http://127.0.0.1:{port}", process)
        try:
            wait_for(lambda: _answers(server), seconds=START_SECONDS, what="the object store")
            yield server
        finally:
            process.kill()
            process.wait()


def _answers(server: ObjectServer) -> bool:
    assert server.process.poll() is None, "the object store ended"
    try:
        with urlopen(f"{server.endpoint}/moto-api/", timeout=5):  # noqa: S310 - a fixed http address
            return True
    except OSError:
        return False
