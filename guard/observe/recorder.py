"""
Recording of finished exchanges into files, from a thread of its own.

A stream never waits for a disk, and what a full queue or a full disk makes impossible is counted, never
raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from guard.core.record import ExchangeRecord
from guard.observe.recording import Recording, Tape, Text, line_of, recordings
from guard.observe.redaction import first_letters

#: Latest lines kept in memory to be looked at, those with a verdict only. Unit: bytes.
KEPT_BYTES = 8 * 1024 * 1024
#: Read at once when the end of the last whole line is looked for. Unit: bytes.
_PIECE = 64 * 1024

Share = Annotated[float, Meta(ge=0, le=1)]

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class RecorderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What is recorded, and where.

    Args:
        folder: Holds the files; made if absent, for the owner only.
        healthy: Share of the answers without a verdict that is recorded. In [0, 1].
        acted: Share of the answers with a verdict. In [0, 1].
        text: "redacted" leaves the shape of the text, "scrambled" also which words are equal, "full" all of it.
        prompts: Whether what was asked is kept too, as `text` says: else a back-test excuses nothing that a prompt asks
            for. Not with "redacted".
        max_file_bytes: A file that would grow past it is closed and a new one begun. Unit: bytes.
        max_files: Files kept, the one being written included; the oldest goes first.
        queue: Exchanges that may wait to be written.
        name: First part of the files' names; processes that share a folder need different ones.
    """

    folder: Annotated[str, Meta(min_length=1)]
    healthy: Share = 0.01
    acted: Share = 1.0
    text: Text = "redacted"
    prompts: bool = False
    max_file_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    max_files: Annotated[int, Meta(ge=1)] = 8
    queue: Annotated[int, Meta(ge=1)] = 256
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]+$")] = "exchanges"


class Recorder:
    """
    Writes recordings from a thread of its own.

    Call `wants` when a request arrives, `offer` when it is over, `close` at the end. Counts are plain
    numbers, read by the metrics.

    Args:
        settings: What, where and how much.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self.settings = settings
        self.written = 0
        #: Exchanges lost to a full queue.
        self.dropped = 0
        #: Lines lost to the disk.
        self.failed = 0
        self._queue: queue.Queue[list[Recording] | None] = queue.Queue(max(settings.queue, 1))
        self._file = RotatingFile(settings)
        self._complained = False
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are recorded: with the model at hand they tell the text that they belong to."""
        return self.settings.text == "full"

    def wants(self, draw: float) -> bool:
        """
        Whether an exchange may be recorded, so that its samples must be kept.

        Args:
            draw: A random number in [0, 1), the same for `offer`.
        """
        return draw < max(self.settings.healthy, self.settings.acted)

    def offer(self, record: ExchangeRecord, tapes: Sequence[Tape], draw: float, prompt: str = "") -> None:
        """
        Hand over a finished exchange. Never waits, never raises.

        Args:
            record: The exchange.
            tapes: Its attempts with their samples.
            draw: As for `wants`.
            prompt: What the user asked, if it is known.
        """
        judged = any(attempt.kind is not None for attempt, _ in tapes)
        if draw >= (self.settings.acted if judged else self.settings.healthy):
            return
        found = recordings(record, tapes, prompt)
        if not found:
            return
        try:
            self._queue.put_nowait(found)
        except queue.Full:
            self.dropped += 1

    def close(self, timeout: float = 5.0) -> None:
        """
        Write what is queued and stop.

        Args:
            timeout: For the queue to take the sign, and again for the thread to end. Unit: seconds.
        """
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _run(self) -> None:
        self._look()
        if self.settings.text != "full":
            first_letters()
        while (found := self._queue.get()) is not None:
            for recording in found:
                self._write(recording)
        self._file.close()

    def _look(self) -> None:
        """Say at the start already that nothing will be recorded; the first anomaly may be long in coming."""
        try:
            self._file.prepare()
        except OSError as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            folder = os.path.abspath(self.settings.folder)
            _log.warning("recording failed", folder=folder, error=str(error), kind=type(error).__name__)

    def _write(self, recording: Recording) -> None:
        try:
            line = line_of(recording, self.settings.text, secrets.token_bytes(16))
            self._keep(recording, line)
            self._file.write(line)
        except Exception as error:  # a recorder that dies would go unnoticed
            self.failed += 1
            self._complain(error)
            return
        if self._complained:
            self._complained = False
            _log.info("recording again", folder=os.path.abspath(self.settings.folder), lost=self.failed)
        self.written += 1

    def _keep(self, recording: Recording, line: bytes) -> None:
        if not any(attempt.kind is not None for attempt in recording.record.attempts):
            return
        key = recording.record.request_id, recording.attempt.number
        with self._lock:
            self._kept_bytes += len(line) - len(self._kept.pop(key, b""))
            self._kept[key] = line
            while self._kept_bytes > KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def lines(self, request_id: str) -> dict[int, bytes]:
        """What was recorded lately of an exchange with a verdict: lines as in the files, by attempt."""
        with self._lock:
            return {number: line for (name, number), line in self._kept.items() if name == request_id}


