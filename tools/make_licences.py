"""Writes docs/licences.md from the installed packages: `make licences`.

A test checks that the page is up to date, and that Apache-2.0 software may be combined with every dependency.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
# The extras that CI installs.
EXTRAS = ("shift", "knowledge", "gguf", "ui", "tensorboard", "wandb", "mlflow", "trackio")

# Other names of licences in package metadata, as patterns for the whole field.
NAMES = {
    r"apache(?: software)?(?: license)?(?:,? version)?[ -]?2?(?:\.0)?(?: license)?": "Apache-2.0",
    r"(?:the )?mit(?: license)?(?: \(mit\))?": "MIT",
    r"(?:new |modified |3-clause )?bsd(?: license)?|bsd 3-clause(?: license)?|3-clause bsd license": "BSD-3-Clause",
    r"isc(?: license)?(?: \(iscl\))?": "ISC",
    r"python software foundation license|psf": "PSF-2.0",
    r"mozilla public license 2\.0(?: \(mpl 2\.0\))?": "MPL-2.0",
    r"gnu lesser general public license v3(?: \(lgplv3\))?": "LGPL-3.0-only",
    r"gnu lesser general public license v2 or later(?: \(lgplv2\+\))?": "LGPL-2.1-or-later",
}
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
    "MPL-2.0",  # applies to single files only
}  # fmt: skip
WEAK = {"LGPL-2.1-or-later", "LGPL-3.0-only"}  # may be imported in an extra; never part of our files

HEAD = """
# Licences

After this page you know the licences of selfdistill, of the data in it, and of the packages that it needs.
selfdistill is Apache-2.0 ([LICENSE](../LICENSE)). `make licences` writes this page.

## Data in the package and in the tests

| files | what they are | licence |
|---|---|---|
| `src/selfdistill/demo/` | the demo's world, texts and seed model: our own, trained on nothing else | Apache-2.0 |
| `src/selfdistill/tasks/overrefusal.jsonl` | 108 prompts of our own | Apache-2.0 |
| `src/selfdistill/tasks/reading.jsonl` | 70 texts with 420 questions and answers of our own | Apache-2.0 |
| `src/selfdistill/tasks/everyday.jsonl` | 112 prompts of our own | Apache-2.0 |
| `src/selfdistill/tasks/probes/` | generators of items, and sentences in 15 languages, of our own | Apache-2.0 |
| `src/selfdistill/tasks/lm_eval/` | settings for tasks of lm-evaluation-harness (MIT), not their data | Apache-2.0 |
| `src/selfdistill/pipeline/paper.yaml` | figures that arXiv 2402.13669 reports | facts, with their source |
| `src/selfdistill/recipes/` | settings | Apache-2.0 |
| `src/selfdistill/ui/static/htmx.min.js` | htmx 2.0.11, unchanged but for a comment with its name | 0BSD |
| `tests/data/` | rows of our own in the forms of public datasets | Apache-2.0 |

Short texts by others name their source in the code: the lists of refusal phrases in `grading/refusals.py` (Zou et al.
2023, Qi et al. 2024) and the Alpaca chat template in `models/chat_template.py`. The package holds no other data.
Datasets and models have their own licences. Many forbid commercial use (Alpaca: CC BY-NC 4.0). Rewrites are the output
of a model, and the model's licence may restrict their use.

## Packages

Packages are installed next to selfdistill and are not part of its files. The CUDA build of torch installs NVIDIA's
libraries, which are under NVIDIA's own terms. The tables hold the extras `shift`, `knowledge`, `gguf` and `ui`, and
no others. In the extra `knowledge`, two packages of the table writer of lm-evaluation-harness are under the LGPL.
"""


def needed(requirements: list[str], extras: set[str]) -> dict[str, Distribution]:
    """The installed distributions that `requirements` resolve to, by name."""
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(line), extras) for line in requirements]
    while waiting:
        wanted, among = waiting.pop()
        name = canonicalize_name(wanted.name)
        markers = [{"extra": extra} for extra in {"", *among}]
        if name in found or (wanted.marker and not any(map(wanted.marker.evaluate, markers))):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # needed on another platform
        waiting += [(Requirement(line), set(wanted.extras)) for line in found[name].requires or ()]
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """The SPDX expression of a package: its own, or else from its other metadata. Empty if there is none."""
    metadata: Any = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    said = [str(metadata.get("License") or "").strip().split("\n")[0]]
    said += [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if "License ::" in line]
    for text in said:
        for pattern, name in NAMES.items():
            if re.fullmatch(pattern, text, re.IGNORECASE):
                return name
        parts = re.split(r"\s+(?:AND|OR|and|or)\s+", text)
        if all(part in PERMISSIVE for part in parts):
            return text
    return ""


def trouble(expression: str) -> set[str]:
    """The licences of an expression that are not known to be permissive. Of alternatives, one permissive is enough."""
    alternatives = [re.split(r"\s+AND\s+", part.strip(" ()")) for part in re.split(r"\s+OR\s+", expression)]
    unknown = [{name.strip(" ()") for name in names} - PERMISSIVE for names in alternatives]
    return min(unknown, key=len)


def groups() -> dict[str, dict[str, Distribution]]:
    """The packages by heading: those that are always installed, then those that each extra adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"Always": needed(project["dependencies"], set())}
    for extra in EXTRAS:
        more = needed(project["optional-dependencies"][extra], set())
        found[f"Extra `{extra}`"] = {name: its for name, its in more.items() if name not in found["Always"]}
    return found


def page() -> str:
    parts = [HEAD.strip()]
    for heading, packages in groups().items():
        rows = [f"| {its.metadata['Name']} | {licence(its)} |" for its in packages.values()]
        parts.append("\n".join([f"### {heading}\n", "| package | licence |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
