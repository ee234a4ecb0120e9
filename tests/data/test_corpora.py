"""Known corpora: found where they lie, else downloaded, else a message that says what to do."""

import gzip

import pytest

from rnnlab.data import corpora
from rnnlab.data.files import find_file

NAME = "ud-ewt/en_ewt-ud-dev.conllu"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RNNLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_file_that_is_there_is_taken(root):
    (root / "ud-ewt").mkdir(parents=True)
    with gzip.open(root / f"{NAME}.gz", "wt") as file:
        file.write("packed")
    assert find_file(NAME) == root / f"{NAME}.gz"
    (root / NAME).write_text("plain")
    assert find_file(NAME) == root / NAME


def test_offline_the_message_says_what_to_place_where(root, monkeypatch):
    # Nothing answers at this port of the machine itself.
    remote = corpora.RemoteFile("http://127.0.0.1:9/input.txt", "0" * 64)
    monkeypatch.setitem(corpora.FILES, "tinyshakespeare/input.txt", remote)
    expected = rf"input.txt cannot be downloaded .*place the file of {remote.url} at {root}/tinyshakespeare/input.txt"
    with pytest.raises(ValueError, match=expected):
        find_file("tinyshakespeare/input.txt")


def test_a_download_is_checked_and_kept(root, monkeypatch, tmp_path):
    import hashlib
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "corpus.txt").write_text("to be or not to be")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/corpus.txt"
        digest = hashlib.sha256(b"to be or not to be").hexdigest()
        monkeypatch.setitem(corpora.FILES, "a/corpus.txt", corpora.RemoteFile(url, digest))
        monkeypatch.setitem(corpora.FILES, "b/corpus.txt", corpora.RemoteFile(url, "0" * 64))
        assert find_file("a/corpus.txt").read_text() == "to be or not to be"
        with pytest.raises(ValueError, match="b/corpus.txt cannot be downloaded .*hash"):
            find_file("b/corpus.txt")
        assert not (root / "b" / "corpus.txt").exists()
    finally:
        server.shutdown()
        server.server_close()


def test_names_are_those_of_the_experiments():
    assert all(len(remote.sha256) == 64 and remote.url.startswith("https://") for remote in corpora.FILES.values())
