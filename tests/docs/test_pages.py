"""Pages may go stale; links, commands and options in them may not."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from oocml.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
COMMAND = re.compile(r"^\s*(?:\$ )?(oocml [a-z].*)$", re.MULTILINE)
GLOBAL = {"--help", "-h", "--version"}


def anchor(heading: str) -> str:
    """How GitHub names a heading's anchor."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, part in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name}: {target}"
        if part:
            assert part in anchors(there), f"{page.name}: {target}#{part}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_verbs_and_options_that_pages_show(page):
    for line in COMMAND.findall(page.read_text()):
        words = shlex.split(line.partition("  ")[0], comments=True)[1:]
        command = app.commands.get(words[0])
        assert isinstance(command, click.Command), f"{page.name}: oocml {words[0]}"
        known = {name for option in command.params for name in option.opts} | GLOBAL
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page.name}: {line}"