class RotatingFile:
    """
    Whole lines in `<name>.jsonl`; full files become `<name>.1.jsonl`, `<name>.2.jsonl`, older by number.

    Args:
        settings: Folder, name and bounds.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._handle: int | None = None
        self._size = 0

    def write(self, line: bytes) -> None:
        """
        Append one line, whole or not at all.

        Raises:
            OSError: The disk is full, the folder not writable, or the like.
        """
        if self._handle is not None and not os.fstat(self._handle).st_nlink:
            self.close()  # somebody has removed the file: what is written to it is gone
        if self._handle is not None and self._size and self._size + len(line) > self._settings.max_file_bytes:
            self._rotate()
        if self._handle is None:
            self._open()
            if self._size and self._size + len(line) > self._settings.max_file_bytes:
                self._rotate()
                self._open()
        assert self._handle is not None
        try:
            self._put(line)
        except OSError:
            # Half a line would spoil the next one; a file that cannot be cut now is when it is opened again.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            self.close()
            raise
        self._size += len(line)

    def prepare(self) -> None:
        """
        Make the folder, and see that files can be made in it.

        Raises:
            OSError: They cannot.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))

    def close(self) -> None:
        """Close the file, if one is open; the next line opens it again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            with contextlib.suppress(OSError):
                os.close(handle)

    def _put(self, data: bytes) -> None:
        assert self._handle is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]

    def _path(self, number: int = 0) -> Path:
        suffix = f".{number}.jsonl" if number else ".jsonl"
        return self._folder / f"{self._settings.name}{suffix}"

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle = os.open(self._path(), flags, 0o600)
        try:
            os.fchmod(self._handle, 0o600)
            self._size = os.fstat(self._handle).st_size
            self._end_with_a_line(self._handle)
        except OSError:
            self.close()
            raise

    def _end_with_a_line(self, handle: int) -> None:
        """See to the end of a file that a crash may have left in the middle of a line."""
        begun = self._size
        while begun:
            start = max(begun - _PIECE, 0)
            ended = os.pread(handle, begun - start, start).rfind(b"\n")
            begun = start + ended + 1
            if ended >= 0:
                break
        if begun == self._size:
            return
        try:
            msgspec.json.decode(os.pread(handle, self._size - begun, begun))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            os.ftruncate(handle, begun)  # it would keep whoever reads the file from all its other lines
            self._size = begun
        else:
            self._put(b"\n")
            self._size += 1

    def _rotate(self) -> None:
        self.close()
        kept = max(self._settings.max_files, 1)
        for number in range(kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._path(number - 1).replace(self._path(number))
        if kept == 1:
            self._path().unlink(missing_ok=True)
