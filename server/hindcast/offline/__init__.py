"""The offline room: batch sources. Rows come in from pushes and go out to training sets and materialization.

`sources` finds and reads files (and exports tables of databases to such), `frames` takes the rows that a training set is asked for, `asof` joins the two at a point in time, `winners` finds what
materialization writes online, and `writing` appends. `location` says where a source is and imports nothing; `connection` is DuckDB as it is used here, `spill` the
disk under it. `plugin` is Feast's door to all of it, and `spark` the one to Feast's Spark store.
"""
