"""comfyreport on Windows: `python -m tests.windows` runs it on the Windows CPython, under Wine."""
