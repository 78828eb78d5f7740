"""Stands in for torchaudio, which ComfyUI imports at its start and which nothing in these tests calls."""
