"""Encoders that installed packages carry: found by the packages' metadata, never by importing them.

A package registry is reached where a model hub is not, and some packages on it are a model with a little code around
it. Their files are read as data; importing such a package would run or load whatever it brings.
"""

from __future__ import annotations

import csv
import importlib.metadata
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE = "config.json", "tokenizer.json", "model.safetensors"
_FOLDER_FILES = {CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE}


def installed(name: str, version: str | None, install: str) -> Distribution:
    """The metadata of an installed package.

    Args:
        name: the package's name on the registry, not that of its module.
        version: the pinned version; None: whichever is installed.
        install: the command that installs it, for messages.

    Raises:
        ValueError: the package is missing, or has another version.
    """
    wanted = f"{name} {version}" if version else name
    try:
        distribution = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: an empty name
        raise ValueError(f"the packaged backbone needs {wanted}, got no such package; install it: {install}") from None
    if version not in (None, distribution.version):
        raise ValueError(f"the packaged backbone needs {wanted}, got {distribution.version}; install it: {install}")
    return distribution


def encoder_folder(name: str, version: str | None) -> Path:
    """The one transformers folder among the files of an installed package.

    Args:
        name: the package's name on the registry.
        version: the pinned version; None: whichever is installed.

    Raises:
        ValueError: the package is missing, has another version, or lists no such folder or several.
    """
    requirement = f"{name}=={version}" if version else name
    distribution = installed(name, version, f"pip install {requirement}")
    files_in: dict[PurePosixPath, set[str]] = {}
    # Not `distribution.files`: a backport of importlib.metadata, once imported, leaves out files that are gone.
    for path, *_ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        file = PurePosixPath(path)
        files_in.setdefault(file.parent, set()).add(file.name)
    folders = sorted(folder for folder, files in files_in.items() if files >= _FOLDER_FILES)
    if len(folders) != 1:
        got = ", ".join(map(str, folders)) or "none"
        raise ValueError(
            f"a packaged backbone must carry one folder with {CONFIG_FILE}, {TOKENIZER_FILE} and {WEIGHTS_FILE}, got "
            f"{got} in {name} {distribution.version}; name another package, or set source 'folder' and name to a folder"
        )
    return Path(str(distribution.locate_file(folders[0])))
