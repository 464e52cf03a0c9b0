"""The online room: rows of features in Redis. Rows come in from materialization and pushes and go out to serving.

`keys`, `codec` and `schemas` are the format (docs/formats.md); `rows` and `writer` put it in, `reader` moves bytes, and `layouts`
find rows in them, Feast's own layout included, and `sinks` push rows into either; `connection` and `embedded` say where Redis is; `plugin` is Feast's door to all of it, the one module here that imports Feast.
"""
