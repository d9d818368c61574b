"""The surroundings of a program, and the way to ask that follows from them. [N2, N3, N12]"""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path

import pytest

from pywry_auth.native.instructions import instructions
from pywry_auth.native.surroundings import Place, Way, choose, has_browser, is_remote, recognize
from pywry_auth.native.wsl import windows_browser

URL = "https://provider.example.com/authorize?state=a%26b&x='$(echo)';`echo`"
SSH = "192.0.2.1 50000 192.0.2.9 22"
MICROSOFT = "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@x)"
INTEROP = {"proc/sys/fs/binfmt_misc/WSLInterop": "enabled"}
POWERSHELL = "mnt/c/Windows/System32/WindowsPowerShell/v1.0/powershell.exe"
WINDOWS = {"proc/version": MICROSOFT, POWERSHELL: "", "mnt/c/Windows/explorer.exe": "", **INTEROP}


def made(root: Path, files: dict[str, str]) -> Path:
    """Create the files of an imitated system."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("platform", "environ", "files", "place", "way"),
    [
        ("linux", {"DISPLAY": ":0"}, {}, Place.HERE, Way.BROWSER),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, {}, Place.HERE, Way.BROWSER),
        ("linux", {}, {}, Place.HERE, Way.DEVICE),
        # A process of sudo or of an old tmux lacks the variables of the desktop.
        ("linux", {}, {"tmp/.X11-unix/X0": ""}, Place.HERE, Way.URL),
        ("linux", {}, {"run/user/1000/wayland-0": ""}, Place.HERE, Way.URL),
        ("linux", {"BROWSER": "w3m"}, {}, Place.HERE, Way.DEVICE),
        ("linux", {"BROWSER": "w3m:firefox"}, {}, Place.HERE, Way.BROWSER),
        ("linux", {"SSH_CONNECTION": SSH}, {}, Place.SSH, Way.DEVICE),
        ("linux", {"SSH_TTY": "/dev/pts/1"}, {"tmp/.X11-unix/X0": ""}, Place.SSH, Way.DEVICE),
        ("linux", {"SSH_CONNECTION": SSH, "DISPLAY": "localhost:10.0"}, {}, Place.SSH, Way.BROWSER),
        ("darwin", {}, {}, Place.HERE, Way.BROWSER),
        ("darwin", {"SSH_CONNECTION": SSH}, {}, Place.SSH, Way.DEVICE),
        ("win32", {}, {}, Place.HERE, Way.BROWSER),
        ("win32", {"SSH_TTY": "x"}, {}, Place.SSH, Way.DEVICE),
        # sudo removes the variables of SSH, and mosh has a server of its own.
        (
            "linux",
            {},
            {"proc/9/stat": "9 (a) b) S 8 9", "proc/8/stat": "8 (sshd-session) S 1 8"},
            Place.SSH,
            Way.DEVICE,
        ),
        (
            "linux",
            {"SUDO_USER": "a"},
            {"proc/9/stat": "9 (sh) S 8 9", "proc/8/stat": "8 (mosh-server) S 1 8"},
            Place.SSH,
            Way.DEVICE,
        ),
        ("linux", {}, {".dockerenv": ""}, Place.CONTAINER, Way.DEVICE),
        ("linux", {}, {"run/.containerenv": ""}, Place.CONTAINER, Way.DEVICE),
        ("linux", {}, {"proc/1/cgroup": "0::/system.slice/docker-1.scope"}, Place.CONTAINER, Way.DEVICE),
        ("linux", {"container": "lxc"}, {}, Place.CONTAINER, Way.DEVICE),
        ("linux", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {".dockerenv": ""}, Place.KUBERNETES, Way.DEVICE),
        ("linux", {"CODESPACES": "true"}, {".dockerenv": ""}, Place.CODESPACE, Way.DEVICE),
        ("linux", {"CODESPACES": "true", "BROWSER": "/vs/helper"}, {}, Place.CODESPACE, Way.BROWSER),
        ("linux", {"GITPOD_WORKSPACE_ID": "x"}, {}, Place.GITPOD, Way.DEVICE),
        ("linux", {"REMOTE_CONTAINERS": "true"}, {}, Place.DEV_CONTAINER, Way.DEVICE),
        ("linux", {"JUPYTERHUB_USER": "a"}, {}, Place.HUB, Way.DEVICE),
        ("linux", {"WSL_DISTRO_NAME": "Debian"}, WINDOWS, Place.WSL, Way.BROWSER),
        ("linux", {}, WINDOWS, Place.WSL, Way.BROWSER),
        # Windows cannot be reached, but its user sits at this machine.
        ("linux", {"WSL_DISTRO_NAME": "Debian"}, {"proc/version": MICROSOFT}, Place.WSL, Way.URL),
        # A container has the kernel of WSL, but no Windows.
        ("linux", {}, {**WINDOWS, ".dockerenv": ""}, Place.CONTAINER, Way.DEVICE),
        ("linux", {"SSH_CONNECTION": SSH}, WINDOWS, Place.SSH, Way.DEVICE),
    ],
)
def test_the_surroundings_decide_how_the_user_is_asked(
    tmp_path: Path, platform: str, environ: dict[str, str], files: dict[str, str], place: Place, way: Way
) -> None:
    """A device code is never shown where a browser on the same machine would do (RFC 10027)."""
    here = recognize(environ, platform, root=made(tmp_path, files), process=9)
    assert here.place is place
    ways = {
        (device, paste): choose(here, open_browser=True, can_paste=paste, offers_device=partial(bool, device))
        for device in (True, False)
        for paste in (True, False)
    }
    assert ways[True, True].way is ways[True, False].way is way
    last = (Way.PASTE, Way.URL) if way is Way.DEVICE else (way, way)
    assert (ways[False, True].way, ways[False, False].way) == last
    if way is Way.DEVICE:
        assert all(
            chosen.reason.startswith(f"{place.value} without a browser of its own, so ")
            for chosen in ways.values()
        )
        assert 'mode "paste"' in ways[True, True].reason
    assert choose(here, open_browser=False, can_paste=True, offers_device=lambda: True).way is Way.URL


@pytest.mark.parametrize(
    ("platform", "environ"),
    [
        # Variables of a connection that may have ended: the multiplexer is attached at the screen now.
        ("linux", {"SSH_CONNECTION": SSH, "TMUX": "/run/tmux-1000/default,9,0"}),
        ("linux", {"SSH_TTY": "/dev/pts/1", "STY": "9.pts-1.host"}),
        ("darwin", {"SSH_CONNECTION": SSH, "ZELLIJ": "0"}),
        # A connection from the machine itself, also to its own address.
        ("linux", {"SSH_CONNECTION": "127.0.0.1 50000 127.0.1.1 22"}),
        ("linux", {"SSH_CONNECTION": "::1 50000 ::1 22"}),
        ("linux", {"SSH_CONNECTION": "192.0.2.9 50000 192.0.2.9 22"}),
        ("darwin", {"SSH_CONNECTION": "127.0.0.1 50000 127.0.0.1 22"}),
        # A container of the user's desktop, which shares its screen.
        ("linux", {"container": "oci"}),
    ],
)
def test_no_code_is_shown_if_the_user_may_sit_at_this_machine(
    tmp_path: Path, platform: str, environ: dict[str, str]
) -> None:
    """With the pasted address, a browser on this machine and one on another machine both work."""
    here = recognize(environ, platform, root=made(tmp_path, {"tmp/.X11-unix/X0": ""}), process=9)
    choice = choose(here, open_browser=True, can_paste=True, offers_device=lambda: True)
    assert choice.way is Way.PASTE
    assert "You may sit at this machine" in choice.reason
    assert choose(here, open_browser=True, can_paste=False, offers_device=lambda: True).way is Way.URL
    if platform == "linux":  # without a screen, the user cannot sit here
        bare = recognize(environ, platform, root=tmp_path / "none", process=9)
        assert choose(bare, open_browser=True, can_paste=True, offers_device=lambda: True).way is Way.DEVICE


def test_a_notebook_shows_the_address_unless_its_kernel_is_remote(tmp_path: Path) -> None:
    here = recognize({}, "linux", notebook=True, root=tmp_path, process=9)
    assert choose(here, open_browser=True, can_paste=True, offers_device=lambda: True).way is Way.URL
    remote = recognize({"SSH_CONNECTION": SSH}, "linux", notebook=True, root=tmp_path, process=9)
    assert choose(remote, open_browser=True, can_paste=True, offers_device=lambda: False).way is Way.PASTE


def test_the_reason_names_an_editor_or_windows(tmp_path: Path) -> None:
    def reason(environ: dict[str, str], files: dict[str, str]) -> str:
        here = recognize(environ, "linux", root=made(tmp_path, files), process=9)
        return choose(here, open_browser=True, can_paste=True, offers_device=lambda: True).reason

    assert reason({"DISPLAY": ":0"}, {}) == ""
    editor = {"SSH_CONNECTION": SSH, "VSCODE_IPC_HOOK_CLI": "/run/x.sock", "BROWSER": "/vs/helper.sh"}
    assert "forwards the port" in reason(editor, {})
    assert "localhostForwarding" in reason({}, WINDOWS)


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({"BROWSER": "firefox"}, False, True),
        ({"BROWSER": "/usr/bin/lynx -x"}, False, False),
        ({"BROWSER": "/usr/bin/lynx -x"}, True, True),
        ({"BROWSER": ":", "DISPLAY": ""}, True, False),
        ({"BROWSER": "w3m", "DISPLAY": ":0"}, False, True),
    ],
)
def test_a_text_browser_counts_only_with_a_terminal(
    tmp_path: Path, environ: dict[str, str], terminal: bool, expected: bool
) -> None:
    assert has_browser(environ, "linux", terminal=terminal, root=tmp_path) is expected


def test_a_remote_user_is_recognized() -> None:
    assert is_remote({"SSH_CONNECTION": SSH})
    assert not is_remote({"SSH_CONNECTION": "", "DISPLAY": ":0"})


def test_windows_opens_the_address_unchanged(tmp_path: Path) -> None:
    """It is tried against an imitation of WSL's files. [T59]"""
    root = made(tmp_path, WINDOWS)
    first, *others = windows_browser(URL, root, lambda name: f"/usr/bin/{name}")
    assert first == ["wslview", URL]
    powershell, explorer = others
    assert powershell[0] == str(root / POWERSHELL)
    script = base64.b64decode(powershell[-1]).decode("utf-16-le")
    assert script == "Start-Process -FilePath '" + URL.replace("'", "''") + "'"
    assert explorer == [str(root / "mnt/c/Windows/explorer.exe"), URL]
    (root / "proc/sys/fs/binfmt_misc/WSLInterop").unlink()
    assert list(windows_browser(URL, root, lambda name: None)) == []


