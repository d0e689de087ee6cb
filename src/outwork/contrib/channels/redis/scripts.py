"""The Lua scripts: each is `base.lua` and a file of its own."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files


@cache
def script(name: str) -> tuple[bytes, bytes]:
    """A script's source, and the digest by which the server knows it."""
    folder = files("outwork.contrib.channels.redis").joinpath("lua")
    text = folder.joinpath("base.lua").read_text("utf-8") + folder.joinpath(f"{name}.lua").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    source = "\n".join(lines).encode()
    return source, sha1(source, usedforsecurity=False).hexdigest().encode()
