"""A Streamlit page for signed-in users, behind nginx."""

from urllib.parse import unquote

import requests
import streamlit as st

VERIFY = "http://127.0.0.1:8001/auth/verify"


def is_allowed(**demand):
    """Return whether the user is signed in at this moment, and has the roles."""
    cookie = {"Cookie": st.context.headers.get("Cookie", "")}
    return requests.get(VERIFY, params=demand, headers=cookie, timeout=5).status_code == 204


if not is_allowed():  # the websocket of an open page outlives a sign-out
    st.error("Sign in again: load the page.")
    st.stop()

user_id = unquote(st.context.headers["X-Auth-User"])
st.text(f"Hello {user_id}")
if st.button("Load"):
    st.text(f"Report for {user_id}" if is_allowed(roles="admin") else "For administrators only")
st.html('<form method="post" action="/auth/logout"><button>Sign out</button></form>')
