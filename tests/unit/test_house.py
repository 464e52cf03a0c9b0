"""The house rules that no linter knows: docstrings of tests, clean files, links, reasons, and examples that are true."""

import ast
import doctest
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
SESSION = re.compile(r"^```pycon\n(.*?)^```", re.MULTILINE | re.DOTALL)
SENTENCE_BREAK = re.compile(r"(?<!e\.g)(?<!i\.e)[.!?]\s+[A-Z]")

# In pieces, so that this file is not the one that holds them.
FORBIDDEN = {
    "the address of a package index": re.compile(
        r"https?://[^\s\"'<>]*/simple\b|\bpypi" r"\.(?:org|io)|python" r"hosted"
    ),
    "an option that names an index": re.compile(r"--(?:extra-)?index" r"-url|--trusted" r"-host|PIP_" r"INDEX"),
    "a path of somebody's machine": re.compile(r"(?<![\w.$}~/-])/(?:wo" r"rk|ro" r"ot|ho" r"me/[\w<]+)(?![\w-])"),
}


def committed_texts():
    """Path and content of every text file that git tracks; without git, of every file that is not made by a command."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        made = {"__pycache__", "build", "data", "dist", "out", "results"}
        relative = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        hidden = (".venv", ".hindcast", ".venv-proto", ".venv-spark", ".git")
        paths = [
            ROOT / path
            for path in relative
            if not made & set(path.parts) and not (path.parts[0].startswith(".") and path.parts[0] in hidden)
        ]
    for path in paths:
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            yield path, content.decode()


def markdown_pages():
    """Every committed page of Markdown, and its text."""
    return [(path, text) for path, text in committed_texts() if path.suffix == ".md"]


def anchors(text):
    """The anchors that a page's headings have when it is shown."""
    titles = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in HEADING.findall(text))
    return {title.strip().replace(" ", "-") for title in titles}


def docstrings_of_tests():
    """Where, and the docstring, of every test function."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", ast.get_docstring(node)


def is_one_sentence(docstring):
    """Whether a docstring is there, is one paragraph, ends like a sentence, and holds no second one."""
    if not docstring or "\n\n" in docstring or not docstring.endswith((".", "!", "?")):
        return False
    return SENTENCE_BREAK.search(docstring) is None


def test_every_test_says_one_sentence():
    """Every test function has a docstring of one sentence."""
    assert [] == [where for where, docstring in docstrings_of_tests() if not is_one_sentence(docstring)]


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("A row is a row.", True),
        ("A long one, that goes\non in a second line.", True),
        (None, False),
        ("No end", False),
        ("One. Two.", False),
        ("One.\n\nTwo", False),
    ],
)
def test_sentences_are_told_apart(docstring, expected):
    """The check above knows a sentence from two, and from none."""
    assert expected == is_one_sentence(docstring)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_committed_files_name_no_place_of_ours(what):
    """No committed file holds the address of a package index or a path of somebody's machine."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path, text in committed_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert [] == found


@pytest.mark.parametrize(
    ("what", "pieces"),
    [
        ("the address of a package index", ("https://mirror.example/any/sim", "ple/")),
        ("the address of a package index", ("see https://py", "pi.org/project/x")),
        ("an option that names an index", ("pip install --index", "-url X")),
        ("a path of somebody's machine", ("cd /wo", "rk/main")),
        ("a path of somebody's machine", ("in /ho", "me/ada/repo")),
        ("a path of somebody's machine", ("`/ro", "ot/.cache`")),
    ],
)
def test_forbidden_lines_would_be_noticed(what, pieces):
    """The check above knows the lines that it is there for."""
    assert FORBIDDEN[what].search("".join(pieces))


def test_every_decision_is_listed():
    """Every page of a decision is linked from the list of decisions."""
    linked = set(LINK.findall((DECISIONS / "README.md").read_text()))
    assert {page.name for page in DECISIONS.glob("[0-9]*.md")} == {link for link in linked if link[0].isdigit()}


def test_decisions_are_numbered_without_gaps():
    """The pages of decisions are numbered from 1, each number once."""
    numbers = sorted(int(page.name[:4]) for page in DECISIONS.glob("[0-9]*.md"))
    assert list(range(1, len(numbers) + 1)) == numbers


@pytest.mark.parametrize("part", ["**Decision.**", "**Consequences.**"])
def test_decisions_have_their_parts(part):
    """Every decision says what was decided and what it costs."""
    assert [] == [page.name for page in DECISIONS.glob("[0-9]*.md") if part not in page.read_text()]


def test_relative_links_lead_somewhere():
    """Every relative link of every page leads to a file of the repo, and to a heading where it names one."""
    broken = []
    for path, text in markdown_pages():
        for link in LINK.findall(CODE.sub("", text)):
            if "://" in link or link.startswith("mailto:"):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name) if name else path
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert [] == broken


def dependencies():
    """The names of all direct dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    return sorted({re.match(r"[\w.-]+", line).group().lower() for line in lines})


@pytest.mark.parametrize("name", dependencies())
def test_every_dependency_has_its_reason(name):
    """Every direct dependency is named on the page that gives the reasons."""
    page = (DECISIONS / "0003-dependencies.md").read_text().lower()
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page)


def test_constraints_are_names_and_versions():
    """The constraints hold a name and a version per line, and nothing else that pip would follow."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [] == [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)]


def test_examples_of_formats_are_what_the_code_does():
    """The sessions in docs/formats.md give what they show."""
    names = {}
    runner = doctest.DocTestRunner(verbose=False)
    sessions = SESSION.findall((ROOT / "docs" / "formats.md").read_text())
    for number, session in enumerate(sessions):
        example = doctest.DocTestParser().get_doctest(session, names, f"session {number}", "docs/formats.md", 0)
        runner.run(example, clear_globs=False)
        names = example.globs
    assert (0, True) == (runner.failures, runner.tries > 20)
