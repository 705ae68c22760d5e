"""The resolved configuration of a run, which nothing changes.

    config = Configuration({"network": "WideResNet", "epochs": 30})
    config["epochs"], config.epochs              # (30, 30)
    config | {"epochs": 60}                      # another one

Imports no torch.
"""

from collections.abc import Iterator, Mapping
from typing import Any


class Configuration(Mapping[str, Any]):
    """A read-only mapping whose entries are attributes too.

    A recorded configuration is a plain dict with the same entries.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Any]):
        object.__setattr__(self, "_entries", dict(entries))

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._entries[name]
        except KeyError:
            raise AttributeError(f"the configuration has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a configuration is never changed: make another one, as by config | {{{name!r}: ...}}")

    def __or__(self, changes: Mapping[str, Any]) -> "Configuration":
        return Configuration({**self._entries, **changes})

    def __ror__(self, others: Mapping[str, Any]) -> "Configuration":
        return Configuration({**others, **self._entries})

    def __reduce__(self) -> tuple:
        return Configuration, (self._entries,)

    def __repr__(self) -> str:
        return f"Configuration({self._entries})"
