"""What Prometheus sees of a server."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from services import HindcastServer

RUN_WITH = ("--metrics-address", "127.0.0.1:0")
_LOGGED = "metrics on "


@dataclass(frozen=True)
class Scrape:
    """One look at `/metrics`."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels among theirs."""
        wanted = set(labels.items())
        return sum(value for (sample, given), value in self.samples.items() if sample == name and wanted <= given)

    def names(self) -> set[str]:
        """Names of samples."""
        return {name for name, _ in self.samples}

    def labels(self, name: str, label: str) -> set[str]:
        """The values that a label has in the samples of a name."""
        return {dict(given)[label] for sample, given in self.samples if sample == name}


def metrics_url(server: HindcastServer) -> str:
    """Where the server's log says that its metrics are."""
    (line,) = [line for line in server.output if _LOGGED in line]
    return line.split(_LOGGED)[1]


def scrape(url: str) -> Scrape:
    """Look at `/metrics`, in the text format."""
    status, _, text = ask(url)
    assert 200 == status
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    read = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(samples) == len(read), "a series is shown twice"
    return Scrape(read)


def ask(url: str, *, accept: str = "text/plain") -> tuple[int, Mapping[str, str], str]:
    """GET a URL; status, headers and text."""
    parts = urlsplit(url)
    with contextlib.closing(HTTPConnection(str(parts.hostname), parts.port, timeout=10)) as connection:
        connection.request("GET", parts.path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
