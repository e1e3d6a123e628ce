"""`python -m tap_drift.archive` is `tap-drift-archive`."""

from tap_drift.archive.cli import main

main(prog_name="tap-drift-archive")
