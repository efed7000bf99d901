"""A cache of compiled code, and a compiler, that a test has for itself."""

import pytest

from carten.ops import cache, compiler, cpp, library


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of compiled code, not made yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache._warn_once.cache_clear()
    yield tmp_path / "cache" / "carten"
    cache._warn_once.cache_clear()


@pytest.fixture
def fresh():
    """The compiler is looked for anew, before and after."""

    def forget():
        for function in (compiler.compiler, compiler._try_out, cpp._kernel, cpp._sums, library._warn_once):
            function.cache_clear()

    forget()
    yield
    forget()
