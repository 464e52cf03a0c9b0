"""The inputs of a set of lookups that is made again: the log as it is, with the rows that counted then, and the labels."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from hindcast.datasets.causes import Change
from hindcast.datasets.definitions import Definitions
from hindcast.datasets.from_lookups import fill_definitions, wanted_features
from hindcast.datasets.inputs import Inputs
from hindcast.datasets.label_join import REQUEST_ID
from hindcast.datasets.manifest import LookupsRecord
from hindcast.datasets.pins import absolute_path
from hindcast.datasets.served_rows import Layout, layout_of
from hindcast.lookups.directory import WriterId
from hindcast.lookups.served_log import Range, ServedLog


@dataclass(slots=True)
class LookupInputs(Inputs):
    """What one set of lookups was made of, and can be made of again.

    Attributes:
        connection: a DuckDB that reads the log.
    """

    connection: duckdb.DuckDBPyConnection = field(kw_only=True)
    _looked: ServedLog | None = field(default=None, init=False)

    @property
    def record(self) -> LookupsRecord:
        """What the manifest says of the lookups."""
        assert self.manifest.lookups is not None  # noqa: S101 - for the type
        return self.manifest.lookups

    @property
    def log_directory(self) -> Path:
        """Where the log is."""
        return absolute_path(self.record.log.path, root=self.repo.root)

    def log(self) -> ServedLog:
        """The rows that counted then, of those that are still there."""
        if self._looked is None:
            record = self.record
            self._looked = ServedLog(
                self.connection,
                self.log_directory,
                record.service,
                Range(since_micros=record.since_micros, until_micros=record.until_micros),
                through={_writer(one.writer): one.last_sequence for one in record.log.writers},
                versions=[one.version for one in record.log.catalogs],
            )
        return self._looked

    def layout(self, *, is_new: bool) -> Layout:
        """The columns of the set; where it has all features of its service, and fills them, those that the service has now are others."""
        record = self.record
        wanted = [(one.view, one.feature) for one in record.features]
        if is_new and not record.asked and record.fill:
            now = wanted_features(None, record.service, self.repo, fills=True)
            wanted = wanted if now is None else now
        return layout_of(
            self.log(),
            wanted=wanted,
            fills=bool(record.fill),
            full_feature_names=self.manifest.definitions.full_feature_names,
            has_statuses=record.has_statuses,
            has_ages=record.has_ages,
            has_request_id=record.labels.on == REQUEST_ID,
        )

    def definitions_now(self) -> Definitions:
        """See `Inputs`: of what is filled."""
        if not self.manifest.definitions.refs and not self.record.fill:
            return self.manifest.definitions
        return fill_definitions(
            self.layout(is_new=True),
            self.record.service,
            self.repo,
            full_feature_names=self.manifest.definitions.full_feature_names,
        )

    def frame_change(self) -> Change | None:
        """None: rows of the log are no frame that somebody gave."""
        return None

    def label_change(self) -> Change | None:
        """What has become of the labels, where they were read from files."""
        change = self.given_change("labels", self.record.labels.frame)
        return replace(change, has_effect=None) if change is not None and change.what == "removed" else change


def _writer(text: str) -> WriterId:
    slot, _, epoch = text.partition("-")
    return WriterId(int(slot), int(epoch, 16))
