"""Benchmarks: comfyreport side by side with a bare script that does no more than receive and parse."""
