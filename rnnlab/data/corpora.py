"""Corpora that rnnlab knows by name: where they come from, what their files hash to, and where they are kept.

A corpus file has a name such as 'tinyshakespeare/input.txt'. It is looked for below the folder that RNNLAB_DATA names,
or the user's cache if that is not set, and downloaded to there when it is missing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class RemoteFile(NamedTuple):
    """A file somewhere else.

    Attributes:
        url: where it is.
        sha256: of its content; what has another hash is refused.
    """

    url: str
    sha256: str


_CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data"
_UD = "https://raw.githubusercontent.com/UniversalDependencies"

# The hashes of the treebanks are those of the files that experiments/006_pos_tagging was measured on.
FILES = {
    "tinyshakespeare/input.txt": RemoteFile(
        f"{_CHAR_RNN}/tinyshakespeare/input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    ),
    "ud-ewt/en_ewt-ud-train.conllu": RemoteFile(
        f"{_UD}/UD_English-EWT/r2.16/en_ewt-ud-train.conllu",
        "634bc12d80b09eb636945607b049bc27ae2e75255ae549adc53892c4739a3a64",
    ),
    "ud-ewt/en_ewt-ud-dev.conllu": RemoteFile(
        f"{_UD}/UD_English-EWT/r2.16/en_ewt-ud-dev.conllu",
        "e238d9d7c6e1bb34a2aaae617ad60a4bd4a537bc549e5e5a5f600024f3da5192",
    ),
    "ud-lines/en_lines-ud-train.conllu": RemoteFile(
        f"{_UD}/UD_English-LinES/r2.16/en_lines-ud-train.conllu",
        "27609ded288bf3704def21f18d227e3f40957b4981174411f6bed34acf3025b6",
    ),
    "ud-lines/en_lines-ud-dev.conllu": RemoteFile(
        f"{_UD}/UD_English-LinES/r2.16/en_lines-ud-dev.conllu",
        "3aabd1f843517fb615c8760c316a76125af2fff01c59b9a4049fe7c393891d2b",
    ),
}


def dev_file(train: str) -> str | None:
    """Return the name of the development file that a known corpus has beside its training file, or None."""
    name = train.replace("-train.", "-dev.")
    return name if name != train and {train, name} <= FILES.keys() else None


def data_root() -> Path | None:
    """Return the folder that RNNLAB_DATA names, or None."""
    root = os.environ.get("RNNLAB_DATA")
    return Path(root) if root else None


def fetch(name: str) -> Path:
    """Return the path of a file of `FILES`, downloaded if it is not there yet, with a progress bar on stderr.

    Beside `name` itself, `name` + '.gz' is taken where it is there already.

    Raises:
        ValueError: the file is not there and cannot be downloaded; the message says where it may be placed by hand.
    """
    root = data_root() or cache_folder()
    for candidate in (root / name, root / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    remote, target = FILES[name], root / name
    by_hand = f"place the file of {remote.url} at {target}, or set RNNLAB_DATA to the folder that holds {name}"
    try:
        import pooch
    except ImportError:
        raise ValueError(f'downloading needs pooch: pip install "rnnlab[nlp]"; or {by_hand}') from None
    try:
        pooch.retrieve(
            remote.url, known_hash=f"sha256:{remote.sha256}", fname=target.name, path=target.parent, progressbar=True
        )
    except Exception as error:  # every protocol, proxy and disk fails in its own way
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{name} cannot be downloaded ({type(error).__name__}: {reason}); {by_hand}") from None
    return target


def cache_folder() -> Path:
    """Return the user's cache folder for rnnlab, as pooch and platformdirs name it."""
    try:
        from platformdirs import user_cache_path
    except ImportError:  # comes with pooch
        return Path.home() / ".cache" / "rnnlab"
    return user_cache_path("rnnlab")
