"""The run as one HTML page with plots, nothing loaded from elsewhere."""
import html
import re

from . import figures, markdown, plots, stats, svg
from .figures import HEARTH, SERVER
from .plots import COLORS
from .stats import number

STYLE = '''
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; color: #1f2937; background: #fff;
       max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #e5e7eb; padding-bottom: .3rem; }
table { border-collapse: collapse; margin: .8rem 0; font-size: 14px; } th { text-align: left; background: #f3f4f6; }
th, td { border: 1px solid #d1d5db; padding: .3rem .6rem; vertical-align: top; }
.met { color: #15803d; font-weight: 600; } .missed { color: #b91c1c; font-weight: 600; } .faint { color: #6b7280; }
figure { margin: 1.2rem 0 2rem; } figcaption { color: #4b5563; max-width: 720px; } svg { max-width: 100%; height: auto; }
code { background: #f3f4f6; padding: .05rem .3rem; border-radius: 3px; font-size: 13px; }
'''


def text(value):
    return html.escape(str(value))


def table(header, rows):
    """Cells are text; a cell that is a list has parts of its own colour: [(class, text)]."""
    def cell(tag, value):
        parts = '; '.join(f'<span class="{kind}">{text(part)}</span>' for kind, part in value) if isinstance(value, list) else text(value)
        return f'<{tag}>{parts}</{tag}>'
    head = ''.join(cell('th', h) for h in header)
    body = ''.join('<tr>' + ''.join(cell('td', c) for c in row) + '</tr>\n' for row in rows)
    return f'<table><tr>{head}</tr>\n{body}</table>'


def markdown_table(lines):
    cells = [[c.strip() for c in line.strip('|').split('|')] for line in lines.splitlines()]
    return table(cells[0], cells[2:])


def summary(results):
    rows = []
    for row, judged in zip(markdown.rows(results), results['judged'].values()):
        kinds = [{True: 'met', False: 'missed', None: 'faint'}[v['met']] for v in judged['verdicts']]
        rows.append([*row[:4], [*zip(kinds or ['faint'], row[4].replace('**', '').split('; '), strict=True)]])
    return table(['figure', 'Hearth', 'peers', 'target', 'result'], rows)


def mark_of(figure, judged):
    """Where the first target lies on the figure's axis."""
    if not figure.targets:
        return None
    target = figure.targets[0]
    if not target.subject:
        return target.limit, f'target {target.text(figure.unit)}'
    theirs = judged['spreads'].get(target.subject)
    return (theirs['median'] * target.limit, f'target {target.text(figure.unit)}') if theirs else None


def figure_chart(name, judged, results):
    figure = figures.BY_NAME[name]
    rows = []
    for subject in figure.subjects:
        if spread := judged['spreads'].get(subject):
            rows.append((subject, spread['median'], spread['min'], spread['max'], COLORS[subject], number(spread['median'])))
    if not rows or not figure.chart:
        return ''
    better = 'lower is better' if figure.lower_is_better else 'higher is better'
    chart = svg.bars(figure.title, f'{figure.unit} ({better})', rows, mark_of(figure, judged))
    repeats = max(s['n'] for s in judged['spreads'].values())
    samples = '; '.join(f'{s}: {", ".join(number(v) for v in values)}' for s, values in results['samples'].get(name, {}).items())
    return (f'<figure id="{name}">{chart}<figcaption>{text(figure.how)} Bars: median of {repeats}; line: smallest to largest. '
            f'<span class="faint">{text(samples)}</span></figcaption></figure>')


def memory_chart(results):
    """Per server: anonymous memory, other private memory and shared pages, over the whole tree; median of the rounds."""
    rows = []
    for subject, runs in results['memory'].items():
        parts = [[sum(p['anonymous_kib'] for p in run), sum(max(0, p['private_kib'] - p['anonymous_kib']) for p in run),
                  sum(max(0, p['rss_kib'] - max(p['private_kib'], p['anonymous_kib'])) for p in run)] for run in runs]
        rows.append((subject, [stats.median(column) / 1024 for column in zip(*parts)]))
    if not rows:
        return ''
    chart = svg.stacked('Memory after load', 'MiB, whole process tree', ['anonymous', 'private file pages', 'shared file pages'], rows)
    lines = []
    for subject, runs in results['memory'].items():
        for i, process in enumerate(runs[0]):
            column = [run[i] for run in runs if len(run) > i]
            lines.append([subject, process['name'], *(f'{stats.median([p[k] for p in column]) / 1024:.1f}'
                                                      for k in ('rss_kib', 'pss_kib', 'private_kib', 'anonymous_kib'))])
    return (f'<figure id="memory">{chart}<figcaption>Shared file pages are in the page cache once, however many processes map them.'
            f'</figcaption></figure>' + table(['server', 'process', 'RSS MiB', 'PSS MiB', 'private MiB', 'anonymous MiB'], lines))


