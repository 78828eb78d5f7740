"""Getting a run's outputs onto the disk: whole files, under names that nobody else has.

`target.Target` is what `--output` asks for, `writing` how a file gets its name or its content, `fetching.fetch` how its
bytes come though a connection breaks. `engine` saves one output after the other with them; `jobs` makes the target.
"""
