"""Medians, spread, ratios, and how numbers are written."""
import math


def median(values):
    ordered = sorted(values)
    if not ordered:
        raise ValueError('the median of nothing')
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values, fraction):
    """Linear between ranks, as NumPy's default."""
    ordered = sorted(values)
    if not ordered or not 0 <= fraction <= 1:
        raise ValueError('a percentile needs values and a fraction of 0 to 1')
    rank = fraction * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def spread(values):
    """Median, smallest, largest, and the distance of the quartiles: what a table shows of repetitions."""
    return {'median': median(values), 'min': min(values), 'max': max(values), 'n': len(values),
            'iqr': percentile(values, 0.75) - percentile(values, 0.25)}


def ratio(ours, theirs):
    """ours / theirs; None where there is no such number."""
    if ours is None or theirs is None or not theirs:
        return None
    return ours / theirs


def number(value):
    """At most four digits that mean something: 0.0123, 1.23, 12.3, 123, 12,345."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return '-'
    if value == 0:
        return '0'
    size = abs(value)
    if size >= 1000:
        return f'{value:,.0f}'
    digits = max(0, 2 - math.floor(math.log10(size)))
    return f'{value:.{min(digits, 6)}f}'
