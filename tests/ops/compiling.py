"""Small sources to compile, and their libraries."""

from carten.ops import compiler

SOURCE = 'extern "C" int answer() { return 42; }\n'
FOREIGN = 'extern "C" int answer() { return 13; }\n'


def answer(source=SOURCE, key="key"):
    return compiler.load_library(key, lambda: source).answer()


def library_of(source):
    return compiler._compiled(source, ("-shared",), compiler.ATTEMPTS, 60)
