"""Test what a reader of HTML sees."""

from __future__ import annotations

from cynosure.retrieval.files.html import read_html


def test_text_blocks_and_headings() -> None:
    read = read_html(
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Big &amp; <b>bold</b></h1>\n"
        "<p>One\n  two<br>three</p><script>if (a<b) {}</script><h2>Sub</h2><ul><li>x<li>y</ul>"
        "<pre>a\n  b</pre><table><tr><td>1</td><td>2</td></tr></table>"
    )
    assert read.text.split("\n\n") == ["Big & bold", "One two\nthree", "Sub", "x", "y", "a\n  b", "1 2", ""]
    assert [(mark.place, read.text[mark.start :][:3]) for mark in read.marks[1:]] == [
        ("Big & bold", "Big"),
        ("Big & bold > Sub", "Sub"),
    ]


def test_broken_html_is_read_as_far_as_it_goes() -> None:
    assert read_html("<p>a<b>c</p></div></pre><p").text.startswith("ac\n\n")
    assert read_html("").text == ""
    assert read_html("<script>never ends").text == ""
