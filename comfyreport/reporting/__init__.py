"""The plugin system: hooks, finding and building reporters, and the thread that calls them.

`hookspecs` is what reporters may implement, `plugins` finds and builds those that were asked for, `delivery` calls them
with events, one at a time, so that none can hurt the run; `streams` is where their text goes. `engine` publishes events
to it, `testing` and `cli` use its parts. Importing it loads none of that.
"""