# The message


def message(environ: dict[str, str], uri: str, root: Path, **more: bool) -> list[str]:
    return instructions(URL, uri, recognize(environ, "linux", root=root, process=9), **more).splitlines()


@pytest.mark.parametrize(
    ("connection", "redirect_uri", "command"),
    [
        (SSH, "http://127.0.0.1:8400/callback", "ssh -L 8400:127.0.0.1:8400 USER@192.0.2.9"),
        (SSH, "http://localhost:8400/callback", "ssh -L 8400:127.0.0.1:8400 USER@192.0.2.9"),
        (SSH, "http://[::1]:8400/callback", "ssh -L 8400:[::1]:8400 USER@192.0.2.9"),
        (
            "2001:db8::1 5 2001:db8::9 2222",
            "http://127.0.0.1:8400/",
            "ssh -L 8400:127.0.0.1:8400 -p 2222 USER@2001:db8::9",
        ),
    ],
)
def test_the_tunnel_names_this_machine(
    tmp_path: Path, connection: str, redirect_uri: str, command: str
) -> None:
    for pasting in (False, True):
        lines = message({"SSH_CONNECTION": connection}, redirect_uri, tmp_path, pasting=pasting)
        assert f"    {command}" in lines
        assert lines.count(f"    {URL}") == 1


