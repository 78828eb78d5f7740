"""`python -m comfyreport`: the command."""

from comfyreport.cli.main import command

if __name__ == "__main__":
    command()