def curves(results):
    charts = []
    titles = {'itl4': ('Gaps between tokens, 4 streams', 'ms between tokens (share of gaps up to x)'),
              'itl16': ('Gaps between tokens, 16 streams', 'ms between tokens (share of gaps up to x)'),
              'ttft': ('Time to first token, Poisson arrivals, 2 per second', 'ms to the first token (share of requests up to x)')}
    for name, by_subject in results.get('curves', {}).items():
        title, axis = titles[name]
        drawn = {subject: (values, COLORS[subject]) for subject, values in by_subject.items() if any(v > 0 for v in values)}
        if drawn:
            charts.append(f'<figure id="{name}">{svg.cumulative(title, axis, drawn)}</figure>')
    return '\n'.join(charts)


def greedy(results):
    g = results.get('greedy')
    if not g:
        return '<p class="faint">Not compared.</p>'
    kind = 'met' if g['equal'] == g['prompts'] else 'missed'
    out = (f'<p><span class="{kind}">{g["equal"]} of {g["prompts"]}</span> answers are byte for byte those of {SERVER}: '
           f'prompts run alone, temperature 0, up to {g["tokens"]} tokens.</p>')
    if g['differences']:
        out += table(['prompt', HEARTH, SERVER], [[d['prompt'], d[HEARTH], d[SERVER]] for d in g['differences']])
    return out


def section(title, content, level=2):
    """Nothing where there is nothing to show."""
    return f'<h{level}>{title}</h{level}>{content}' if content else ''


def policies(results):
    header, rows = markdown.policies_rows(results)
    if not rows:
        return ''
    costs = '; '.join(f'{name} {number(value)}' for name, value in results['info']['policies']['costs'].items())
    return (f'{table(header, rows)}<p class="faint">'
            f'Costs that the scheduler learnt, and the simulation used: {text(costs)}.</p>')


def tuning(results):
    out = []
    for subject, by_variant in results.get('tuning', {}).items():
        names = [n for n in figures.BY_NAME if any(n in values for values in by_variant.values())]
        if not names:
            continue
        best = {n: figures.BY_NAME[n].best([v[n] for v in by_variant.values() if n in v]) for n in names}
        rows = [[variant] + [[('met' if values.get(n) == best[n] else '', number(values.get(n)))] for n in names]
                for variant, values in by_variant.items()]
        out.append(f'<h3>{text(subject)}</h3>' + table(['variant'] + [f'{n}, {figures.BY_NAME[n].unit}' for n in names], rows))
    return ('<p>Every variant was tried once; the best one of each figure, green, was then measured in every round.</p>' + ''.join(out)
            if out else '<p class="faint">Quick run: default flags only.</p>')


def render(results):
    e, options = results['environment'], results['options']
    warning = ('<p class="missed">Other work kept the cores busy when this run began; its figures mean little.</p>'
               if e['busy_share'] > 0.1 else '')
    errors = ''.join(f'<li class="missed">{text(x)}</li>' for x in results['errors'])
    commands = ''.join(f'<li>{text(what)}: <code>{text(command)}</code></li>'
                       for what, command in results['info'].get('commands', {}).items())
    facts = table(['', ''], [[k.replace('_', ' '), f'{v:.2f}' if isinstance(v, float) else v] for k, v in e.items()])
    charts = '\n'.join(filter(None, (figure_chart(name, judged, results) for name, judged in results['judged'].items())))
    scenes = '\n'.join(f'<figure id="{name}">{chart}<figcaption>{text(caption)}</figcaption></figure>'
                       for name, chart, caption in plots.of(results))
    body = f'''<h1>Hearth benchmark, {text(e["date"][:10])}</h1>
<p>{text(e["cpu"])}, {e["cores"]} cores; {text(results["model"]["name"])}, {options["threads"]} threads, {options["repeat"]} repetitions.
Both servers ran in turn on this machine, one at a time, from the same model file.</p>{warning}
{f"<ul>{errors}</ul>" if errors else ""}
{summary(results)}
<h2>Greedy answers</h2>{greedy(results)}
{section('Figures', charts)}
{section('The scheduler at work', scenes)}
{section('Policies, measured and simulated', policies(results))}
{section('Memory', memory_chart(results))}
{section('Distributions', curves(results))}
<h2>The machine's own limits</h2>{markdown_table(markdown.machine_table(results))}
{section('As shares of the possible', results.get('shares') and markdown_table(markdown.share_table(results)), 3)}
<h2>Flags</h2>{tuning(results)}<ul>{commands}</ul>
<h2>Where the time went</h2><p>{text(markdown.seconds_text(results))}</p>
<h2>Environment</h2>{facts}'''
    title = re.sub(r'[^0-9-]', '', e['date'][:10])
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>Hearth benchmark {title}</title><style>{STYLE}</style></head><body>{body}</body></html>\n')
