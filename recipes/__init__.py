"""Scripts for `accelerate launch` and plain `python`: parse arguments, build objects, run."""
