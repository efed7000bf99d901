"""Run the code of a Markdown page, top to bottom, the way a reader would.

Blocks of `python` share one namespace and those of `bash` one working directory; a block after `<!-- file: NAME -->` is
written to that file; one after `<!-- not run: REASON -->` is left out, one after `<!-- needs: PART -->` where the part
(see tests/parts.py) is missing. Blocks of other languages are text.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from parts import missing

FILE = re.compile(r"<!--\s*file:\s*(\S+)\s*-->\s*")
NEEDS = re.compile(r"<!--\s*needs:\s*(\S+)\s*-->\s*")
NOT_RUN = re.compile(r"<!--\s*not run:\s*\S.*-->\s*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its fence, from 1."""

    page: Path
    line: int
    language: str
    text: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are run or written, in order."""
    found = []
    comment = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = token.content
            continue
        needed = NEEDS.fullmatch(comment)
        left_out = NOT_RUN.fullmatch(comment) or (needed and missing(needed[1]))
        if token.type == "fence" and token.map is not None and not left_out:
            language = token.info.strip()
            name = FILE.fullmatch(comment)
            if name or language in ("python", "bash"):
                found.append(Block(page, token.map[0] + 1, language, token.content, name[1] if name else None))
        comment = ""
    return found


def run(page: Path, folder: Path) -> int:
    """Run a page in an empty folder that is the working directory; returns how many blocks were run.

    Raises:
        AssertionError: when a command fails; what a Python block raises is raised.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    todo = blocks(page)
    for block in todo:
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), namespace)
        else:
            _shell(block, folder)
    return len(todo)


def _shell(block: Block, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block.text]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block} failed:\n{block.text}\n{done.stdout}\n{done.stderr}"
