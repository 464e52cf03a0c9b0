"""The offline room: batch sources. Rows come in from pushes and go out to training sets and materialization.

`location` says where a source's files are, `columns` gives pushed values the form of those files, and `parts` appends them; `plugin` is
Feast's door to all of it, the one module here that imports Feast. `columns` and `parts` import pyarrow, `location` imports nothing.
"""
