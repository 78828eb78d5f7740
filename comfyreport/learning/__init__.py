"""What earlier runs took: kept between runs, and what it says of the next one.

In goes what was seen of a run's nodes (`observed.Observed`), out comes what was seen of their like on that server,
newest first; between them lies a small database in the user's cache folder (`store`), which many processes share. It
holds names of servers and of node classes, digests and numbers, and nothing of what a workflow says. `jobs` reads and
writes it, `listings` shows it.
"""
