"""`tap-drift`, and `python -m tap_drift`."""

from __future__ import annotations

import os
import signal
import sys

from tap_drift import signals


def main() -> None:
    """Run the tap from the command line, and end in order from the first moment on.

    Raises:
        SystemExit: Always, with the exit code.
    """
    if sys.stdout is None:  # a shell's `>&-`
        sys.exit("The output can't be written: stdout is closed.")
    if os.name == "posix":  # whoever shares stdout may have told it not to wait
        os.set_blocking(sys.stdout.fileno(), True)
    with signals.importing():
        from tap_drift.tap import TapDrift  # noqa: PLC0415
    try:
        TapDrift.cli()
    finally:
        # Python sets handlers of its own to the default before it ends, which would kill.
        signals.handle(signal.SIG_IGN)


if __name__ == "__main__":
    main()
