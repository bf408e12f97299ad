"""The documents are true: links lead somewhere, the reference fits the code, commands exist."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgewright.engine import registry
from edgewright.project.config import load_project

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
EXAMPLES = sorted(p.parent for p in ROOT.glob("examples/*/edgewright.toml"))
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.S)
SHELLS = ("", "sh", "bash", "console")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(found), f"{target}: no such heading"


def test_the_reference_fits_the_code() -> None:
    assert generator().stale() == [], "run `make docs`"


def test_a_stale_reference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = generator()
    monkeypatch.setitem(module.PAGES, "errors", lambda: "# Errors\n\nsomething else")
    assert "errors" in module.stale()


def commands_of(page: Path) -> set[str]:
    blocks = "\n".join(body for language, body in FENCE.findall(page.read_text()) if language in SHELLS)
    inline = "\n".join(re.findall(r"`(make \w+|edgewright [a-z]+[^`\n]*)`", page.read_text()))
    return {line.strip().removeprefix("$ ") for line in (blocks.replace("\\\n", " ") + "\n" + inline).splitlines()}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_make_targets_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in commands_of(page):
        words = line.split()
        if words[:1] == ["make"]:
            assert {w for w in words[1:] if "=" not in w} <= known, line


def verbs_and_options() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    parts = re.split(r"^## edgewright ", text, flags=re.M)[1:]
    return {part.splitlines()[0].strip(): set(re.findall(r"`(--[a-z-]+)`", part)) for part in parts}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_verbs_and_options_exist(page: Path) -> None:
    known = verbs_and_options()
    for line in commands_of(page):
        match = re.match(r"(?:\S*/)?edgewright ([a-z]+)(?: ([a-z]+))?\b(.*)", line)
        if match:
            group = {verb for verb in known if verb.startswith(f"{match[1]} ")}
            assert group or match[1] in known, line
            verbs = {f"{match[1]} {match[2]}"} if group and match[2] else group or {match[1]}
            assert verbs <= set(known), line
            options = set(re.findall(r"(?<=\s)(--[a-z-]+)", match[3])) - {"--help"}
            assert options <= set().union(*(known[verb] for verb in verbs)), line


def toml_blocks() -> list[tuple[str, str]]:
    return [(named(page), body) for page in PAGES for kind, body in FENCE.findall(page.read_text()) if kind == "toml"]


@pytest.mark.parametrize(("page", "text"), toml_blocks(), ids=lambda value: str(value)[:30])
def test_toml_in_the_documents_is_accepted(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a project file are completed with what they leave out."""
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, str(tmp_path))
    rest = {
        r"^schema": 'schema = 1\nname = "shown"\n',
        r"^\[model\]": '\n[model]\nsource = "model.onnx"\n',
        r"^\[\[targets\]\]": '\n[[targets]]\nname = "null"\n',
    }
    missing = [value for pattern, value in rest.items() if not re.search(pattern, text, re.M)]
    head = "".join(value for value in missing if value.startswith("schema"))
    tail = "".join(value for value in missing if not value.startswith("schema"))
    (tmp_path / "edgewright.toml").write_text(head + text + tail)
    project = load_project(tmp_path)
    for target in project.targets:
        registry.make("targets", target.step)


def test_every_example_is_listed_and_explained() -> None:
    listed = (ROOT / "examples" / "README.md").read_text()
    for folder in EXAMPLES:
        assert f"({folder.name}/README.md)" in listed
        assert "https://" in (folder / "README.md").read_text(), "says where the public originals come from"


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_strictly_valid(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from edgewright.pipeline.postprocess import POSTPROCESSING
    from edgewright.pipeline.preprocess import PREPROCESSING
    from edgewright.pipeline.spec import operations

    monkeypatch.setenv("EDGEWRIGHT_BENCH", str(tmp_path))
    text = (folder / "edgewright.toml").read_text()
    (tmp_path / "edgewright.toml").write_text(re.sub(r'labels = "(.*)"', 'labels = ["one"]', text))
    project = load_project(tmp_path)
    assert [target.label for target in project.targets] == ["onnxruntime", "openvino", "litert"]
    assert project.file.budget.quality_drop == 0.01
    assert all(registry.make("targets", t.step) for t in project.targets)
    assert operations(PREPROCESSING, project.file.preprocess, "preprocess")
    assert operations(POSTPROCESSING, project.file.postprocess, "postprocess")


def test_the_public_entry_in_the_readme_is_python() -> None:
    blocks = [body for kind, body in FENCE.findall((ROOT / "README.md").read_text()) if kind == "python"]
    assert blocks
    for block in blocks:
        code = f"import ast; ast.parse({json.dumps(block)})"
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
