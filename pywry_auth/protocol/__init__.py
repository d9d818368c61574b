"""The RFCs' rules; no Flask, no stores, no threads of its own.

Every function here takes values and returns values or raises. Higher floors decide when it is called, where
its results are kept and how users see them. Wire names (``redirect_uri``, ``code_verifier`` …) stay inside.
"""
