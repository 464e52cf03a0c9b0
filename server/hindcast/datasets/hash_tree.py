"""Hash trees as in RFC 6962, section 2.1: their root, and the way from a leaf to it."""

import hashlib
from collections.abc import Sequence

_NODE = b"\x01"


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over n digests, which are its leaves as they are."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    left = _left_leaves(len(leaves))
    return _node(tree_root(leaves[:left]), tree_root(leaves[left:]))


def siblings(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """What stands beside the way from a leaf to the root, the lowest first."""
    if len(leaves) == 1:
        return []
    left = _left_leaves(len(leaves))
    if place < left:
        return [*siblings(leaves[:left], place), tree_root(leaves[left:])]
    return [*siblings(leaves[left:], place - left), tree_root(leaves[:left])]


def root_by_siblings(leaf: bytes, place: int, leaves: int, beside: Sequence[bytes]) -> bytes | None:
    """The root of a tree of so many leaves, by one of them and its siblings; None where it has more siblings, or fewer, than were given."""
    is_right = []
    while leaves > 1:
        left = _left_leaves(leaves)
        is_right.append(place >= left)
        place, leaves = (place - left, leaves - left) if place >= left else (place, left)
    if len(is_right) != len(beside):
        return None
    digest = leaf
    for right, sibling in zip(reversed(is_right), beside, strict=True):
        digest = _node(sibling, digest) if right else _node(digest, sibling)
    return digest


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _left_leaves(leaves: int) -> int:
    """Leaves of the left branch: the largest power of two below their number."""
    return 1 << ((leaves - 1).bit_length() - 1)
