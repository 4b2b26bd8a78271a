"""Stand in for installed reference documentation: two pages. Knows nothing of readers."""

from __future__ import annotations

from pathlib import Path

from cynosure.retrieval.reference import python_version

HEAPQ = """\
:mod:`heapq` --- Heap queue algorithm
=====================================

.. module:: heapq
   :synopsis: Heap queue algorithm.

.. moduleauthor:: Somebody

**Source code:** :source:`Lib/heapq.py`

--------------

Heaps are trees for which ``heap[k] <= heap[2*k+1]``.

.. function:: merge(*iterables, key=None, \\
                    reverse=False)

   Merge *sorted* inputs, such as logs::

      >>> list(merge(*logs))

   Returns an :term:`iterator`.

   .. note::
      Nothing is loaded at once.

   .. versionchanged:: 3.5
      Added something.


.. function:: nlargest(n, iterable)
              largest(n)

   Return the *n* largest.

.. class:: Heap(items)

   A heap. |more|

   .. method:: push(item)
      :async:

      Put *item* in.

   .. attribute:: Heap.size

      How many.

.. |more| replace:: It is **small**.

Basic Examples
--------------

A heapsort pushes all values.

.. code-block:: python
   :linenos:

   heap = [*values]

======  =======
Name    Meaning
======  =======
``a``   first
======  =======
"""

FUNCTIONS = """\
.. _built-in-funcs:

Built-in Functions
==================

This belongs to no module.

.. function:: len(s)

   Return the length.

.. method:: str.strip([chars])

   Leave out *chars* at both ends.

.. method:: str.__add__(x)

   Nobody asks for this.

.. data:: Ellipsis

   The same as the ellipsis literal ``...``.
"""


def write_reference(folder: Path, version: str | None = None) -> Path:
    """Write the pages, and what says which Python they are of."""
    pages = folder / "_sources" / "library"
    pages.mkdir(parents=True)
    (pages / "heapq.rst.txt").write_text(HEAPQ)
    (pages / "functions.rst.txt").write_text(FUNCTIONS)
    (folder / "_sources" / "faq").mkdir()
    (folder / "_sources" / "faq" / "general.rst.txt").write_text(".. function:: why()\n\n   Because.\n")
    (folder / "_static").mkdir()
    options = f"var DOCUMENTATION_OPTIONS = {{ VERSION: '{version or python_version()}.2', LANGUAGE: 'en' }};"
    (folder / "_static" / "documentation_options.js").write_text(options)
    return folder
