"""`python -m hf_mlalign`: the `hf-mlalign` command, also for `accelerate launch -m hf_mlalign`."""

from hf_mlalign.cli import main

if __name__ == "__main__":
    main()
