"""Files that are read again: changes, replaced links, wrong content."""

from __future__ import annotations

import os
from pathlib import Path

import structlog.testing

from guard.errors import ConfigError
from guard.server.watched import ReadOnce, Watched


def test_a_change_is_read_once_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    read: list[str] = []

    def again() -> None:
        text = path.read_text()
        if text == "wrong":
            raise ConfigError("wrong")
        read.append(text)

    watched = Watched()
    watched.add([str(path), None], again, "f")
    watched.look()
    assert read == []
    path.write_text("b")
    os.utime(path, ns=(1, 1))
    watched.look()
    watched.look()
    assert read == ["b"]
    path.write_text("wrong")
    watched.look()
    assert (read, watched.reloads_failed) == (["b"], 1)


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """Kubernetes renews a mounted secret by renaming a link over another."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text("same")
    (tmp_path / "data").symlink_to("one")
    read: list[int] = []
    watched = Watched()
    watched.add([str(tmp_path / "data" / "key")], lambda: read.append(1), "f")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    watched.look()
    assert read == [1]


def test_a_file_that_is_gone_and_back_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    read: list[int] = []
    watched = Watched()
    watched.add([str(path)], lambda: read.append(1), "f")
    path.unlink()
    watched.look()
    path.write_text("a")
    watched.look()
    assert read == [1, 1]


def test_nothing_configured_is_nothing_watched() -> None:
    watched = Watched()
    watched.add([None, None], lambda: None, "f")
    watched.look()
    assert watched.reloads_failed == 0


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    watched = Watched()
    watched.add([str(path)], lambda: path.read_text() and None, "f")
    path.unlink()
    os.mkfifo(path)
    watched.look()
    assert watched.reloads_failed == 1


def test_what_is_read_at_the_start_alone_is_told_once_it_differs(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        path = tmp_path / "guard.yaml"
        path.write_text("a")
        file = ReadOnce(path, "configuration")
        file.tell()
        ReadOnce(None, "configuration").tell()
        assert logs == []
        path.write_text("bb")
        file.tell()
        path.unlink()
        file.tell()
    assert [(one["event"], one["what"], one["file"]) for one in logs] == [
        ("restart needed", "configuration", str(path))
    ] * 2
    assert "restart" in logs[0]["problem"]
