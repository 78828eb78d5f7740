"""The floor of a start: the bare script, with all four packages imported that comfyreport depends on."""

import bare  # type: ignore[import-not-found]  # it lies beside this file, which is run as a script
import pluggy

assert pluggy
bare.main()
