"""How the system's shell takes words: for commands that a message shows, and for lists of words in a variable."""

from __future__ import annotations

import os
import re
import shlex

_PLAIN_ON_WINDOWS = re.compile(r"[\w+=:./\\-]+", re.ASCII)


def quote(word: str) -> str:
    """*word* as a shell takes it for one argument: on Windows one that holds for cmd and for PowerShell."""
    if os.name != "nt":
        return shlex.quote(word)
    if _PLAIN_ON_WINDOWS.fullmatch(word):
        return word
    # A quote is doubled, not escaped: for cmd, which knows no escaping, what follows is inside of quotes still.
    return '"{}"'.format(re.sub(r"\\+(?=\"|$)", r"\g<0>\g<0>", word).replace('"', '""'))


def split(line: str) -> list[str]:
    """The words of *line*, quoted as for a shell; ValueError if it can't be read."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if os.name == "nt":
        lexer.escape = ""  # a backslash separates folders
    return list(lexer)
