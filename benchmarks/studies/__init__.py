"""Models trained on published data in minutes, and their errors on held-out frames compared with published ones.

One YAML file a study; ``python -m benchmarks.studies.run NAME --data FOLDER --minutes M`` trains and evaluates it.
"""
