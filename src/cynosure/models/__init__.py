"""Load checkpoints, run their graphs. Import the module you need: half of them work without torch."""
