"""The command line: one typer application; what a command needs is imported when it runs."""

from __future__ import annotations

from carten.cli.application import app

__all__ = ["app"]
