"""A Streamlit page for signed-in users, behind nginx."""

import requests
import streamlit as st

USER_INFO = "http://127.0.0.1:8001/auth/userinfo"


def signed_in_user():
    """Return the user, or stop: the websocket of an open page outlives a sign-out."""
    cookie = st.context.headers.get("Cookie", "")
    answer = requests.get(USER_INFO, headers={"Cookie": cookie}, timeout=5)
    if answer.status_code != 200:
        st.error("Sign in again: load the page.")
        st.stop()
    return answer.json()


user = signed_in_user()
st.header(f"Hello {user['user_info'].get('name', user['user_id'])}")
if st.button("Load"):
    st.text(f"Report for {user['user_id']}" if "admin" in user["roles"] else "For administrators only")
st.html('<form method="post" action="/auth/logout"><button>Sign out</button></form>')
