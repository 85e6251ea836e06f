"""Charts as SVG text: horizontal bars with spread, stacked bars, lines. Dark on light, every axis labelled."""
import html
import math

INK, GRID, FAINT = '#1f2937', '#e5e7eb', '#6b7280'
FONT = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
HALO = ' stroke="#ffffff" stroke-width="3" paint-order="stroke"'  # keeps text legible where a line crosses it
PARTS = ('#334155', '#94a3b8', '#d6dbe3', '#eab308')  # of a stacked bar: apart from the colors of the servers


def nice_ticks(low, high, count=5):
    """Round values from at or below `low` to at or above `high`, about `count` of them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError('an axis needs finite ends')
    if high <= low:
        high = low + (abs(low) or 1)
    rough = (high - low) / max(1, count)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low, high):
    """Powers of ten around the range, with 2 and 5 between where there are few."""
    if low <= 0 or high <= 0:
        raise ValueError('a logarithmic axis needs positive ends')
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    parts = (1, 2, 5) if last - first <= 3 else (1,)
    return [m * 10.0 ** e for e in range(first, last) for m in parts] + [10.0 ** last]


def tick_text(value):
    return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:g}'


class Canvas:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
                      f'height="{height}" role="img" aria-label="{html.escape(title, quote=True)}" {FONT} font-size="13" fill="{INK}">',
                      f'<rect width="{width}" height="{height}" fill="#ffffff"/>']

    def line(self, x1, y1, x2, y2, color=INK, width=1.0, dash=''):
        dashes = f' stroke-dasharray="{dash}"' if dash else ''
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
                          f'stroke-width="{width}"{dashes}/>')

    def rect(self, x, y, width, height, color):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}" fill="{color}" rx="2"/>')

    def text(self, x, y, text, anchor='start', color=INK, size=13, weight='normal', rotate=None):
        turn = f' transform="rotate({rotate} {x:.1f} {y:.1f})"' if rotate is not None else ''
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}" '
                          f'font-weight="{weight}"{turn}{HALO}>{html.escape(str(text))}</text>')

    def heading(self, title):
        """As large as fits: a character is some 0.64 of its size wide."""
        size = min(16.0, (self.width - 32) / (0.64 * max(1, len(title))))
        self.text(16, 26, title, size=f'{size:.4g}', weight='600')

    def path(self, points, color, width=2.0):
        places = ' '.join(f'{x:.1f},{y:.1f}' for x, y in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"/>')

    def circle(self, x, y, radius, color):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}" fill-opacity="0.8"/>')

    def done(self):
        return '\n'.join([*self.parts, '</svg>'])


def _x_axis(canvas, ticks, to_x, top, bottom, label):
    for tick in ticks:
        canvas.line(to_x(tick), top, to_x(tick), bottom, GRID)
        canvas.text(to_x(tick), bottom + 18, tick_text(tick), 'middle', FAINT, 12)
    canvas.text((to_x(ticks[0]) + to_x(ticks[-1])) / 2, bottom + 38, label, 'middle', FAINT, 12)


def label_width(rows):
    """Room for the names at the left, which come first in each row."""
    return max(190, 20 + round(7.2 * max((len(row[0]) for row in rows), default=0)))


def bars(title, axis, rows, mark=None, width=720):
    """rows: [(label, median, low, high, color, text at the end)]; mark: (value, label) of a dashed line, e.g. a target."""
    left, right, top, pitch = label_width(rows), 130, 56, 40
    bottom = top + pitch * len(rows)
    canvas = Canvas(width, bottom + 50, title)
    canvas.heading(title)
    ticks = nice_ticks(0, max([r[3] for r in rows] + ([mark[0]] if mark else [])))

    def to_x(value):
        return left + (width - left - right) * value / ticks[-1]

    _x_axis(canvas, ticks, to_x, top, bottom, axis)
    for i, (label, median, low, high, color, note) in enumerate(rows):
        y = top + pitch * i + pitch / 2
        canvas.text(left - 10, y + 5, label, 'end')
        canvas.rect(left, y - 11, to_x(median) - left, 22, color)
        if high > low:  # smallest to largest repetition
            canvas.line(to_x(low), y, to_x(high), y, INK, 1.5)
            for end in (low, high):
                canvas.line(to_x(end), y - 5, to_x(end), y + 5, INK, 1.5)
    canvas.line(left, top, left, bottom, INK)
    if mark:
        canvas.line(to_x(mark[0]), top - 6, to_x(mark[0]), bottom, '#15803d', 2, '5 4')
        canvas.text(to_x(mark[0]), top - 10, mark[1], 'middle' if to_x(mark[0]) > left + 60 else 'start', '#15803d', 12)
    for i, (_, median, _, high, _, note) in enumerate(rows):
        canvas.text(to_x(max(high, median)) + 8, top + pitch * i + pitch / 2 + 5, note, weight='600')
    return canvas.done()


def stacked(title, axis, names, rows, width=720):
    """rows: [(label, [one value per name])]."""
    left, right, top, pitch = label_width(rows), 90, 78, 40
    bottom = top + pitch * len(rows)
    canvas = Canvas(width, bottom + 50, title)
    canvas.heading(title)
    x = 16.0
    for i, name in enumerate(names):
        canvas.rect(x, 42, 12, 12, PARTS[i % len(PARTS)])
        canvas.text(x + 18, 53, name, size=12)
        x += 36 + 6.8 * len(name)
    ticks = nice_ticks(0, max(sum(values) for _, values in rows))

    def to_x(value):
        return left + (width - left - right) * value / ticks[-1]

    _x_axis(canvas, ticks, to_x, top, bottom, axis)
    for i, (label, values) in enumerate(rows):
        y, at = top + pitch * i + pitch / 2, 0.0
        canvas.text(left - 10, y + 5, label, 'end')
        for k, value in enumerate(values):
            canvas.rect(to_x(at), y - 11, to_x(at + value) - to_x(at), 22, PARTS[k % len(PARTS)])
            at += value
        canvas.text(to_x(at) + 8, y + 5, tick_text(round(at, 1)), weight='600')
    canvas.line(left, top, left, bottom, INK)
    return canvas.done()


def cumulative(title, axis, curves, width=720, height=360):
    """curves: {name: (values ascending, color)}, drawn as the share of values up to x, on a logarithmic x axis."""
    left, right, top, bottom = 70, 30, 66, height - 56
    canvas = Canvas(width, height, title)
    canvas.heading(title)
    everything = [v for values, _ in curves.values() for v in values if v > 0]
    if not everything:
        raise ValueError('nothing to plot')
    ticks = log_ticks(min(everything), max(everything))
    floor = ticks[0]

    def to_x(value):
        share = math.log10(max(value, floor) / floor) / math.log10(ticks[-1] / floor)
        return left + (width - left - right) * share

    def to_y(share):
        return bottom - (bottom - top) * share

    _x_axis(canvas, ticks, to_x, top, bottom, axis)
    for percent in (0, 25, 50, 75, 90, 99, 100):
        if percent in (99,):  # too close to 100 for a label of its own
            continue
        canvas.line(left, to_y(percent / 100), width - right, to_y(percent / 100), GRID)
        canvas.text(left - 8, to_y(percent / 100) + 4, f'{percent} %', 'end', FAINT, 12)
    x = 16.0
    for name, (values, color) in curves.items():
        canvas.path([(to_x(v), to_y(i / max(1, len(values) - 1))) for i, v in enumerate(values)], color)
        canvas.rect(x, 40, 12, 12, color)
        canvas.text(x + 18, 51, name, size=12)
        x += 40 + 7 * len(name)
    canvas.line(left, top, left, bottom, INK)
    canvas.line(left, bottom, width - right, bottom, INK)
    return canvas.done()


def _plane_axis(values, logarithmic):
    """(ticks, value -> share of the axis)."""
    if logarithmic:
        ticks = log_ticks(min(values), max(values))
        first, last = max(t for t in ticks if t <= min(values)), min(t for t in ticks if t >= max(values))
        ticks = [t for t in ticks if first <= t <= last]
        low, high = math.log10(ticks[0]), math.log10(ticks[-1])
        return ticks, lambda value: (math.log10(max(value, ticks[0])) - low) / (high - low or 1)
    ticks = nice_ticks(min(values), max(values))
    return ticks, lambda value: (value - ticks[0]) / (ticks[-1] - ticks[0])


def _tight_axis(values):
    """As _plane_axis, but from the smallest value to the largest, with those ticks that lie between."""
    low, high = min(values), max(values)
    inside = [tick for tick in nice_ticks(low, high) if low <= tick <= high]
    if len(inside) < 2:
        return _plane_axis(values, False)
    return inside, lambda value: (value - low) / (high - low)


def plane(title, x_axis, y_axis, series, log_y=False, mark=None, width=720, height=380):
    """series: {name: (points, color, style)}, style 'line', 'marked' (a line with its points) or 'dots'; points: [(x, y)].

    mark: (y, label) of a dashed line across, e.g. a target. With log_y every y must be above 0."""
    left, right, top, bottom = 76, 34, 70, height - 56
    points = [p for places, _, _ in series.values() for p in places]
    if not points:
        raise ValueError('nothing to plot')
    canvas = Canvas(width, height, title)
    canvas.heading(title)
    x_ticks, x_share = _tight_axis([x for x, _ in points])
    y_ticks, y_share = _plane_axis([y for _, y in points] + ([mark[0]] if mark else []) + ([] if log_y else [0]), log_y)

    def place(point):
        return left + (width - left - right) * x_share(point[0]), bottom - (bottom - top) * y_share(point[1])

    _x_axis(canvas, x_ticks, lambda x: place((x, y_ticks[0]))[0], top, bottom, x_axis)
    for tick in y_ticks:
        y = place((x_ticks[0], tick))[1]
        canvas.line(left, y, width - right, y, GRID)
        canvas.text(left - 8, y + 4, tick_text(tick), 'end', FAINT, 12)
    canvas.text(22, (top + bottom) / 2, y_axis, 'middle', FAINT, 12, rotate=-90)
    x = 16.0
    limit = place((x_ticks[0], mark[0]))[1] if mark else 0  # dots beyond it are few and matter
    for name, (places, color, style) in series.items():
        if style != 'dots':
            canvas.path([place(p) for p in places], color)
        if style != 'line':
            for x_at, y_at in map(place, places):
                canvas.circle(x_at, y_at, 3.5 if style == 'marked' or y_at < limit else 2, color)
        canvas.rect(x, 42, 12, 12, color)
        canvas.text(x + 18, 53, name, size=12)
        x += 40 + 7 * len(name)
    if mark:
        y = place((x_ticks[0], mark[0]))[1]
        canvas.line(left, y, width - right, y, '#15803d', 2, '5 4')
        canvas.text(width - right - 6, y - 6, mark[1], 'end', '#15803d', 12)
    canvas.line(left, top, left, bottom, INK)
    canvas.line(left, bottom, width - right, bottom, INK)
    return canvas.done()
