"""The command: signals, standard streams, exit codes, and what each command does.

`main.command` is the console script. What isn't needed to read the flags and to take the signals is imported where it
is used: `--help` should cost little, and a signal should never come too soon. Nothing imports it but
`comfyreport.__main__`.
"""
