"""Frames between a supervisor and a child."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from pool_driver import make_job

from gigq.worker.pools import channel
from gigq.worker.pools.channel import ATOMIC_BYTES, COMPLETED, RUBBISH, FrameBuffer, JobBuffer, encode_outcome

KEY = 0x0123456789ABCDEF


def frame(token: int, body: bytes = b"") -> bytes:
    return encode_outcome(KEY, token, COMPLETED, 0, 1.5, 0.25, body)


def feed_in_pieces(data: bytes, size: int) -> list[channel.Frame]:
    buffer = FrameBuffer(KEY, 1 << 20)
    return [found for at in range(0, len(data), size) for found in buffer.feed(data[at : at + size])]


@given(bodies=st.lists(st.binary(max_size=200), max_size=8), size=st.integers(1, 300))
def test_frames_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], size: int) -> None:
    data = b"".join(frame(token, body) for token, body in enumerate(bodies, 1))
    found = feed_in_pieces(data, size)
    assert [(f.token, f.body) for f in found] == list(enumerate(bodies, 1))
    assert all((f.started_at, f.duration) == (1.5, 0.25) for f in found)


@given(rubbish=st.binary(min_size=1, max_size=300), size=st.integers(1, 400))
def test_rubbish_is_noticed_and_what_follows_is_found_again(rubbish: bytes, size: int) -> None:
    data = frame(1, b"one") + rubbish + frame(2, b"two") + frame(3)
    found = feed_in_pieces(data, size)
    good = [(f.token, f.body) for f in found if f.kind != RUBBISH]
    assert good == [(1, b"one"), (2, b"two"), (3, b"")]
    assert found[1].kind == RUBBISH


def test_a_length_that_cannot_be_is_rubbish() -> None:
    buffer = FrameBuffer(KEY, 10)
    assert [f.kind for f in buffer.feed(frame(1, bytes(11)))] == [RUBBISH]


@given(size=st.integers(1, 500))
def test_jobs_arrive_and_recalled_ones_are_forgotten(size: int) -> None:
    jobs = [make_job("t", n) for n in range(3)]
    data = channel.encode_jobs([], [(1, jobs[0]), (2, jobs[1])]) + channel.encode_jobs([2], [(3, jobs[2])])
    buffer = JobBuffer()
    for at in range(0, len(data), size):
        buffer.feed(data[at : at + size])
    assert buffer.jobs == {1: tuple(jobs[0]), 3: tuple(jobs[2])}


@given(
    message=st.text(alphabet=st.sampled_from('a\x00\U0001f600"\ud800é'), min_size=480, max_size=520),
    fraction=st.floats(0, 1),
)
def test_progress_fits_one_atomic_write(message: str, fraction: float) -> None:
    body = channel.encode_progress(fraction, message)
    assert len(encode_outcome(KEY, 1, channel.PROGRESS, 0, 0.0, 0.0, body)) <= ATOMIC_BYTES
    assert math.isclose(channel.decode_progress(body)[0], fraction)


def test_a_failure_keeps_its_retry_delay() -> None:
    assert channel.decode_failure(channel.encode_failure(True, 2.5, "{}")) == (True, 2.5, "{}")
    assert channel.decode_failure(channel.encode_failure(False, None, "{}")) == (False, None, "{}")
