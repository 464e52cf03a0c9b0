"""Entity frames: the rows that a training set is asked for, in whatever form the caller has them, as often as they are read.

`frame` takes all forms (`from_pandas`, `paths`, `query` for SQL text), `held` keeps them, `layouts` and `timetext` settle what Arrow and text leave open, and
`spine` finds the frame of a read without one in the sources.
"""
