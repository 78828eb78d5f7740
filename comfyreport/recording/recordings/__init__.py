"""Recordings of real ComfyUI servers that ship with the package, for `comfyreport.testing`."""
