"""The replay room: kept lookups come in, and out goes what differs between what was served, the offline store as of then, and now.

`replay` asks one lookup again, `prove` as many as there are. `questions` says what a lookup asked under which definitions, `offline` asks the
sources as of then, all lookups of one meaning at once, `online` the store or a server as of now; `comparison` puts them side by side,
`verdicts` says why two differ, with what `history` knows of runs. `result` is what comes out; `replay_text` and `replay_json` show it.
"""

from hindcast.replay.lookup import replay
from hindcast.replay.proof import prove
from hindcast.replay.result import Answered, Cell, Proof, Reason, Replay, Verdict, ViewCount

__all__ = ["Answered", "Cell", "Proof", "Reason", "Replay", "Verdict", "ViewCount", "prove", "replay"]
