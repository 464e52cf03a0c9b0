"""What training sets need of Feast: a repo's definitions as records, and point-in-time reads of such records.

The one place of the datasets room that imports Feast. `repo` is the door. `recording` makes records of Feast's objects, `reading` reads by
them, `refusals` says in our words what Feast raises, and `saved_datasets` lists sets in Feast's registry.
"""

from hindcast.datasets.retrieval.reading import FrameCall, Reading
from hindcast.datasets.retrieval.repo import Repo
from hindcast.offline.plugin.times import given_micros

__all__ = ["FrameCall", "Reading", "Repo", "given_micros"]
