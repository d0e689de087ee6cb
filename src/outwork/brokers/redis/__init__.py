"""Redis and Valkey: every verb is one Lua script.

`broker.py` is the broker. `lua/` holds its scripts; `record.lua` says how a job is laid out, `records.py` is the same
in Python. `connections.py` finds the server (also by Sentinel or in a Cluster) and keeps connections to it.
"""
