"""`tap-drift-archive`, and `python -m tap_drift.archive`."""

from __future__ import annotations

from tap_drift import signals


def main() -> None:
    """Run the command, and end in order from the first moment on.

    Raises:
        SystemExit: Always, with the exit code.
    """
    with signals.importing():
        from tap_drift.archive.cli import command  # noqa: PLC0415
    command(prog_name="tap-drift-archive")


if __name__ == "__main__":
    main()
