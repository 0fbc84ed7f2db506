"""HTML in which everything is escaped."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.status.markup import element

# What a parser of HTML leaves alone: no NUL, no carriage return, no lone surrogate.
TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


class Seen(HTMLParser):
    """What a browser makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


@given(TEXT, TEXT)
def test_text_and_attributes_come_back_as_they_were(text: str, value: str) -> None:
    """Whatever is put in, one element with that attribute and that text comes out."""
    seen = Seen()
    seen.feed(element("p", text, title=value))
    seen.close()
    assert (seen.tags, seen.text) == ([("p", {"title": value})], text)


def test_elements_are_not_escaped_again() -> None:
    """Elements and lists of them go in as they are; None is nothing."""
    inner = element("b", "<&>")
    assert element("p", [inner, " ", None], None, class_="x", aria_label='"') == (
        '<p class="x" aria-label="&quot;"><b>&lt;&amp;&gt;</b> </p>'
    )
    assert element("meta", name="a", hidden=None) == '<meta name="a">'
