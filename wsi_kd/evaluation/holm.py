"""Holm's step-down correction: p-values of a family, so that the chance of any false alarm is bounded."""

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return adjusted p-values; to reject those below alpha errs anywhere in the family with at most alpha.

    With m p-values in ascending order p_(1) <= ... <= p_(m), the i-th becomes max over j <= i of
    min(1, (m - j + 1) p_(j)) (Holm, Scandinavian Journal of Statistics 1979, section 2; as adjusted values
    Wright, Biometrics 1992, eq. 3). It holds however the tests depend on each other. A test that could not be
    made (None) stays None and does not count to m.

    >>> holm([0.01, 0.04, 0.03, None])
    [0.03, 0.06, 0.06, None]

    Args:
        p_values: of one family, in any order.

    Raises:
        ValueError: a value that is no probability.
    """
    known = [(value, index) for index, value in enumerate(p_values) if value is not None]
    strange = [value for value, _ in known if not 0.0 <= value <= 1.0]
    if strange:
        raise ValueError(f"{strange[0]} is no p-value")
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, index) in enumerate(sorted(known)):
        largest = max(largest, min(1.0, round((len(known) - rank) * value, 15)))
        adjusted[index] = largest
    return adjusted
