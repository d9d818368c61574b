"""The text of the provider's pages: one style, one frame, and what goes into it."""

STYLE = """
:root { color-scheme: light dark; --page: #eef1f6; --card: #fff; --text: #1a2233; --soft: #55607a;
  --line: #d5dbe7; --field: #77839b; --accent: #2f4bc4; --on-accent: #fff; --tint: #e4e9f8;
  --bad: #a3161f; --bad-tint: #fdeeee; }
@media (prefers-color-scheme: dark) {
  :root { --page: #10141d; --card: #1a202c; --text: #e9edf5; --soft: #a5b0c5; --line: #303a4d;
    --field: #74819c; --accent: #a9b8ff; --on-accent: #121a3a; --tint: #1d2538; --bad: #ffb0b0;
    --bad-tint: #3a2026; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: flex; flex-direction: column; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header { padding: .6rem 1rem; background: var(--tint); border-bottom: 1px solid var(--line);
  color: var(--soft); font-size: .875rem; text-align: center; }
header strong { color: var(--text); }
main { width: 100%; max-width: 27rem; margin: auto; padding: 1.5rem 1rem; }
.card { padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: 1rem;
  box-shadow: 0 1px 2px rgb(10 20 50 / .06), 0 12px 32px rgb(10 20 50 / .08); }
.mark { display: block; width: 2.75rem; height: 2.75rem; margin-bottom: 1rem; color: var(--accent); }
.mark.bad { color: var(--bad); }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 1.5rem 0 .5rem; font-size: .875rem; color: var(--soft); font-weight: 600; }
p { margin: 0 0 1rem; overflow-wrap: anywhere; }
h1 + p:not(.soft) { margin-top: .75rem; }
.soft, .hint { color: var(--soft); }
.soft strong { color: var(--text); }
code { font: .9375em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; color: var(--text); }
.problem { margin: 1rem 0; padding: .75rem 1rem; border-left: .25rem solid var(--bad);
  border-radius: .25rem; background: var(--bad-tint); color: var(--bad); }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
input { width: 100%; min-height: 2.75rem; padding: .5rem .75rem; border: 1px solid var(--field);
  border-radius: .5rem; background: var(--card); color: var(--text); font: inherit; }
input[aria-invalid] { border-color: var(--bad); }
button { width: 100%; min-height: 2.75rem; margin-top: .75rem; padding: .5rem 1rem;
  border: 1px solid var(--field); border-radius: .5rem; background: transparent; color: var(--text);
  font: inherit; font-weight: 600; cursor: pointer; overflow-wrap: anywhere; }
button.main { margin-top: 1.5rem; border-color: var(--accent); background: var(--accent);
  color: var(--on-accent); }
button:hover { text-decoration: underline; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
ul { margin: 0; padding: 0; list-style: none; }
li { padding: .2rem 0 .2rem 1.6rem; position: relative; }
li::before { content: ""; position: absolute; left: .2rem; top: .6rem; width: .7rem; height: .35rem;
  border: solid var(--accent); border-width: 0 0 2px 2px; transform: rotate(-45deg); }
.who { display: flex; gap: .75rem; align-items: center; margin: 1rem 0; padding: .75rem;
  border: 1px solid var(--line); border-radius: .75rem; }
.who span { min-width: 0; overflow-wrap: anywhere; }
.who .initial { flex: none; display: grid; place-items: center; width: 2.5rem; height: 2.5rem;
  border-radius: 50%; background: var(--accent); color: var(--on-accent); font-weight: 700; }
.who small { display: block; color: var(--soft); font-size: .875rem; }
.try { margin: .75rem 0 0; color: var(--soft); font-size: .875rem; }
.hint { margin: 1rem 0 0; padding: 0 .5rem; font-size: .875rem; text-align: center; }
@media (max-width: 26rem) { .card { padding: 1.5rem 1.25rem; } }
"""

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}{% endblock %} - local identity provider</title>
<style>{{ style|safe }}</style>
</head>
<body>
<header><strong>For trying things out.</strong> This identity provider runs on your own computer.
Do not use a real password.</header>
<main>
<div class="card">
<svg class="mark{{ " bad" if failed }}" viewBox="0 0 44 44" fill="none" stroke="currentColor"
 stroke-width="3.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
