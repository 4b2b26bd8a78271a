"""Run the `cynosure` command. Decides nothing that a room could decide."""
