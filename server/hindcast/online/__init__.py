"""The online room: rows of features in Redis. Rows come in from materialization and pushes and go out to serving.

`keys`, `codec` and `schemas` are the format (docs/formats.md); `rows` and `writer` put it in row by row, and `encode`, `packing` and
`stream` a run's batches by column (made of `pieces`); `reader` moves bytes (`commands` over a `link` per node), `generations` says which
rows of a view are served and which may be, and `layouts`
find rows in them, Feast's own layout included, and `sinks` push rows into either; `store`, `connection` and `embedded` say
which store a repo has and where its Redis is; `migration` copies Feast's rows into packed ones (`sweep`, `feast_rows` and
`packed_rows` read all there are, `proof` compares them); `plugin` is Feast's door to all of it, the one module here that
imports Feast.
"""
