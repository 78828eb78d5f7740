"""What reporters draw and write with: events in words, durations, bars, a region of the terminal that is drawn over.

In go events and a `RunView`, out come lines of text, safe for a terminal. All of it is public, through `comfyreport`;
reporters in `plugins/` and those of others use it, and the core only for its own messages.
"""
