"""Batch sources: which files there are, under which pins, and how their rows are read in bounded memory.

`source` finds and pins them, with `folders` (columns named by folders), `delta` (tables at a version), `objects` and `stores` (what is not on this machine);
`database` exports a table of a DuckDB database as a file of its own;
`scan` reads footers and rows in `arrow_types` that all files agree on, `pruning` leaves out what cannot match, `rows` streams an interval, and `stored` says what DuckDB may read by itself.
`instants` and `keyforms` are what times and keys become.
"""
