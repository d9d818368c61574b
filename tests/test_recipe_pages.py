"""The page of recipes shows the programs that ``make recipes`` runs."""

from __future__ import annotations

from tests.documents import DOCS, blocks
from tests.recipes.site import COMMANDS, RECIPES

_PAGE = DOCS / "recipes.md"


def test_the_page_repeats_each_file_word_by_word() -> None:
    shown = [*blocks(_PAGE, "python"), *blocks(_PAGE, "nginx")]
    files = [path for path in RECIPES.iterdir() if path.suffix in (".py", ".conf")]
    assert sorted(shown) == sorted(path.read_text() for path in files)


def test_the_page_has_the_commands_that_are_run() -> None:
    shown = "".join(blocks(_PAGE, "sh"))
    for name, command in COMMANDS.items():
        assert command.partition(" --port")[0].format(port=8001 if name == "wsgi" else 8501) in shown


def test_every_recipe_is_run() -> None:
    """Each file is one of the programs of ``make recipes``."""
    programs = {path.stem.removesuffix("_app") for path in RECIPES.glob("*.py")}
    assert programs <= COMMANDS.keys()
