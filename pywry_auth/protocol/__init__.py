"""What the RFCs say; no Flask, no stores, no threads of its own.

Every function here takes values and returns values or raises: who calls it, where things are kept and what a
person sees is decided on higher floors. Wire names (``redirect_uri``, ``code_verifier`` ...) stay inside.
"""