def test_the_tunnel_without_an_address_names_the_host(tmp_path: Path) -> None:
    for odd in ("x", "a b c d", "1 2 $(reboot) 22"):
        text = "\n".join(message({"SSH_CONNECTION": odd}, "http://127.0.0.1:8400/", tmp_path))
        assert "8400:127.0.0.1:8400 USER@" in text
        assert "reboot" not in text


def test_other_places_have_other_tunnels(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:8400/callback"
    pods = "\n".join(message({"KUBERNETES_SERVICE_HOST": "x"}, uri, tmp_path))
    assert "kubectl port-forward pod/" in pods
    assert "gh codespace ports forward 8400:8400" in "\n".join(message({"CODESPACES": "1"}, uri, tmp_path))
    assert "--network host" in "\n".join(message({"container": "docker"}, uri, tmp_path))
    assert "ssh" not in "\n".join(message({"SSH_CONNECTION": SSH}, uri, tmp_path, opening=True))


def test_the_message_prepares_the_user_for_the_error_page(tmp_path: Path) -> None:
    text = " ".join(" ".join(message({}, "http://127.0.0.1:8400/cb", tmp_path, pasting=True)).split())
    assert "shows an error page" in text
    assert "This is expected. Copy the whole address from the address bar" in text
    assert "It begins with http://127.0.0.1:8400/cb?" in text
