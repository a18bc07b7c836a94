"""Token buckets on literal times."""

from supervisor.api.rate_limit import MAX_BUCKETS, Rate, RateLimit, Refusal, network_of


def test_a_burst_and_what_comes_after() -> None:
    """Three at once, then one in two seconds; each name has its own."""
    limit = RateLimit(Rate(per_second=0.5, burst=3))
    assert [limit.take("a", 100.0) for _ in range(3)] == [None] * 3
    assert limit.take("a", 100.0) == Refusal(2.0, first=True)
    assert limit.take("a", 101.0) == Refusal(1.0, first=False)
    assert limit.take("b", 101.0) is None
    assert limit.take("a", 102.0) is None
    assert limit.take("a", 102.5) == Refusal(1.5, first=True)


def test_looking_takes_nothing() -> None:
    """However often one looks."""
    limit = RateLimit(Rate(per_second=1, burst=1))
    assert [limit.look("a", 5.0) for _ in range(10)] == [None] * 10
    assert limit.take("a", 5.0) is None
    assert limit.look("a", 5.0) is not None


def test_memory_is_bounded() -> None:
    """Many names push out the oldest, not the one who has just used up its burst."""
    limit = RateLimit(Rate(per_second=1e-6, burst=1))
    for number in range(2 * MAX_BUCKETS):
        limit.take(str(number), number * 1e-3)
    last = str(2 * MAX_BUCKETS - 1)
    assert len(limit._buckets) <= MAX_BUCKETS
    assert limit.look(last, 2 * MAX_BUCKETS * 1e-3) is not None


def test_networks() -> None:
    """A host can take any address of its IPv6 /64, but only its own of IPv4."""
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1%eth0")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("") == ""
