"""The room that serves training sets to callers elsewhere: `hindcast.v1.TrainingSets`, in a process of its own.

Building takes gigabytes and minutes, so nothing of it happens in a process that answers lookups. `process` is the server, `handlers` has the RPCs;
`requests` reads what is asked for (`confinement` says which files it may name, `uploads` takes entity frames that are sent), `jobs` runs one thing at
a time in a thread and tells how far it is, and `answers` writes what came of it.
"""
