"""What every recipe shares: its arguments, loading a policy, the start of a run, the console."""
