"""The shards that a pattern names: `/data/imagenet-{train,val}-{000..}.tar`.

    find_shards("/data/imagenet-{train,val}-{0000..0127}.tar", "val")    # 128 paths, or a RequestError
    find_shards("/data/shard-{000..}.tar", "val")                        # /data/val/shard-000.tar and so on

`{train,val}` stands for the split; a pattern without it means folders train/ and val/ beside it. Braces are expanded by
webdataset, which imports torch, but not before `find_shards` is called.
"""

import os
import re
from pathlib import Path

from system.errors import RequestError, first_line

SPLITS = re.compile(r"\{(train,val|val,train)\}")
CLOSED_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 100_000
OPEN_RANGE = re.compile(r"\{(\d+)\.\.\}")
FORM = "'/data/imagenet-{train,val}-{0000..0127}.tar', or {0000..} for as many as there are"


def is_pattern(place: str) -> bool:
    """Return whether the text has braces."""
    return "{" in place or "}" in place


def find_shards(pattern: str, split: str) -> list[Path]:
    """Return the paths of the shards of "train" or "val", in order.

    Raises RequestError where the pattern cannot be expanded, no shard is there or one is missing.
    """
    from webdataset.shardlists import expand_urls

    if "://" in pattern or pattern.startswith("pipe:"):
        raise RequestError(f"--imagenet_loc {pattern!r}: only files can be read")
    if any(int(last) - int(first) > MOST for first, last in CLOSED_RANGE.findall(pattern)):
        raise _malformed(pattern, f"a range has at most {MOST:,} numbers")
    named = SPLITS.sub(split, os.path.expanduser(pattern))
    if named == os.path.expanduser(pattern):
        named = str(Path(named).parent / split / Path(named).name)
    if len(OPEN_RANGE.findall(named)) > 1:
        raise _malformed(pattern, "only one range can be open")
    opened = OPEN_RANGE.search(named)
    try:
        names = expand_urls(OPEN_RANGE.sub("\0", named))  # webdataset does not know open ranges
    except (ValueError, AssertionError) as error:  # AssertionError: it has a variable of webdataset that is not set
        raise _malformed(pattern, first_line(error))
    if odd := next((name for name in names if is_pattern(name) or not name.endswith(".tar")), None):
        raise _malformed(pattern, f"it stands for {odd.replace(chr(0), opened[0] if opened else '')}")
    if opened is None:
        paths = [Path(name) for name in names]
        missing = [path for path in paths if not path.is_file()]
        if missing and len(missing) < len(paths):
            raise RequestError(
                f"--imagenet_loc {pattern!r}: {missing[0]} is missing, as are {len(missing) - 1} others of {len(paths)}"
            )
    else:
        paths, missing = [path for name in names for path in _counted(name, opened[1])], []
    if missing or not paths:
        first = names[0].replace("\0", opened[1]) if opened else names[0]
        wanted = Path(names[0].replace("\0", "*") if opened else first)
        near = sorted(path.name for path in wanted.parent.glob(wanted.name if opened else "*.tar"))[:1]
        hint = f" (there is {near[0]})" if near else ""
        if not SPLITS.search(pattern):
            hint += "; {train,val} in it stands for the split"
        raise RequestError(f"--imagenet_loc {pattern!r}: there is no {split} shard {first}{hint}")
    return paths


def _counted(name: str, first: str) -> list[Path]:
    """Return the files that are there, counted up from `first`, with numbers as wide as that."""
    paths, number = [], int(first)
    while (path := Path(name.replace("\0", f"{number:0{len(first)}}"))).is_file():
        paths.append(path)
        number += 1
    beyond = [each for each in path.parent.glob(Path(name.replace("\0", "[0-9]" * len(first))).name) if each > path]
    if paths and beyond:
        raise RequestError(f"{path} is missing, but {min(beyond).name} is there")
    return paths


def _malformed(pattern: str, why: str) -> RequestError:
    return RequestError(f"--imagenet_loc {pattern!r} is no pattern of shards: {why}; write it as {FORM}")
