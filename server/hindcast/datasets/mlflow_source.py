"""MLflow's plug-in for training sets, the entry point `mlflow.dataset_source`: where the rows of a dataset that a run logged are.

MLflow imports it in every process that imports `mlflow`, and in the middle of that import. So it stands on its own: the base class, the standard
library and nothing else before a set is asked for.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlflow.data.dataset_source import DatasetSource

if TYPE_CHECKING:
    from hindcast.datasets.training_set import TrainingSet

SOURCE_TYPE = "hindcast_training_set"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class HindcastDatasetSource(DatasetSource):
    """A version of a training set, by what proves it and by where it was when it was logged.

    Attributes:
        ref: `name@vN`.
        id: of the manifest, `sha256:` and 64 hex digits.
        logical_digest: of the rows.
        directory: where the sets are.
        repo: the Feast repo, for making the rows again; None where it is not known.
    """

    ref: str
    id: str
    logical_digest: str
    directory: str
    repo: str | None

    @classmethod
    def of(cls, made: "TrainingSet") -> Self:
        """The source of a set that is there."""
        return cls(
            ref=made.ref,
            id=made.id,
            logical_digest=made.digest,
            directory=str(made.directory or made.path.parent.parent),
            repo=None if made.repo is None else str(made.repo),
        )

    def load(self, *, repo: Path | str | None = None, directory: Path | str | None = None) -> "TrainingSet":
        """The training set, once its files have proven to be those that were logged.

        Files that are gone are made again from the manifest and the sources that it names, in a folder that is there until this process ends. That runs
        the functions of on-demand views which the manifest holds.

        Args:
            repo: the Feast repo, where it is another one than when the set was logged.
            directory: where the sets are, likewise; None with a `repo` for that repo's own.
        Raises:
            DatasetError: the set is not there, a file of it was changed (the message names it), or files are gone and cannot be made again.
            NotProven: files are gone, and what the manifest gives now is another table.
        """
        from hindcast.datasets.proven import proven  # noqa: PLC0415 - see the module
        from hindcast.datasets.sets import sets_directory  # noqa: PLC0415 - see the module

        root = repo if repo is not None else self.repo
        if directory is None and repo is not None:
            directory = sets_directory(Path(repo).expanduser().resolve(), None)
        return proven(
            self.ref,
            set_id=self.id,
            digest=self.logical_digest,
            directory=Path(directory if directory is not None else self.directory).expanduser().resolve(),
            repo=None if root is None else Path(root).expanduser().resolve(),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: some 400 bytes, and MLflow keeps up to 65,535."""
        return {
            "format": _FORMAT,
            "ref": self.ref,
            "id": self.id,
            "logical_digest": self.logical_digest,
            "directory": self.directory,
            "repo": self.repo,
        }

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> Self:
        """The source that `to_dict` wrote.

        Raises:
            DatasetError: it is none, or of a later version.
        """
        from hindcast.errors import DatasetError  # noqa: PLC0415 - see the module

        if isinstance(source_dict.get("format"), int) and source_dict["format"] > _FORMAT:
            raise DatasetError(
                f"the source of this MLflow dataset has format {source_dict['format']}, and this version of hindcast reads up to {_FORMAT}; install a newer one"
            )
        try:
            return cls(**{name: source_dict[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise DatasetError(
                f"the source of this MLflow dataset lacks {error.args[0]!r}; it was not written by hindcast"
            ) from error

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        """A training set alone: MLflow asks every plug-in about every path and address, and warns where two say yes."""
        loaded = sys.modules.get("hindcast.datasets.training_set")
        return loaded is not None and isinstance(raw_source, loaded.TrainingSet)

    @classmethod
    def _resolve(cls, raw_source: "TrainingSet") -> Self:
        return cls.of(raw_source)
