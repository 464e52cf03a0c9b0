"""Whatever is cut, flipped or moved in a segment: the longest valid prefix is read, it is noticed, and nothing is invented."""

import os
import random

import pytest

from hindcast.lookups.segment import HEADER_BYTES, Gap, GapReason, RecoveryMode, State, scan
from segments import HEADER, payloads, segment_of

LONG = int(os.environ.get("HINDCAST_FAULT_CYCLES", "2")) > 2
"""`make faults` looks at larger segments and more places than `make test`."""

BOTH = pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
LOST = Gap(
    first_sequence=HEADER.first_sequence + 30, last_sequence=HEADER.first_sequence + 40, reason=GapReason.OVERFLOW
)


def drawn(sealed, *, count=80, bytes_max=60):
    """A segment with a gap in it, where its contents end, and its records."""
    contents = payloads(count, bytes_max=bytes_max)
    contents.insert(30, LOST)
    data, ends = segment_of(contents, sealed=sealed)
    return data, ends, scan(data).records


def prefix_before(ends, at):
    """How many contents end at or before an offset."""
    return sum(end <= at for end in ends)


def records_before(ends, at):
    """How many records do; the 31st content is a gap."""
    contents = prefix_before(ends, at)
    return contents - (contents > 30)


@BOTH
def test_a_cut_at_every_byte_of_the_last_64_records(sealed):
    """A segment that is cut anywhere in its last 64 records gives those before the cut, and is torn, or damaged if it was synced."""
    data, ends, records = drawn(sealed)
    for cut in range(ends[-65], len(data)):
        found = scan(data[:cut])
        assert records[: records_before(ends, cut)] == found.records, cut
        whole = cut in ends
        assert (State.WHOLE if whole else State.TORN) is found.state, cut
        assert whole or found.cut_short, cut
        assert State.DAMAGED is scan(data[:cut], sealed=True).state, cut
        if not whole:
            assert State.DAMAGED is scan(data[:cut], synced_end=cut).state, cut
        salvaged = scan(data[:cut], mode=RecoveryMode.SALVAGE)
        assert records[: records_before(ends, cut)] == salvaged.records, cut


@BOTH
def test_every_flipped_bit_is_noticed(sealed):
    """A segment with any one bit flipped gives the records before it, is damaged if it was synced, and never whole."""
    data, ends, records = drawn(sealed, count=80 if LONG else 40, bytes_max=800 if LONG else 30)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        found = scan(bytes(flipped), synced_end=len(data), sealed=sealed)
        before = records_before(ends, bit // 8) if bit // 8 >= HEADER_BYTES else 0
        assert (records[:before], State.DAMAGED) == (found.records, found.state), bit
        assert scan(bytes(flipped)).state is not State.WHOLE, bit


@BOTH
def test_salvage_loses_the_damaged_record_alone(sealed):
    """With `salvage` a flipped bit costs the one record that it is in, and the gap says which."""
    data, ends, records = drawn(sealed, count=50)
    for byte in range(HEADER_BYTES, ends[-1], 1 if LONG else 7):
        flipped = bytearray(data)
        flipped[byte] ^= 1 << byte % 8
        found = scan(bytes(flipped), synced_end=len(data), sealed=sealed, mode=RecoveryMode.SALVAGE)
        hit = prefix_before(ends, byte)
        lost = [] if hit == 30 else [records[hit - (hit > 30)].sequence]
        last = records[-1].sequence in lost
        assert [record for record in records if record.sequence not in lost] == found.records, byte
        told = [(gap.first_sequence, gap.last_sequence) for gap in found.gaps if gap.reason is GapReason.DAMAGED]
        missing = [(LOST.first_sequence, LOST.last_sequence)] if hit == 30 else [(at, at) for at in lost]
        assert ([] if last else missing) == told, byte


@pytest.mark.parametrize("seed", range(200 if LONG else 20))
def test_nothing_is_invented(seed):
    """Blocks that are moved, doubled, zeroed or filled at random never give a record that was not written, in any mode."""
    rng = random.Random(seed)
    data, ends, records = drawn(sealed=seed % 2 == 0, count=300)
    written = set(records)
    block = 2 ** rng.randint(4, 10)
    blocks = [data[at : at + block] for at in range(0, len(data), block)]
    first = rng.randrange(len(blocks))
    for _ in range(rng.randint(1, 4)):
        one, other = rng.randrange(first, len(blocks)), rng.randrange(first, len(blocks))
        blocks[one] = rng.choice([blocks[other], bytes(len(blocks[one])), rng.randbytes(len(blocks[one])), b""])
    changed = b"".join(blocks)
    same = next((at for at, pair in enumerate(zip(changed, data, strict=False)) if pair[0] != pair[1]), len(changed))
    found = scan(changed, synced_end=len(data))
    salvaged = scan(changed, synced_end=len(data), mode=RecoveryMode.SALVAGE)

    assert set(found.records) <= set(salvaged.records) <= written
    assert sorted(salvaged.records) == salvaged.records
    if same >= HEADER_BYTES:
        assert records[: records_before(ends, same)] == found.records[: records_before(ends, same)]
    assert (changed == data) == (found.state is State.WHOLE)
