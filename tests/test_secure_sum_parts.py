"""Parts of secure sums without cryptography: fixed point, secret sharing, who masks with whom."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from skfedfocal.privacy._secure import Encoding, EncodingError, SecureSumError, Terms
from skfedfocal.privacy._secure._digits import from_digits, to_digits
from skfedfocal.privacy._secure._shamir import (
    MOST_SHARES,
    PRIME,
    evaluate,
    interpolate,
    join,
    split,
    uniform,
)
from skfedfocal.privacy._secure._terms import _tail, sparse_ring

# -- fixed point -------------------------------------------------------------------------------


@st.composite
def encodings(draw):
    bound = draw(st.floats(1e-3, 1e6))
    max_weight = draw(st.floats(1e-3, 1e6))
    n_clients = draw(st.integers(1, 1000))
    most = Encoding(bound, n_clients, max_weight).bits
    return Encoding(bound, n_clients, max_weight, draw(st.integers(0, most)))


@settings(max_examples=300)
@given(encodings(), st.data())
def test_a_decoded_sum_is_within_the_stated_error(encoding, data):
    n = data.draw(st.integers(1, min(5, encoding.n_clients)))
    inside = st.floats(-encoding.bound, encoding.bound)
    x = data.draw(st.lists(inside, min_size=n, max_size=n))
    w = data.draw(st.lists(st.floats(0, encoding.max_weight), min_size=n, max_size=n))
    words = sum(encoding.encode([a], b) for a, b in zip(x, w, strict=True))
    (found,), weight = encoding.decode(words)
    exact = sum(Fraction(a) * Fraction(b) for a, b in zip(x, w, strict=True))
    assert abs(Fraction(found) - exact) <= Fraction(encoding.error)
    assert abs(Fraction(weight) - sum(map(Fraction, w))) <= Fraction(encoding.error)


@given(encodings())
def test_the_largest_values_of_all_clients_do_not_overflow(encoding):
    extreme = encoding.encode([encoding.bound, -encoding.bound], encoding.max_weight)
    each = [int(word) for word in extreme.view(np.int64)]
    assert max(each) * encoding.n_clients < 2**63
    assert min(each) * encoding.n_clients >= -(2**63)


def test_more_bits_than_fit_are_refused():
    assert Encoding(8.0, 100).bits == 53  # 100 * 8 * 2^53 is below 2^63, and with 2^54 above it
    with pytest.raises(ValueError, match="overflow"):
        Encoding(8.0, 100, fractional_bits=54)
    with pytest.raises(ValueError, match="overflow"):
        Encoding(2.0**40, 2**30)


def test_a_large_weight_does_not_enlarge_the_error():
    encoding = Encoding(1.0, 2, max_weight=1e6, fractional_bits=10)
    ((found,), _) = encoding.decode(encoding.encode([1 / 3], 1e6))
    assert abs(found - 1e6 / 3) <= 2.0**-11 + 1e-9


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=6))
def test_integers_are_exact(counts):
    encoding = Encoding(2.0**40, 6)
    words = sum(encoding.encode(np.array([count])) for count in counts)
    assert encoding.decode_counts(words).tolist() == [sum(counts)]


def test_sums_of_fractions_are_not_taken_for_counts():
    encoding = Encoding(8.0, 3)
    with pytest.raises(ValueError, match="not sums of integers"):
        encoding.decode_counts(encoding.encode([0.5]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 8.0000001, -9.0, 1e300])
def test_values_beyond_the_bound_are_refused(value):
    with pytest.raises(EncodingError, match="bound"):
        Encoding(8.0, 3).encode([0.0, value])


def test_long_arrays_are_encoded_like_their_parts():
    encoding, x = Encoding(8.0, 3), np.random.default_rng(0).uniform(-8, 8, 40_000)
    whole = encoding.encode(x, 0.7)[1:]
    parts = [encoding.encode(part, 0.7)[1:] for part in np.array_split(x, 7)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_integers_beyond_the_bound_are_refused():
    for value in (9, -9, np.iinfo(np.int64).min, np.iinfo(np.int64).max):
        with pytest.raises(EncodingError, match="bound"):
            Encoding(8.0, 3).encode(np.array([value]))
    with pytest.raises(EncodingError, match="bound"):
        Encoding(8.0, 3).encode(np.array([2**64 - 1], np.uint64))


@pytest.mark.parametrize("weight", [-1.0, 2.0000001, np.nan, np.inf])
def test_weights_beyond_the_bound_are_refused(weight):
    with pytest.raises(EncodingError, match="max_weight"):
        Encoding(8.0, 3, max_weight=2.0).encode([0.0], weight)


def test_values_that_are_no_list_of_numbers_are_refused():
    for values in (np.zeros((2, 2)), np.array(["a"]), np.zeros(2, complex)):
        with pytest.raises(ValueError, match="one-dimensional and real"):
            Encoding(8.0, 3).encode(values)


@pytest.mark.parametrize(
    "arguments", [(0.0, 3), (np.nan, 3), (np.inf, 3), (1.0, 0), (1.0, 3, 0.0), (1.0, 3, np.inf)]
)
def test_encodings_without_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        Encoding(*arguments)


# -- secret sharing ----------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_shares_as_many_as_the_threshold_rebuild_the_secret(secret, data):
    n = data.draw(st.integers(2, 40))
    t = data.draw(st.integers(1, n))
    shares = split(secret, t, n)
    holders = data.draw(st.permutations(range(n)))[:t]
    assert (
        join([holder + 1 for holder in holders], [shares[holder] for holder in holders]) == secret
    )


@pytest.mark.parametrize(("prime", "threshold", "n"), [(5, 2, 4), (5, 3, 4), (3, 2, 2), (7, 3, 4)])
def test_fewer_shares_say_nothing(prime, threshold, n):
    """Over all polynomials, any t - 1 shares are uniform whatever the secret; t shares are not."""
    for holders in itertools.combinations(range(n), threshold - 1):
        seen = []
        for secret in range(prime):
            rest = itertools.product(range(prime), repeat=threshold - 1)
            columns = np.array([(secret, *other) for other in rest]).T
            shares = evaluate(columns, n, prime)
            seen.append(Counter(map(tuple, shares[list(holders)].T.tolist())))
            points = tuple(range(1, threshold + 1))
            found = interpolate(points, shares[:threshold], prime)
            assert (found == secret).all()
        assert all(counts == seen[0] for counts in seen)
        assert set(seen[0].values()) == {1}
        assert len(seen[0]) == prime ** (threshold - 1)


def test_fewer_shares_do_not_rebuild_the_secret():
    secret = bytes(range(32))
    shares = split(secret, 3, 5)
    try:
        found = join([1, 2], shares[:2])
    except SecureSumError:  # not even 32 bytes
        return
    assert found != secret


def test_shares_stay_exact_at_the_largest_threshold():
    n = MOST_SHARES
    coefficients = np.full((n, 1), PRIME - 1)
    values = evaluate(coefficients, n, PRIME)
    x = n  # the last point, by Horner's rule in exact integers
    value = 0
    for _ in range(n):
        value = (value * x + PRIME - 1) % PRIME
    assert values[-1, 0] == value
    with pytest.raises(SecureSumError, match="more than"):
        split(bytes(32), n + 1, n + 1)


@pytest.mark.parametrize("prime", [3, 5, PRIME])
def test_drawn_field_elements_are_in_the_field_and_spread(prime):
    drawn = uniform((300, 100), prime)
    assert drawn.min() >= 0
    assert drawn.max() < prime
    # Standard error of the mean of 30,000: seven of them are never met by chance.
    assert abs(drawn.mean() - (prime - 1) / 2) < 7 * prime / np.sqrt(12 * 30_000)


def test_shares_that_do_not_fit_are_refused():
    shares = split(bytes(32), 2, 3)
    with pytest.raises(SecureSumError, match="length"):
        join([1, 2], [shares[0], shares[1][:-1]])
    with pytest.raises(SecureSumError, match="distinct"):
        join([1, 1], shares[:2])


# -- who masks with whom -----------------------------------------------------------------------


def terms(n=10_000, **kwargs):
    return Terms(encoding=Encoding(8.0, n), **kwargs)


def test_sizes_of_the_ring():
    """With a fifth colluding and a tenth vanishing; computed apart from this package, too."""
    found = {n: terms().neighbors_and_threshold(n) for n in (3, 10, 30, 100, 1000, 10_000)}
    assert found == {
        3: (2, 2),
        10: (9, 6),
        30: (10, 7),
        100: (32, 21),
        1000: (68, 43),
        10_000: (80, 51),
    }


@settings(max_examples=100)
@given(st.integers(30, 500), st.sampled_from([0.0, 0.1, 0.2, 0.33]), st.sampled_from([0, 0.1, 0.2]))
def test_the_ring_keeps_the_stated_probabilities(n, colluders, dropouts):
    k, t = sparse_ring(n, colluders, dropouts)
    assert 2 * t > k + 1
    bad, gone = int(colluders * n), int(dropouts * n)
    if k < n - 1:
        assert n * hypergeom.sf(t - 1, n - 1, bad, k) < 2.0**-40
        assert n * hypergeom.sf(k - t, n - 1, gone, k) < 2.0**-20
        assert n * (n - 1) / 2 * hypergeom.sf(k - 1, n, bad + gone, k) < 2.0**-40


@given(st.integers(1, 60), st.data())
def test_tails_are_those_of_scipy(total, data):
    marked = data.draw(st.integers(0, total))
    drawn = data.draw(st.integers(0, total))
    expected = hypergeom.sf(np.arange(drawn + 2) - 1, total, marked, drawn)
    np.testing.assert_allclose(_tail(total, marked, drawn), expected, rtol=1e-8, atol=1e-300)


@pytest.mark.parametrize(
    ("n", "kwargs"),
    [
        (6, {"threshold": 3}),
        (7, {"threshold": 3}),
        (6, {"threshold": 7}),
        (40, {"n_neighbors": 10, "threshold": 5}),
        (6, {"active": True, "threshold": 4}),
        (9, {"active": True, "threshold": 6}),
    ],
)
def test_thresholds_that_are_not_above_half_are_refused(n, kwargs):
    with pytest.raises(SecureSumError, match="threshold"):
        terms(**kwargs).neighbors_and_threshold(n)


def test_the_least_allowed_thresholds_are_taken():
    assert terms(threshold=4).neighbors_and_threshold(6) == (5, 4)
    assert terms(threshold=4).neighbors_and_threshold(7) == (6, 4)
    assert terms(n_neighbors=10, threshold=6).neighbors_and_threshold(40) == (10, 6)
    assert terms(active=True).neighbors_and_threshold(6) == (5, 5)
    assert terms(active=True).neighbors_and_threshold(100) == (99, 68)


def test_an_active_server_needs_everybody():
    with pytest.raises(SecureSumError, match="active"):
        terms(active=True, n_neighbors=10).neighbors_and_threshold(40)


def singled_out(n, threshold, n_colluders, session):
    """Whether a server that tells each client other survivors can unmask one of them alone."""
    honest = range(n_colluders, n)
    told = [
        [
            set(alive)
            for size in range(threshold, n + 1)
            for alive in itertools.combinations(range(n), size)
            if i in alive
        ]
        for i in honest
    ]
    for views in itertools.product(*told):
        alive = dict(zip(honest, views, strict=True))  # what each honest client is told
        votes = {v: sum(v in alive[i] for i in honest) for v in honest}
        for u in honest:
            others = [v for v in honest if v != u]
            if session:  # a pair's seed comes from either end that holds the other for gone
                open_ = all(v not in alive[u] or u not in alive[v] for v in others)
            else:  # a key is rebuilt from those that hold its owner for gone
                open_ = all(len(honest) - votes[v] + n_colluders >= threshold for v in others)
            if open_ and votes[u] + n_colluders >= threshold:
                return True
    return False


@pytest.mark.parametrize("session", [False, True])
def test_an_active_server_cannot_single_out_a_client(session):
    for n in (3, 4, 5, 6):
        threshold = terms(active=True).neighbors_and_threshold(n)[1]
        assert not singled_out(n, threshold, (n - 1) // 3, session)
    assert singled_out(4, 3, 1, session) == session  # two thirds alone are too few in sessions
    assert singled_out(5, 3, 1, session)  # and so is a majority


def test_small_and_large_cohorts_are_refused():
    with pytest.raises(SecureSumError, match="min_clients=3"):
        terms().neighbors_and_threshold(2)
    with pytest.raises(SecureSumError, match="min_clients=5"):
        terms(min_clients=5).neighbors_and_threshold(4)
    with pytest.raises(SecureSumError, match="overflow"):
        terms(n=10).neighbors_and_threshold(11)


@pytest.mark.parametrize(
    "kwargs", [{"min_clients": 2}, {"colluders": 0.5}, {"dropouts": -0.1}, {"threshold": 1}]
)
def test_terms_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        terms(**kwargs)


def test_survivors_are_always_a_majority():
    for n in (3, 4, 5, 10, 30, 100, 1001):
        assert terms().least_survivors(n) > n / 2
        assert terms().least_survivors(n) >= 3


# -- digits ------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=2), min_size=1, max_size=20))
def test_sums_of_digits_are_exact(rows):
    total = sum(to_digits(row) for row in rows)
    for found, column in zip(from_digits(total), zip(*rows, strict=True), strict=True):
        exact = sum(map(Fraction, column))
        assert abs(Fraction(found) - exact) <= Fraction(len(rows), 2**129) + abs(exact) / 2**53


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**128, -(2.0**128)])
def test_digits_of_what_has_none_are_refused(bad):
    with pytest.raises(EncodingError):
        to_digits([1.0, bad])


@given(st.floats(-(2.0**127), 2.0**127))
def test_digits_are_small(value):
    assert np.abs(to_digits([value])).max() <= 2**32
