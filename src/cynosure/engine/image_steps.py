"""Have the images of a step encoded, before the step runs. Knows nothing of how it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cynosure.core.errors import CynosureError
from cynosure.engine.image_store import ImageStore
from cynosure.engine.task import Task, as_fault

#: Decodes wait for a step: a second image is left to the next.
MAX_IMAGES = 1


def with_images_read(
    store: ImageStore, tasks: Sequence[Task], fail: Callable[[str, CynosureError], None]
) -> list[Task]:
    """Return what of the tasks can run: each up to the first image that must wait for a later step.

    One whose image breaks the encoder has failed, alone.
    """
    ready, num_encoded = list[Task](), 0
    for task in tasks:
        images, start = task.sequence.images, task.sequence.num_computed
        stop = start + task.num_tokens
        for number in () if images is None else images.unread(start, stop):
            assert images is not None
            if num_encoded == MAX_IMAGES:
                stop = max(start, images.spans[number][0])
                break
            try:
                store.encode(images, number)
            except Exception as error:
                fail(task.sequence.request.request_id, as_fault(error))
                stop = start
                break
            num_encoded += 1
        if stop > start:
            ready.append(replace(task, num_tokens=stop - start))
    return ready
