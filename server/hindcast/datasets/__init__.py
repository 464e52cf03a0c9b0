"""The datasets room: training sets that can be made again byte for byte, or that say which input has changed.

In come definitions of a Feast repo (`retrieval`, the one module that imports Feast), an entity frame, and the repo's sources, read by
`hindcast.offline`; out go Parquet parts and a `manifest`, published by `store`.
"""
