"""The connection to the container engine that the parts of a command share."""

from __future__ import annotations

from contextlib import ExitStack

from packer.cli import image_wiring


class FakeEngine:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_engine_is_opened_once_when_it_is_needed_and_closed_at_the_end(monkeypatch):
    opened: list[FakeEngine] = []

    def connect() -> FakeEngine:
        opened.append(FakeEngine())
        return opened[-1]

    monkeypatch.setattr(image_wiring, "connect", connect)
    with ExitStack() as closing:
        open_engine = image_wiring.engine_opener(closing)
        assert opened == []
        assert open_engine() is open_engine()
        assert [each.closed for each in opened] == [False]
    assert [each.closed for each in opened] == [True]
