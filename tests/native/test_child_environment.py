"""A browser does not inherit the libraries of a program's bundle."""

from __future__ import annotations

import sys

import pytest

from pywry_auth.native.child_environment import without_bundle

UNPACKED = "/bundles/_MEIx1y2z3"


@pytest.fixture
def pyinstaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", UNPACKED, raising=False)


@pytest.mark.usefixtures("pyinstaller")
@pytest.mark.parametrize("name", ["LD_LIBRARY_PATH", "LIBPATH"])
def test_the_earlier_search_path_is_restored(name: str) -> None:
    found = without_bundle({name: UNPACKED, f"{name}_ORIG": "/opt/own/lib:/lib"})
    assert found[name] == "/opt/own/lib:/lib"


@pytest.mark.usefixtures("pyinstaller")
@pytest.mark.parametrize("value", [UNPACKED, f"{UNPACKED}:/usr/lib", ""])
def test_without_an_earlier_search_path_there_is_none(value: str) -> None:
    assert without_bundle({"LD_LIBRARY_PATH": value, "HOME": "/home/a"}) == {"HOME": "/home/a"}


@pytest.mark.usefixtures("pyinstaller")
def test_other_variables_lose_only_their_places_in_the_bundle() -> None:
    """PyInstaller's hooks set such variables for GTK, Qt and certificates."""
    environ = {
        "QT_PLUGIN_PATH": f"{UNPACKED}/PyQt5/plugins",
        "SSL_CERT_FILE": f"{UNPACKED}/certifi/cacert.pem",
        "XDG_DATA_DIRS": f"{UNPACKED}/share:/usr/share",
        "PATH": f"/usr/bin:{UNPACKED}:/bin",
        "OTHER": f"{UNPACKED}-other/lib:/lib",
        "EMPTY": "",
    }
    assert without_bundle(environ) == {
        "XDG_DATA_DIRS": "/usr/share",
        "PATH": "/usr/bin:/bin",
        "OTHER": f"{UNPACKED}-other/lib:/lib",
        "EMPTY": "",
    }


def test_an_appimage_keeps_its_own_libraries_for_itself() -> None:
    environ = {
        "APPDIR": "/mnt/.mount_app",
        "APPIMAGE": "/home/a/app.AppImage",
        "LD_LIBRARY_PATH": "/mnt/.mount_app/usr/lib:/opt/lib",
        "PYTHONHOME": "/mnt/.mount_app/usr",
        "LD_PRELOAD": "/mnt/.mount_app/exec.so",
    }
    assert without_bundle(environ) == {"APPIMAGE": "/home/a/app.AppImage", "LD_LIBRARY_PATH": "/opt/lib"}


@pytest.mark.parametrize("folder", ["", "relative", "/"])
def test_a_folder_that_is_no_bundle_removes_nothing(folder: str) -> None:
    environ = {"LD_LIBRARY_PATH": "/opt/lib", "PATH": "/usr/bin:relative", "APPDIR": folder}
    assert (
        without_bundle(environ).items()
        >= {"LD_LIBRARY_PATH": "/opt/lib", "PATH": "/usr/bin:relative"}.items()
    )


def test_a_program_that_is_no_bundle_keeps_its_search_path() -> None:
    environ = {"LD_LIBRARY_PATH": "/opt/lib", "LD_LIBRARY_PATH_ORIG": "/elsewhere"}
    assert without_bundle(environ) == environ


def test_another_kind_of_bundle_keeps_a_search_path_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert without_bundle({"LD_LIBRARY_PATH": "/opt/lib"}) == {"LD_LIBRARY_PATH": "/opt/lib"}
