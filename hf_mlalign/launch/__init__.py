"""Scripts for `accelerate launch -m hf_mlalign.launch.X`."""
