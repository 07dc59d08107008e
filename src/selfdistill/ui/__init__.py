"""The workbench: a page on this machine for one recipe and its experiment. Training runs in processes of its own."""
