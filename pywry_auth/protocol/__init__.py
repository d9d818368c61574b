"""The rules of the RFCs, without Flask, stores or threads.

Every function here takes values and returns values or raises an error. The layers above decide when to call
it, where to keep its results and how to show them. Wire names (``redirect_uri``, ``code_verifier`` …) stay
inside.
"""
