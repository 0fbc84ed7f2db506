"""Pieces of text: what is put together of kept parts is what any other program decompresses."""

import gzip as reference
import zlib

from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.multiprocess import text
from authly.monitoring.multiprocess.text import Text

# Shorter and longer than what is worth keeping compressed.
PIECES = st.lists(
    st.tuples(st.binary(max_size=40), st.sampled_from([0, 1, 2, 300])).map(lambda pair: pair[0] * pair[1]), max_size=8
)


@given(PIECES, st.data())
def test_compressed_texts_are_decompressed_to_themselves(pieces: list[bytes], data: st.DataObject) -> None:
    """At the first time and when parts are used again, beside others: one gzip member, with nothing behind it."""
    texts = [Text(piece) for piece in pieces]
    for chosen in (texts, data.draw(st.permutations(texts)), texts[1:]):
        plain = b"".join(one.data for one in chosen)
        assert text.plain(chosen) == plain
        compressed = text.gzip(chosen)
        assert reference.decompress(compressed) == plain
        decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        assert decompressor.decompress(compressed) + decompressor.flush() == plain
        assert decompressor.eof
        assert decompressor.unused_data == b""


def test_a_large_text_is_compressed_once() -> None:
    """The same bytes are used again."""
    large = Text(b"sample 1.0\n" * 1000)
    text.gzip([large])
    assert large.deflated is large.deflated
    assert len(text.gzip([large])) < len(large.data) / 20
