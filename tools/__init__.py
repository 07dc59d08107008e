"""Programs that write files of the repository: the demo seed, docs/cli.md and docs/licences.md."""
