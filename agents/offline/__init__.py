"""The offline stand-in for a model: extracts from what it is given, and never pretends to reason.

`chat.OfflineChat` is its chat model; all that it says is decided in plain Python beside it.
"""
