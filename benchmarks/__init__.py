"""Measurements of the service: run each as `python -m benchmarks.NAME`."""
