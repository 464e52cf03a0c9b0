"""The materialize room: offline rows come in, online rows go out. Feast reaches it by `plugin`.

Every run leaves records in the `ledger`, whose `table` lies beside the registry: what `runs` says of it, with the `digests` of the
files that it read and the `process` that it is. `summarize` is a small program that reads the ledger into a `summary` for
`/metrics`, so that no serving process loads a Delta reader.
"""
