"""``python -m carten``: the command line, for launchers that start Python modules (``torchrun -m carten train ..``)."""

from carten.cli import app

app(prog_name="carten")
