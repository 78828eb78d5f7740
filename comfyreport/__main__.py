"""`python -m comfyreport`: the command."""

from comfyreport.cli import command

if __name__ == "__main__":
    command()
