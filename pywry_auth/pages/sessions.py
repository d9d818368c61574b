"""The page with a user's own sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from pywry_auth.pages.html import Page, form, join, link, paragraph

_LAST = 253402300799.0  # Unix time of the last second of the year 9999
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))
_ROW = Markup("<div><dt>{}</dt><dd>{}</dd></div>")
_TIME = Markup('<time datetime="{}">{}</time>')
_CARD = Markup('<li{}>\n<h2>{}{}</h2>\n<dl class="rows">{}</dl>\n{}\n</li>')
_BADGE = Markup(' <span class="badge">This device</span>')
_INTRO = (
    "You are signed in with your account in these places. If you do not know one of them, sign it out, and "
    "change your password where you sign in."
)
_INCOMPLETE = "Some of your sessions cannot be shown at the moment: open this page again in a few minutes."


@dataclass(frozen=True)
class ShownSession:
    """One session on the page.

    Args:
        name: The browser and its platform, for people.
        is_token: Whether the application issued the session to an API client.
        network: The client's IPv4 address or IPv6 network; empty if unknown.
        provider: The provider's name for people; empty if it tells nothing.
        signed_in_at: Unix time in seconds.
        expires_at: Unix time in seconds.
        last_used_at: Unix time in seconds; None if unknown.
        current: Whether it is the session of the request.
        end_url: The address that ends the session with POST; for the present one, that of the sign-out.
    """

    name: str
    is_token: bool
    network: str
    provider: str
    signed_in_at: float
    expires_at: float
    last_used_at: float | None
    current: bool
    end_url: str


def sessions_page(
    shown: Sequence[ShownSession],
    others_url: str,
    home: str,
    *,
    now: float,
    ended: int | None = None,
    complete: bool = True,
    form_action: str = "'self'",
) -> Page:
    """Return the page ``sessions``: a card with a button for each session.

    Args:
        shown: The sessions in the order of the cards.
        others_url: The address that ends all sessions except the present one, with POST.
        home: The address of the application.
        now: Unix time in seconds.
        ended: How many sessions the form before has ended; None without such a form.
        complete: Whether the page shows all sessions.
        form_action: CSP sources for the forms and the redirects that follow.
    """
    others = sum(not each.current for each in shown)
    parts = [] if ended is None else [_note(_confirmation(ended))]
    parts += [paragraph(_INTRO)] + ([] if complete else [_note(_INCOMPLETE)])
    parts.append(Markup('<ul class="cards">\n{}\n</ul>').format(join(_card(each, now) for each in shown)))
    if others or not complete:
        parts.append(form(others_url, {}, Markup("<button>Sign out all other sessions</button>")))
    parts.append(Markup("<nav>{}</nav>").format(link(home, "Home")))
    cards = [asdict(each) | _texts(each, now) for each in shown]
    values = {"sessions": cards, "others": others, "others_url": others_url, "home": home}
    values |= {"ended": ended, "complete": complete}
    return Page("sessions", "Your sessions", join(parts, "\n"), form_action=form_action, values=values)


def moment_text(moment: float) -> str:
    """Return a Unix time in seconds as a date and time in UTC, for people."""
    return _text_of(moment, "%H:%M")


def distance_text(moment: float, now: float) -> str:
    """Return how long before or after the present a time is, for example ``5 minutes ago``.

    Args:
        moment: Unix time in seconds.
        now: The present, as Unix time in seconds.
    """
    seconds = abs(moment - now)
    for size, name in _UNITS:
        count = int(seconds // size)
        if count:
            text = f"{count} {name}{'' if count == 1 else 's'}"
            return f"in {text}" if moment > now else f"{text} ago"
    return "in less than a minute" if moment > now else "just now"


def _card(shown: ShownSession, now: float) -> Markup:
    rows = [_ROW.format(_began(shown), _time(shown.signed_in_at, min(shown.signed_in_at, now), now))]
    if shown.last_used_at is not None:
        rows.append(_ROW.format("Last used", _time(shown.last_used_at, min(shown.last_used_at, now), now)))
    rows.append(_ROW.format("Ends", _time(shown.expires_at, shown.expires_at, now)))
    facts = {"Signed in with": shown.provider, "Network": shown.network}
    rows += [_ROW.format(name, value) for name, value in facts.items() if value]
    button = Markup('<button aria-label="{}">Sign out</button>').format(_label(shown))
    mark, badge = (Markup(' class="current"'), _BADGE) if shown.current else (Markup(), Markup())
    return _CARD.format(mark, shown.name, badge, join(rows), form(shown.end_url, {}, button))


def _began(shown: ShownSession) -> str:
    return "Issued" if shown.is_token else "Signed in"


def _label(shown: ShownSession) -> str:
    """Return the button's name, which tells the sessions apart for people who do not see the card.

    Several sessions can have begun in browsers of one kind and within one minute.
    """
    parts = [f"Sign out {shown.name}", "this device" if shown.current else ""]
    parts += [f"network {shown.network}" if shown.network else ""]
    parts += [f"{_began(shown).lower()} {_text_of(shown.signed_in_at, '%H:%M:%S')}"]
    return ", ".join(filter(None, parts))


def _text_of(moment: float, clock: str) -> str:
    at = _date(moment)
    return f"{at.day} {at:%B} {at.year}, {at.strftime(clock)} UTC"


def _time(moment: float, counted: float, now: float) -> Markup:
    """Return a time, and its distance from the present.

    Args:
        moment: Unix time in seconds.
        counted: The same time; not in the future for a past event, because two clocks can differ.
        now: The present, as Unix time in seconds.
    """
    machine = _date(moment).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup("{} ({})").format(distance_text(counted, now), _TIME.format(machine, moment_text(moment)))


def _texts(shown: ShownSession, now: float) -> dict[str, str]:
    """Return the times as texts, for a site's own template."""
    used = shown.last_used_at
    return {
        "signed_in": moment_text(shown.signed_in_at),
        "expires": moment_text(shown.expires_at),
        "label": _label(shown),
        "last_used": "" if used is None else distance_text(min(used, now), now),
    }


def _confirmation(ended: int) -> str:
    if ended == 0:
        return "There was no other session to sign out."
    return "1 session was signed out." if ended == 1 else f"{ended} sessions were signed out."


def _note(text: str) -> Markup:
    return Markup('<p class="note" role="status">{}</p>').format(text)


def _date(moment: float) -> datetime:
    return datetime.fromtimestamp(min(max(moment, 0.0), _LAST), UTC)
