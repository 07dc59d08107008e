"""Makes the seed model that ships in `selfdistill/demo/seed`: `python -m tools.demo_seed --out DIR`."""
