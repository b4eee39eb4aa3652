"""`python -m hf_mlalign.launch.configs NAME` prints the path of these settings; without a name, all names."""

import sys

from hf_mlalign.core.errors import DataError
from hf_mlalign.launch.configs import config_names, config_path


def main(arguments: list[str]) -> int:
    """Print, and return the exit code."""
    try:
        print("\n".join(str(config_path(name)) for name in arguments) or "\n".join(config_names()))
    except DataError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
