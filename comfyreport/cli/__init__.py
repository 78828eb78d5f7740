"""The command: flags, signals, standard streams, exit codes, listings.

`main.command` is the console script, `arguments` its flags and nothing else, `process` what it needs of the process
around it. What isn't needed to read the flags and to take the signals is imported where it is used: `--help` should
cost little, and a signal should never come too soon. Nothing imports it but `comfyreport.__main__`.
"""
