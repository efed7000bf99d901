"""The documentation builds without a warning and its code runs."""

import subprocess
import sys
from pathlib import Path

import pytest

import documents

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents.run(page, tmp_path)


def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, "docs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()


def test_the_committed_tables_are_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import generate

    for name, text in generate.tables().items():
        committed = (ROOT / "docs" / "tables" / name).read_text(encoding="utf-8")
        assert committed == text, f"docs/tables/{name} is not current: run python docs/generate.py"
    assert {path.name for path in (ROOT / "docs" / "tables").iterdir()} == set(generate.tables())


PAGE = """
<!-- file: numbers.txt -->
```text
1 2
```

```python
total = sum(map(int, open("numbers.txt").read().split()))
```

```bash
test -e numbers.txt
echo 3 > total.txt
```

<!-- not run: it fails -->
```python
raise SystemExit
```

```python
assert total == int(open("total.txt").read())
```
"""


def test_a_page_runs_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert documents.run(page, tmp_path) == 4


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("```python\nraise KeyError(1)\n```\n", KeyError),
        ("```bash\nfalse\ntrue\n```\n", AssertionError),
        ("```bash\nfalse | true\n```\n", AssertionError),
        ("<!-- note -->\n```python\nmissing\n```\n", NameError),
        ("<!-- not run: the reason -->\n\ntext\n\n```python\nmissing\n```\n", NameError),
    ],
)
def test_a_page_that_does_not_run_fails(tmp_path, monkeypatch, code, error):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(code)
    with pytest.raises(error):
        documents.run(page, tmp_path)


def test_every_picture_comes_from_a_script():
    """A picture that no script names cannot be made again when what it shows has changed."""
    scripts = [path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    pictures = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert [name for name in sorted(pictures) if name not in text] == []
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in sorted(pictures) if f"images/{name}" not in shown] == []
