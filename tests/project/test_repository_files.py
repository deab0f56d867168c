"""The files that a hosting service reads are whole: workflows, issue forms, citation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
MAKE = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))


@pytest.mark.parametrize("path", sorted((GITHUB / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_workflows_run_what_is_there(path: Path) -> None:
    """Each job's commands are targets of the Makefile or files of the repository, and time is bounded."""
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if command.startswith("make "):
            assert set(command.split()[1:]) <= MAKE, command
        elif command.startswith("."):
            assert (ROOT / command.split()[0]).is_file(), command
    assert all("timeout-minutes" in job for name, job in jobs.items() if name != "deploy")


def test_the_built_site_is_what_is_published() -> None:
    """The folder that the workflow uploads is the one into which mkdocs builds."""
    steps = yaml.safe_load((GITHUB / "workflows" / "docs.yml").read_text("utf-8"))["jobs"]["build"][
        "steps"
    ]
    (uploaded,) = [step["with"]["path"] for step in steps if "upload-pages" in step.get("uses", "")]
    assert f"site_dir: {uploaded}\n" in (ROOT / "mkdocs.yml").read_text("utf-8")


@pytest.mark.parametrize(
    "path", sorted(p for p in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if p.stem != "config"), ids=lambda p: p.stem
)  # fmt: skip
def test_issue_forms_are_complete(path: Path) -> None:
    """Each has a name, a description, and fields with an id and a label of their own."""
    form = yaml.safe_load(path.read_text("utf-8"))
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_links_of_the_issue_chooser_are_pages_of_the_site() -> None:
    """Each leads to a page of docs/."""
    chooser = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text("utf-8"))
    site = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"][
        "Documentation"
    ]
    for link in chooser["contact_links"]:
        assert link["url"].startswith(site)
        page = link["url"].removeprefix(site).rstrip("/")
        assert (ROOT / "docs" / f"{page}.md").is_file()


def test_the_citation_names_this_version() -> None:
    """CITATION.cff and the changelog have the version of the package."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == version
    assert citation["repository-code"].startswith("https://")
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert first is not None
    assert first[1] == version
