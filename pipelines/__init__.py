"""Experiments and benchmarks: each file is one command-line pipeline over Zarr stores."""
