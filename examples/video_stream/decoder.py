"""The plugin: decodes video by PyAV in a sealed child. It is plain and knows nothing of streams but ``yield``."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO, IOBase, RawIOBase
from typing import Any

import av
from av.error import FFmpegError

from belljar import Buffer, raises
from decoding import Frame, NotAVideo, State


class Decoder:
    def __init__(self) -> None:
        self._decoded = 0
        self._is_open = False

    def state(self) -> State:
        return State(self._decoded, self._is_open)

    @raises(NotAVideo)
    def frames(self, film: Buffer, times: int) -> Iterator[Frame]:
        for _ in range(times):
            yield from self._decode(BytesIO(film.view), times)

    @raises(NotAVideo)
    def decode(self, chunks: Iterator[bytes]) -> Iterator[Frame]:
        yield from self._decode(Pipe(chunks), 1)

    def _decode(self, file: IOBase, times: int) -> Iterator[Frame]:
        """Decode one frame whenever the host has room for one; the host's ``aclose`` ends it here too."""
        self._is_open = True
        try:
            with av.open(file, mode="r") as container:
                if not container.streams.video:
                    raise NotAVideo("it has no video track")
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1  # each thread more takes address space, which is limited
                for frame in container.decode(stream):
                    self._decoded += 1
                    pixels: Any = frame.to_ndarray(format="rgb24", threads=1)
                    yield Frame(pixels, stream.frames * times)
        except FFmpegError as error:
            raise NotAVideo(f"not a video, or a damaged one: {error.strerror}") from None
        finally:
            self._is_open = False


class Pipe(RawIOBase):
    """The host's chunks as a file that can be read from its beginning to its end."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most *size* bytes; the call waits for the host if there are none."""
        self._rest = self._rest or next(self._chunks, b"")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
