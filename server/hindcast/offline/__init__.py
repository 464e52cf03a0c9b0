"""The offline room: batch sources. Rows come in from pushes and go out to training sets and materialization.

`location` says where a source's files are, `columns` gives pushed values the form of those files, and `parts` appends them; `plugin` is
Feast's door to all of it, the one module here that imports Feast. `columns` and `parts` import pyarrow, `location` imports nothing.

`winners` finds the newest row of each key for materialization: `sources` and `delta` pin the files, `scan` reads them in small batches,
`candidates`, `instants`, `order` and `keyforms` make of them what `few` gives to NumPy or `newest` to DuckDB, and `quarantine` keeps rows
dated ahead.
"""
