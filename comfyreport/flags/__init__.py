"""The command line's flags: what there are, what their values are, and what they ask for together.

In go the words of a command line, and what plugins add to the flags; out come `argparse` namespaces, and of those jobs'
settings, files, plans and credentials. `arguments` has the parsers and nothing else, so that `--help` costs little.
`cli` uses it.
"""
