"""Several processes of main.py that train together, forked and paused as in children.py."""

import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

from children import Child


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def member(rank: int, count: int, port: int, prepare=None) -> None:
    """What torchrun would have said to this process, before it begins."""
    for key, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", count), ("LOCAL_WORLD_SIZE", count)):
        os.environ[key] = str(value)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if prepare is not None:
        prepare()


class Ranks:
    """`count` processes of one command. `others`: what the others than the first are told to add to it."""

    def __init__(self, count: int, *arguments: str, cwd: Path, pause=None, prepare=(), others=()):
        port = free_port()
        prepare = [*prepare, *[None] * (count - len(prepare))]
        self.children = [
            Child(
                *arguments, *(others if rank else ()), cwd=cwd, output=str(rank), pause=pause,
                prepare=partial(member, rank, count, port, prepare[rank]),
            )
            for rank in range(count)
        ]  # fmt: skip

    def reach_pause(self) -> None:
        assert all([child.reaches_pause() for child in self.children])

    def send(self, number: int = signal.SIGTERM, to: int | None = None) -> None:
        for child in self.children if to is None else [self.children[to]]:
            child.send(number)

    def wait(self, timeout: float = 60) -> list[int]:
        """The exit statuses, all within so many seconds."""
        deadline = time.monotonic() + timeout
        return [child.wait(max(0.1, deadline - time.monotonic())) for child in self.children]

    @property
    def told(self) -> list[str]:
        """Every line on stderr, of all."""
        return [line for child in self.children for line in child.stderr.splitlines() if line.strip()]

    @property
    def stdout(self) -> str:
        return "".join(child.stdout for child in self.children)
