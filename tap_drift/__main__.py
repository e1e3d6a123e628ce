"""`python -m tap_drift` is `tap-drift`."""

from tap_drift.tap import TapDrift

TapDrift.cli()
