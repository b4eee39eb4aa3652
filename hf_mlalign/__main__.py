"""The `hf-mlalign` command, also for `python -m hf_mlalign` and `accelerate launch -m hf_mlalign`."""

import sys


def main() -> None:
    """Import the command and run it; Ctrl-C while it imports ends as any later one does."""
    try:
        from hf_mlalign.cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted. Run the same command again.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
