"""One module per code, run in its environment.

Each builds a randomly initialised model and defines ``infer(job, atoms)``, which returns a function that evaluates
energy and forces once, and ``train(job, frames)``, which returns a function that does one optimiser step on all frames.
What is prepared before (graphs, neighbour lists, compiled models) is not timed.
"""
