"""Each line with `# planted` is a mistake that a type checker must find."""

from __future__ import annotations

from outwork.contrib.django import task


@task
def add(x: int, y: int = 1) -> int:
    return x + y


add.enqueue("1")  # planted
add.enqueue()  # planted
add.enqueue(1, z=2)  # planted
add.delay(1)  # planted
add.using(queue="mail").enqueue(1)  # planted
