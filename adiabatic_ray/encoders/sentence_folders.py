"""What a sentence-transformers folder does beside its encoder, and whether that can be scored against a backbone.

A tower of this project is an encoder with its pooling. `modules.json` of a sentence-transformers folder may add to
that: what leaves the embedding alone is let through, what only scales it is let through and said, what moves it into
another space is refused, since the stored passages are not there. Layouts from version 2 to 6 are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adiabatic_ray.spec import BackboneSpec

MODULES_FILE = "modules.json"
NORMALIZE_NOTE = "ends in Normalize and is scored without, as its backbone is: cosine stays the same, distance does not"
_OWN_CODE = "sentence_transformers."
"""Modules of the library itself; code from a repository is never run."""
_LEGACY_POOLING = "pooling_mode_"
_LEGACY_NAMES = {"cls_token": "cls", "mean_tokens": "mean"}


def pooling_files(folder: Path) -> list[str]:
    """Configurations of the pooling, relative to the folder: what `encoder_of` reads beside `modules.json`.

    Raises:
        ValueError: a `modules.json` that cannot be read.
    """
    return [f"{module['path']}/config.json" for module in _modules(folder) if _kind(module) == "Pooling"]


def encoder_of(folder: Path, base: BackboneSpec) -> tuple[Path, tuple[str, ...]]:
    """The folder of the encoder, and what a reader of the scores has to know.

    Args:
        folder: a transformers or sentence-transformers folder.
        base: says which pooling and which prefix the encoder is scored with.

    Returns:
        The folder itself where there is no `modules.json`.

    Raises:
        ValueError: modules that make another embedding than encoder and pooling of `base`, code of its own, or a
            file that cannot be read.
    """
    modules = _modules(folder)
    if not modules:
        return folder, ()
    kinds = [_kind(module) for module in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if not module["type"].startswith(_OWN_CODE):
            raise ValueError(
                f"a sentence-transformers folder must use the library's own modules, got {module['type']} in {folder}; "
                "its code is never run: save encoder and pooling alone"
            )
        if kind not in {"Transformer", "Pooling", "Normalize", "Dropout"}:
            raise ValueError(
                f"a tower must be an encoder with its pooling, since the passages are embedded so; got the module "
                f"{kind} in {folder}; tune without it, or embed the passages with it and compare there"
            )
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Transformer") + kinds.count("Pooling") > 2:
        raise ValueError(
            f"a sentence-transformers folder must begin with Transformer and Pooling, got {', '.join(kinds)} in "
            f"{folder}; save encoder and pooling alone"
        )
    _check_pooling(_read_json(folder / modules[1]["path"] / "config.json"), folder, base)
    return folder / modules[0]["path"], (NORMALIZE_NOTE,) if "Normalize" in kinds else ()


def _modules(folder: Path) -> list[dict[str, Any]]:
    """Entries of `modules.json` in order, `path` and `type` checked; none where there is no such file."""
    path = folder / MODULES_FILE
    if not path.is_file():
        return []
    modules = _read_json(path)
    if not isinstance(modules, list) or not all(
        isinstance(module, dict) and isinstance(module.get("type"), str) and isinstance(module.get("path"), str)
        for module in modules
    ):
        raise ValueError(f"{path} must be a list of modules with type and path, got {modules!r:.200}; save it again")
    for module in modules:
        if Path(module["path"]).is_absolute() or ".." in Path(module["path"]).parts:
            raise ValueError(f"{path} must name folders below its own, got {module['path']!r:.80}; save it again")
    return modules


def _kind(module: dict[str, Any]) -> str:
    """Class of a module, whose place in the library moved between versions."""
    return str(module["type"]).rpartition(".")[2]


def _check_pooling(config: dict[str, Any], folder: Path, base: BackboneSpec) -> None:
    modes = config.get("pooling_mode")
    if modes is None:  # before version 6: one key a mode
        modes = [
            key.removeprefix(_LEGACY_POOLING) for key, on in config.items() if key.startswith(_LEGACY_POOLING) and on
        ]
    modes = [_LEGACY_NAMES.get(mode, mode) for mode in ([modes] if isinstance(modes, str) else modes)]
    if modes != [base.pooling]:
        fix = "tune with that pooling"
        if modes in (["mean"], ["cls"]):
            fix = f"if the passages are embedded so, set the backbone's pooling to {modes[0]}"
        raise ValueError(
            f"a tower must be pooled as its base, {base.pooling}, got {' and '.join(modes) or 'none'} in {folder}; "
            + fix
        )
    if base.query_prefix and not config.get("include_prompt", True):
        raise ValueError(
            f"a tower must pool the prefix of its queries too, as its base does, got include_prompt false in {folder}; "
            "tune with include_prompt=True"
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"a sentence-transformers folder must hold {path.parent.name}/{path.name} as JSON, got {error}; save it "
            "again with its save_pretrained"
        ) from error
