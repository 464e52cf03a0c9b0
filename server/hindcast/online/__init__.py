"""The online room: rows of features in Redis. Rows come in from materialization and pushes and go out to serving.

`keys`, `codec` and `schemas` are the format (docs/formats.md); `writer` and `reader` move it; `connection` and
`embedded` say where Redis is; `plugin` is Feast's door to all of it, the one module here that imports Feast.
"""
