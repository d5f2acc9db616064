"""The small files of a model folder: the configuration, rewritten, and what engines want beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tokenmill.model.files import find_file
from tokenmill.quant.layout import SmallFile

#: Ends of names of tokenizers, chat templates and settings; code and other weights are left behind.
ENDS = (".json", ".jinja", ".model", ".tiktoken", ".txt")
#: Names that go with the model wherever it goes.
TERMS = ("LICENSE", "LICENSE.md", "NOTICE")
CONFIG = "config.json"


def small_files(folder: Path, config: Mapping[str, object], made: Mapping[str, bytes]) -> tuple[SmallFile, ...]:
    """`config` as config.json, the files `made`, and copies of those in `folder` that belong to the model."""
    content = (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    files = [SmallFile(name=CONFIG, content=content)]
    files += [SmallFile(name=name, content=content) for name, content in made.items()]
    for name in sorted(path.name for path in folder.iterdir()):
        wanted = name in TERMS or name.endswith(ENDS)
        if not wanted or name == CONFIG or name.endswith(".index.json") or name in made or (folder / name).is_dir():
            continue
        path = find_file(folder, name)
        if path is not None:
            files.append(SmallFile(name=name, content=path))
    return tuple(files)
