"""What a run will need, worked out before it is paid for: `python -m rankrl.plan`."""
