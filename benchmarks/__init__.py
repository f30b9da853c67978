"""What is meant to be fast, measured: `python -m benchmarks`, or `make bench`. No test asserts a time.

A benchmark is a module with a `run` function that yields tables. Where two ways of computing one thing are compared,
their results have to be equal, or the benchmark fails.
"""
