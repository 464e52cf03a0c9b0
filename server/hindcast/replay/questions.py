"""Questions of kept lookups, as they are asked again: what was asked for under which definitions, and of which keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hindcast.catalog import BatchSource, Catalog
from hindcast.errors import HindcastError, InvalidArgument
from hindcast.lookups.receipts import Receipt
from hindcast.lookups.record import Rpc
from hindcast.serving.plan import Plan, Wanted, compile_plan
from hindcast.shadow.v1.shadow_pb2 import FeatureRefs


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A lookup and what it means.

    Attributes:
        catalog: the definitions that it is asked under.
        in_force: whether these are the ones that it was answered from.
        columns: what the caller sent by join key, whatever the caller called it, and the request data; n serialized Values each.
        at: per column of the receipt its position in the plan's answer; None where the definitions do not have it.
        note: why other definitions are used; empty if they are not.
    """

    receipt: Receipt
    plan: Plan
    catalog: Catalog
    in_force: bool
    columns: Mapping[str, Sequence[bytes]]
    at: Sequence[int | None]
    note: str = ""

    @property
    def rows(self) -> int:
        """How many entity rows."""
        return self.receipt.entity_rows

    def meaning(self) -> bytes:
        """The same for lookups that can be asked together: their views, keys, features and sources are the same."""
        plan = self.plan
        sources = [source_of(self.catalog, read.view.name) for read in plan.reads]
        parts = (
            plan.reads,
            plan.keys,
            plan.entities,
            plan.computations,
            plan.key_columns,
            plan.request_columns,
            sources,
        )
        return msgspec.json.encode(parts, order="sorted")


def asked_of(receipt: Receipt, present: Catalog | None) -> Asked:
    """What a lookup asked, under the definitions that were in force; where these are not usable, under those of now.

    Args:
        present: the definitions of now; None where there are none.
    Raises:
        InvalidArgument: the lookup failed, so that nothing was served; or no definitions are there that it can be asked under.
    """
    record = receipt.record
    if record.code or not receipt.columns:
        raise InvalidArgument.at(
            "ID",
            f"is lookup {receipt.lookup_id}, which was answered with no values; `hindcast receipt` shows how it ended",
        )
    missing = receipt.missing
    if receipt.catalog is not None:
        try:
            return _asked(receipt, receipt.catalog, in_force=True, note="")
        except HindcastError as error:
            missing = f"the definitions of that time cannot be used any more ({error})"
    if present is None:
        raise InvalidArgument.at("ID", f"cannot be asked again: {missing}")
    note = f"{missing}; asked under the definitions of now instead"
    try:
        return _asked(receipt, present, in_force=present.version == record.catalog_version, note=note)
    except HindcastError as error:
        raise InvalidArgument.at(
            "ID", f"cannot be asked again: {missing}, and those of now do not fit ({error})"
        ) from error


def source_of(catalog: Catalog, view: str) -> BatchSource | None:
    """Where the rows of a view come from; of one of its versions, where those of its newest do."""
    return catalog.sources.get(view) or catalog.sources.get(view.partition("@")[0])


def _asked(receipt: Receipt, catalog: Catalog, *, in_force: bool, note: str) -> Asked:
    record = receipt.record
    wanted = Wanted(
        record.service or None,
        b"" if record.service else FeatureRefs(val=record.refs).SerializeToString(),
        receipt.full_feature_names,
    )
    plan = compile_plan(catalog, wanted)
    places = {name: at for at, name in enumerate(plan.names)}
    at = [places.get(column.name) for column in receipt.columns]
    if in_force and None in at:
        raise InvalidArgument.at("features", "of the answer are not those of the definitions that it names")
    sent = {column.name: column.values for column in receipt.entities}
    if record.rpc is Rpc.FEAST:
        # Feast's callers may send an entity's name for its join key, and request data among the entities.
        keys = set(catalog.entities.values())
        sent = {(name if name in keys else catalog.entities.get(name, name)): values for name, values in sent.items()}
    sent |= {column.name: column.values for column in receipt.request_data}
    lacking = [name for name in (*plan.key_columns, *plan.request_columns) if name not in sent]
    if lacking:
        raise InvalidArgument.at(lacking[0], "is needed by these definitions, and was not sent")
    return Asked(receipt=receipt, plan=plan, catalog=catalog, in_force=in_force, columns=sent, at=at, note=note)
