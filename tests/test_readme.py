"""What README and pages promise: commands that exist, true output, links that lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from weft.host.cli import app

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import account  # noqa: E402
import readme  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shell(text: str) -> list[str]:
    """The lines of a page's sh blocks."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def commands(text: str) -> list[str]:
    """Every `weft …` of a page, in sh blocks and in running text."""
    spoken = re.findall(r"`(weft [^`]+)`", text)
    return [c.partition(" > ")[0] for c in (*shell(text), *spoken) if c.startswith("weft ")]


@pytest.mark.parametrize("marker", readme.COMMANDS)
def test_output_is_true(marker: str):
    """But for the backend, and for seconds."""
    shown = readme.blocks(README)[marker]
    options = [] if marker == "profile" else ["--backend=model"]
    if marker == "lenet":
        images = re.search(r"^(\d+) images in [\d.]+ s on verilator, ", shown, re.MULTILINE)
        assert images is not None
        options.append(f"--images={images[1]}")

    def timeless(text: str) -> str:
        return re.sub(r"[\d.]+ s on \w+", "… s", text)

    assert timeless(shown) == timeless(readme.output(marker, *options)), "run `tools/readme.py`"


def test_fill_replaces_every_block():
    other = {marker: f"{marker}\n" for marker in (*readme.COMMANDS, "python")}
    changed = readme.fill(README, other)
    assert readme.blocks(changed) == other
    assert readme.fill(changed, readme.blocks(README)) == README
    with pytest.raises(ValueError, match="no block for bench"):
        readme.blocks(README.replace("<!-- bench -->", ""))


def test_account_is_true():
    page = account.PAGE.read_text(encoding="utf-8")
    block = account.BLOCK.search(page)
    assert block is not None
    assert block[0] == account.lenet_account(), "run `python tools/account.py --write`"


def test_example_is_the_readmes_and_short():
    python = readme.blocks(README)["python"]
    assert python == readme.example()
    assert sum(bool(line.strip()) for line in python.splitlines()) <= 10


def test_example_runs():
    done = subprocess.run(
        [sys.executable, readme.EXAMPLE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0 mismatches, [1-9]\d* cycles an image\n", done.stdout)


@pytest.mark.parametrize("command", sorted({*commands(README), *commands(QUICKSTART)}))
def test_commands_exist(command):
    group = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    context = group.make_context("weft", words)
    while words:
        name, group, words = group.resolve_command(context, words)
        context = group.make_context(name, list(words), parent=context)
        if not hasattr(group, "resolve_command"):
            break


def test_pages_show_commands():
    assert len(commands(README)) >= 6
    assert len(commands(QUICKSTART)) >= 7


def test_make_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = {c.split()[1] for c in shell(README) if c.startswith("make ")}
    assert targets == {"bench", "lenet", "test", "verify"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_quickstart_configuration(tmp_path):
    lines = shell(QUICKSTART)
    first = lines[: lines.index("weft config show mine.toml") + 1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", "\n".join(first)],
        cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'name = "mine"' in done.stdout
    assert "rows = 8\ncols = 12\n" in done.stdout


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_listed():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name
