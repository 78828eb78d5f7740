"""Plays the fault matrix and prints its table; with --full also at full scale, many random scripts, and the soak."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.checks import problems_of
from tests.faults.matrix import cells


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(6) as pool:
        only = sys.argv[1:]
        chosen = [c for c in cells() if not only or any(o in c.name for o in only)]
        futures = [(cell, pool.submit(cell.play, Path(folder))) for cell in chosen]
        for cell, future in futures:
            try:
                seen = future.result()
            except BaseException as e:
                print(cell.name, "RAISED", type(e), str(e)[:1500])
                continue
            bad = list(problems_of(cell, seen))
            print(
                cell.name,
                seen.status,
                seen.code,
                f"{seen.since_fault():.1f} {seen.since_known():.1f} req {seen.polls_after()} min {seen.polls_in_a_minute()}",
                "  BAD" if bad else "",
                bad,
            )
    return 0


sys.exit(main())
