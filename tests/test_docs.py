"""The README and docs/: links resolve, commands and recipes in the pages are valid, generated pages are current."""

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from support.command import Done

from selfdistill.backends import loops
from selfdistill.cli import EXAMPLES, app
from selfdistill.measure import noninferiority
from selfdistill.pipeline import difficulty
from selfdistill.recipe import Recipe, make_recipe
from selfdistill.recipe.model import ServerConfig
from selfdistill.recipe.plain_yaml import parse_yaml
from selfdistill.recipe.suites import SUITES, suite_tasks
from selfdistill.sandbox import Limits
from selfdistill.tasks.probes.items import CHOOSING, REPORTED
from tools import make_keys

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
per_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

ROWS = [row.path for row in make_keys.rows_of_keys()]
KEYS = {path.rsplit(".", n)[0] for path in ROWS for n in range(path.count(".") + 1)}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: their language and their text."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        yield found[1], found[2]


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The words after `selfdistill` of each command line, and whether it stands in a block, so that it is complete."""
    text = page.read_text(encoding="utf-8")
    if page.name == "cli.md":
        return
    for _, block in blocks(page):
        block = block.replace("\\\n", " ")
        lines = re.sub(r"^(selfdistill [^'\n]*'[^'\n]*)\n([^'\n]*')", r"\1 \2", block, flags=re.M).splitlines()
        yield from ((words, True) for line in lines if (words := after_the_name(line)))
    for inline in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        if words := after_the_name(inline):
            yield words, False


def after_the_name(line: str) -> list[str]:
    found = re.match(r"(?:.*-- )?\s*(?:\$ )?selfdistill ([a-z].*)", line)
    words = shlex.split(found[1], comments=True) if found else []
    return words[: words.index(">")] if ">" in words else words


@per_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in slugs(file), f"{page.name}: {target}"


@per_page
def test_commands_exist_with_their_options_and_keys(page: Path) -> None:
    for words, complete in commands(page):
        name, *arguments = words
        assert name in COMMANDS, words
        options = {option for its in COMMANDS[name].params for option in (*its.opts, *its.secondary_opts)}
        for word in arguments:
            assert not word.startswith("--") or word.partition("=")[0] in {*options, "--help"}, words
            if "=" in word and not word.startswith("-"):
                assert known(word.partition("=")[0]), words
        if complete:
            COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example(name: str) -> None:
    example = f"selfdistill {name} {EXAMPLES[name]}"
    assert COMMANDS[name].epilog == f"Example: {example}"
    _, *arguments = after_the_name(example)
    COMMANDS[name].make_context(name, arguments)
    assert all(known(word.partition("=")[0]) for word in arguments if "=" in word)


def known(path: str) -> bool:
    """Whether `path` is a key of a recipe, or leads into a mapping with free names."""
    path = re.sub(r"^arms\.[^.]+", "arms.NAME", path.removeprefix("judge."))
    return (
        path in KEYS
        or f"{path}[]" in KEYS
        or path.startswith(("sweep.", "train.extra.", "arms.NAME.train.", "model.template_kwargs."))
    )


@per_page
def test_settings_within_sentences_are_keys(page: Path) -> None:
    settings = re.findall(
        r"`((?:train|data|model|rewrite|evaluate|judge|card|shift)\.[a-z_.]+)=", page.read_text("utf-8")
    )
    assert [path for path in settings if not known(path)] == []


@per_page
def test_python_in_pages_compiles(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            compile(text, page.name, "exec")


@per_page
def test_python_in_pages_imports_names_that_exist(page: Path) -> None:
    trees = [ast.parse(text) for language, text in blocks(page) if language == "python" and page.name != "adding.md"]
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
        if (node.module or "").partition(".")[0] == "selfdistill":
            module = importlib.import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


@per_page
def test_headings_stand_between_blank_lines(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    joined = [(one, other) for one, other in pairwise(text.splitlines()) if one and other]
    assert [pair for pair in joined if any(re.match("#+ ", line) for line in pair)] == []


@pytest.mark.parametrize("page", PAGES[3:], ids=lambda page: page.name)
def test_pages_start_with_the_use_of_them(page: Path) -> None:
    assert re.match(r"# .+\n\nAfter this page (you|your) ", page.read_text(encoding="utf-8"))


REPOSITORY = re.compile(
    r"(?<![\w./-])((?:src|tests|tools|benchmarks|examples|pipeline|grading|models|backends|generation|measure|store"
    r"|training|recipe|reports|sandbox|tasks|docs)/[\w/.-]*\w\.(?:py|yaml|jsonl?|png|svg|ipynb|md))"
)
SCRIPT = re.compile(r"python3? (?:-m )?((?:benchmarks|tools|tests|examples)[\w/.]*\w)([^`\n]*)")


@per_page
def test_files_scripts_targets_and_extras_in_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    new = set(re.findall(r"^```\w+ file=(\S+)$", text, re.M))  # the steps of docs/adding.md
    roots = (ROOT, ROOT / "src" / "selfdistill")
    paths = set(REPOSITORY.findall(text)) - new
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []
    for name, arguments in SCRIPT.findall(text):
        module = ROOT / (name if name.endswith(".py") else name.replace(".", "/"))
        script = next(path for path in (module, module.with_suffix(".py"), module / "__main__.py") if path.is_file())
        flags = re.findall(r"(?<!\S)(--?[a-z][\w-]*)", arguments)
        assert [flag for flag in flags if f'"{flag}"' not in script.read_text("utf-8")] == [], script
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)) - targets == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {extra for found in re.findall(r"selfdistill\[([\w,]+)\]", text) for extra in found.split(",")}
    assert extras - project["optional-dependencies"].keys() == set()


PROBES = [entry for entry in SUITES["probes"].tasks if entry["task"].startswith("probe-")]
LIMITS = sorted(entry["max_new_tokens"] for entry in PROBES)
NUMBERS = {
    "probes.md": (
        f"({LIMITS[0]} to {LIMITS[-1]} tokens)",
        f"{len(PROBES) * 3 * (CHOOSING + REPORTED):,} items",
        f"answers {CHOOSING} items of the medium level",
        f"under {100 * difficulty.FLOOR:.0f} % (floor",
        f"over {100 * difficulty.CEILING:.0f} % (ceiling",
        f"asks {PROBES[0]['n']} items each",
        f"{suite_tasks('probes')[0]['n']} items each",
    ),
    "gate.md": (
        f"{CHOOSING} items that chose the level is below {100 * difficulty.FLOOR:.0f} % or above "
        f"{100 * difficulty.CEILING:.0f} %",
        f"is below {100 * noninferiority.FLOOR:.0f} % or above {100 * noninferiority.CEILING:.0f} %",
    ),
    "engines.md": (
        f"one pattern of {loops.SHORTEST} to {loops.LONGEST} tokens, four times in a row",
        f"requests at a time; default {ServerConfig(url='http://x').concurrency}",
    ),
    "sandbox.md": (
        f"{Limits().cpu} s of CPU, {Limits().wall:g} s of clock, {Limits().memory >> 20} MB of address space, "
        f"{Limits().disk >> 20} MB per file",
        f"up to {Limits().threads} threads",
    ),
}


@pytest.mark.parametrize("page", NUMBERS)
def test_numbers_of_the_code_are_those_of_the_pages(page: str) -> None:
    text = " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert [number for number in NUMBERS[page] if number not in text] == []


def test_the_readme_has_the_figures_of_the_demo_that_the_log_has() -> None:
    log = (ROOT / "docs" / "log.md").read_text(encoding="utf-8").split("## The demo\n")[1].split("\n## ")[0]
    rows = {}  # a later table, of three runs, replaces the rows of an earlier one
    for name, cells in re.findall(r"^\| ([a-zA-Z][^|]*) \|((?: [\d.]+ \|){9})$", log, re.M):
        target, *others = map(float, cells.split("|")[:-1])
        rows[name] = target, sum(others) / len(others)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = re.search(
        r"seed model ([\d.]+) / ([\d.]+), .*?([\d.]+) / ([\d.]+), .*?([\d.]+) / ([\d.]+), SDFT (\S+) / (\S+)\. ", readme
    )
    assert said
    figures = [float(figure) for figure in said.groups()]
    wanted = [figure for name in ("seed", "vanilla, 8e-3", "vanilla, 2e-3", "SDFT, 8e-3") for figure in rows[name]]
    assert figures == pytest.approx(wanted, abs=0.1)  # means of rounded figures


def test_the_quick_start_begins_with_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "quick-start.md"
    text = dict(blocks(page))
    exec(compile(text["python"], page.name, "exec"), {})
    assert Path("my_data.jsonl").read_text(encoding="utf-8").startswith(text["json"])
    (init, _), (check, _), *_ = commands(page)
    assert command(*init).code == 0
    done = command(*check, "--no-probe")
    assert (done.code, "Nothing is missing" in done.out) == (0, True), done.said


def test_the_index_links_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\(([^)/]+\.md)\)", index)) == set()


@per_page
def test_recipes_are_valid(page: Path) -> None:
    for language, text in blocks(page):
        values = parse_yaml(text) if language == "yaml" else None
        if isinstance(values, dict) and values.keys() <= Recipe.model_fields.keys():
            make_recipe({"model": "demo", "task": "demo-maths", **values})


def test_the_page_of_keys_is_current() -> None:
    assert make_keys.PAGE.read_text(encoding="utf-8") == make_keys.page(), "run `make docs`"


def test_the_places_of_the_profile_exist() -> None:
    places = re.findall(r'^    \("([^"]+)", "(\w*)"\):', (ROOT / "benchmarks/profile_demo.py").read_text("utf-8"), re.M)
    files = {str(path): path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")}
    own = [(part, name) for part, name in places if not part.startswith(("transformers", "importlib"))]
    for part, name in own:
        assert any(part in path and f"def {name}" in text for path, text in files.items()), (part, name)
    assert len(own) > 15
