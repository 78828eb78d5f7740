"""The documentation is true: all that its pages show runs, and all that they name is there."""
