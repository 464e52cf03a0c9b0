"""Paths of this machine, which are nobody's business elsewhere."""

import tempfile

from hindcast.datasets.sets import sets_directory
from hindcast.settings import TrainingSetsSettings, state_dir


def without_paths(text: str, settings: TrainingSetsSettings) -> str:
    """What callers elsewhere may read of a text: names for the places of this machine."""
    places = {
        str(sets_directory(settings.repo_root, settings.directory)): "the directory of the sets",
        str(state_dir(settings.repo_root)): "the state directory",
        str(settings.repo_root): "the repo",
        tempfile.gettempdir(): "the directory for what does not last",
    }
    # The longest first: the repo has the others in it.
    for place, name in sorted(places.items(), key=lambda item: -len(item[0])):
        text = text.replace(f"{place}/", "").replace(place, name)
    return text
