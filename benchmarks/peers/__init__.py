"""carten and other interatomic potentials, measured on the same structures in one run.

    python -m benchmarks.peers

installs every code into a virtual environment of its own, measures and writes ``results.json``, tables and figures.
Modules that run inside these environments (``worker``, ``settings``, ``codes``) import nothing of carten or matplotlib.
"""
