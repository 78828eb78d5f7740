"""Tests of the simulated ComfyUI, with real sockets on loopback."""