<circle cx="15" cy="29" r="9"/><path d="M21.5 22.5 37 7m-6 6 5.5 5.5M26 18l4 4"/></svg>
{% block body %}{% endblock %}
</div>
{% block below %}{% endblock %}
</main>
</body>
</html>
"""

_PARTS = """
{% macro problem_text(problem) %}
{% if problem %}<p class="problem" id="problem" role="alert">{{ problem }}</p>{% endif %}
{% endmacro %}

{% macro permission_list(client_id, permissions) %}
<h2 id="permissions">{{ client_id }} would like to</h2>
<ul aria-labelledby="permissions">
{% for permission in permissions %}<li>{{ permission }}</li>{% endfor %}
</ul>
{% endmacro %}

{% macro person(user) %}
<div class="who">
<span class="initial" aria-hidden="true">{{ user.display_name[:1]|upper }}</span>
<span><strong>{{ user.display_name }}</strong><small>{{ user.claims.email or user.username }}</small></span>
</div>
{% endmacro %}
"""

_LOGIN = """{% extends "frame.html" %}{% import "parts.html" as parts %}
{% set invalid = 'aria-invalid="true" aria-describedby="problem"'|safe if problem %}
{% block title %}{{ "Error: sign in" if problem else "Sign in" }}{% endblock %}
{% block body %}
<h1>Sign in</h1>
<p class="soft">to continue to <strong>{{ client_id }}</strong></p>
{{ parts.problem_text(problem) }}
<form method="post" action="{{ action }}">
<input type="hidden" name="csrf" value="{{ csrf }}">
<label for="username">User name or e-mail</label>
<input id="username" name="username" value="{{ username }}" autocomplete="username" autocapitalize="none"
 spellcheck="false" required {{ invalid }} {{ "autofocus" if not username }}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password"
 required {{ invalid }} {{ "autofocus" if username }}>
{% if hints %}<p class="try">Try
{% for user in hints %}<code>{{ user.username }}</code> with <code>{{ user.password }}</code>
{%- if not loop.last %} or {% endif %}{% endfor %}.</p>{% endif %}
{{ parts.permission_list(client_id, permissions) }}
<button class="main" name="action" value="login">Sign in and allow</button>
<button name="action" value="cancel" formnovalidate>Cancel</button>
</form>
{% endblock %}
{% block below %}
<p class="hint">You will go back to {{ returns_to }}</p>
{% endblock %}
"""

_CONTINUE = """{% extends "frame.html" %}{% import "parts.html" as parts %}
{% block title %}Continue as {{ user.display_name }}{% endblock %}
{% block body %}
<h1>Welcome back</h1>
<p class="soft">Continue to <strong>{{ client_id }}</strong>?</p>
{{ parts.problem_text(problem) }}
{{ parts.person(user) }}
<form method="post" action="{{ action }}">
<input type="hidden" name="csrf" value="{{ csrf }}">
{{ parts.permission_list(client_id, permissions) }}
<button class="main" name="action" value="continue">Continue as {{ user.display_name }}</button>
<button name="action" value="other">Use another account</button>
<button name="action" value="cancel">Cancel</button>
</form>
{% endblock %}
{% block below %}<p class="hint">You will go back to {{ returns_to }}</p>{% endblock %}
"""

_SIGN_OUT = """{% extends "frame.html" %}{% import "parts.html" as parts %}
{% block title %}Sign out?{% endblock %}
{% block body %}
<h1>Sign out?</h1>
<p class="soft">You are signed in at this identity provider.</p>
{{ parts.person(user) }}
<form method="post" action="{{ action }}">
<input type="hidden" name="csrf" value="{{ csrf }}">
<button class="main" name="action" value="sign_out">Sign out</button>
<button name="action" value="stay">Stay signed in</button>
</form>
{% endblock %}
"""

_MESSAGE = """{% extends "frame.html" %}
{% block title %}{{ title }}{% endblock %}
{% block body %}
<h1>{{ title }}</h1>
<p>{{ text }}</p>
<p class="soft">{{ next_step }}</p>
{% endblock %}
"""

TEMPLATES = {
    "frame.html": _FRAME,
    "parts.html": _PARTS,
    "login.html": _LOGIN,
    "continue.html": _CONTINUE,
    "sign_out.html": _SIGN_OUT,
    "message.html": _MESSAGE,
}
"""The pages by name, for Jinja to load."""
