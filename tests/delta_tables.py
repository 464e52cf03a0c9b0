"""Delta tables with what deltalake itself does not write."""

import base64
import json
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

from deltalake import DeltaTable

_RFC_1924 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_Z85 = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def commit(path, version, *actions):
    """Add a version to a table by hand: what no Python writer of Delta tables can write."""
    log = path / "_delta_log" / f"{version:020}.json"
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))


def actions_of(path, kind):
    """The actions of a kind in a table's first version."""
    lines = (path / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    return [json.loads(line)[kind] for line in lines if kind in json.loads(line)]


def protocol(feature):
    """The action that says that a table uses a feature."""
    features = [feature]
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": features,
            "writerFeatures": features,
        }
    }


def delete_rows(path, numbers):
    """Delete rows of a table's one file by a deletion vector: an even number of them."""
    added = actions_of(path, "add")[0]
    bitmap = struct.pack(f"<IIHHI{len(numbers)}H", 12_346, 1, 0, len(numbers) - 1, 16, *numbers)
    content = struct.pack("<IQI", 1_681_511_377, 1, 0) + bitmap
    text = base64.b85encode(content).translate(bytes.maketrans(_RFC_1924, _Z85)).decode()
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(content), "cardinality": len(numbers)}
    removed = {"path": added["path"], "deletionTimestamp": 1, "dataChange": True}
    commit(path, 1, protocol("deletionVectors"), {"remove": removed}, {"add": added | {"deletionVector": vector}})


def asked_while_cleaned_up(path, ask, append, *, times=25):
    """What a reader was answered who asked again and again while entries of a table's log, as old as after a day, gave way to checkpoints.

    Args:
        append: makes the next version.
    """
    stops, answers = threading.Event(), []

    def go_on():
        while not stops.is_set():
            answers.append(ask())

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(go_on) for _ in range(2)]
        try:
            for _ in range(times):
                append()
                for entry in (path / "_delta_log").iterdir():
                    os.utime(entry, (0, 0))
                table = DeltaTable(path)
                table.create_checkpoint()
                table.cleanup_metadata()
        finally:
            stops.set()
        for reader in readers:
            reader.result(timeout=30)
    return answers
