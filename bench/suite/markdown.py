"""The run as Markdown: what goes to docs/benchmarks/."""
from . import figures, stats
from .figures import HEARTH, SERVER
from .stats import number


def spread_text(spread):
    if not spread:
        return '-'
    if spread['n'] == 1:
        return number(spread['median'])
    return f'{number(spread["median"])} ({number(spread["min"])}–{number(spread["max"])})'


def verdict_text(verdict, unavailable):
    if verdict['met'] is None:
        return 'not available' if unavailable else 'not measured'
    value = f'{verdict["value"]:.2f}×' if verdict['subject'] else number(verdict['value'])
    return f'{value} {"met" if verdict["met"] else "**missed**"}'


def subject_text(judged, subject):
    reason = judged.get('unavailable', {}).get(subject)
    if subject not in judged['spreads'] and reason:
        return f'not available: {reason}'
    return spread_text(judged['spreads'].get(subject))


def rows(results):
    for name, judged in results['judged'].items():
        figure = figures.BY_NAME[name]
        lacking = judged.get('unavailable', {})
        others = [f'{s} {subject_text(judged, s)}' for s in figure.subjects[1:] if s in judged['spreads'] or s in lacking]
        yield (f'{figure.title}, {figure.unit}', subject_text(judged, HEARTH), '; '.join(others) or '-',
               '; '.join(v['text'] for v in judged['verdicts']) or '-',
               '; '.join(verdict_text(v, lacking.get(HEARTH) or lacking.get(v['subject'])) for v in judged['verdicts']) or '-')


def table(results):
    lines = ['| figure | Hearth | peers | target | result |', '|---|---|---|---|---|']
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows(results)]
    if greedy := results.get('greedy'):
        lines.append(f'\nGreedy answers equal to {SERVER}\'s: {greedy["equal"]} of {greedy["prompts"]} prompts run alone, '
                     f'up to {greedy["tokens"]} tokens each.')
    for error in results['errors']:
        lines.append(f'\nNot measured: {error}')
    return '\n'.join(lines)


def machine_table(results):
    lines = ['| limit | per core | together | spread | by |', '|---|---|---|---|---|']
    for name, f in results.get('machine', {}).get('figures', {}).items():
        single = max(f['single']) if f['single'] else None
        unit = f['unit']
        lines.append(f'| {name} | {number(single)} {unit} | {number(f["all"])} {unit} | {f["spread_percent"]:.0f} % | {f["method"]} |')
    return '\n'.join(lines)


def share_table(results):
    lines = ['| what | reached | limit | share |', '|---|---|---|---|']
    for r in results.get('shares', []):
        reached, limit = (f'{number(r[key])} {r["unit"]}' for key in ('value', 'limit'))
        lines.append(f'| {r["what"]} | {reached} | {limit} ({r["of"]}) | {r["share"]:.0%} |')
    return '\n'.join(lines)


def variants_text(results):
    lines = []
    for subject, chosen in results.get('variants', {}).items():
        groups = {}
        for name, variant in chosen.items():
            groups.setdefault(variant, []).append(name)
        if groups:
            lines.append(f'- {subject}: ' + '; '.join(f'{variant} for {", ".join(names)}' for variant, names in groups.items()))
    return '\n'.join(lines)


def policies_rows(results):
    """Header and rows: per figure and policy what was measured, with its spread, and what was simulated; and which came out wrong."""
    compared = results['info'].get('policies')
    if not compared:
        return [], []
    policies = list(compared['measured'])
    rows = []
    for name in next(iter(compared['measured'].values())):
        wrong = [f'{a} / {b}' for a, b, figure, agrees in compared['differences'] if figure == name and not agrees]
        clear = sum(figure == name for _, _, figure, _ in compared['differences'])
        rows.append([name, *(f'{spread_text(stats.spread(compared["measured"][p][name]))}; {number(compared["simulated"][p][name])}'
                             for p in policies), f'{clear - len(wrong)} of {clear}' + (f', not {", ".join(wrong)}' if wrong else '')])
    return ['measured; simulated', *policies, 'clear differences ordered alike'], rows


def policies_table(results):
    header, rows = policies_rows(results)
    if not rows:
        return ''
    costs = '; '.join(f'{name} {number(value)}' for name, value in results['info']['policies']['costs'].items())
    lines = ['| ' + ' | '.join(row) + ' |' for row in (header, ['---'] * len(header), *rows)]
    return '\n'.join([*lines, f'\nCosts that the scheduler learnt, and the simulation used: {costs}.'])


def seconds_text(results):
    said = '; '.join(f'{name} {seconds:.0f} s' for name, seconds in results.get('seconds', {}).items())
    left_out = ', '.join(results.get('left_out', []))
    return said + (f'\n\nLeft out for lack of time: {left_out}.' if left_out else '')


def render(results):
    e, options = results['environment'], results['options']
    quick = ' (quick: flags of the peers not searched)' if options['quick'] else ''
    parts = [f'# Benchmark of {e["date"][:10]}',
             f'{e["cpu"]}, {e["cores"]} cores, {e["memory"]}, {e["distribution"]}, Linux {e["kernel"]}; Hearth {e["commit"]}; '
             f'model {results["model"]["name"]}, {options["threads"]} threads; {options["repeat"]} repetitions{quick}: '
             'median (smallest–largest). '
             f'Other work kept {e["busy_share"]:.0%} of the cores busy at the start; the run took {e.get("seconds", 0) / 60:.0f} minutes.',
             table(results), '## Variants', 'Default flags:' if options['quick'] else
             'Each variant of flags was tried once and the best one per figure kept:', variants_text(results),
             '## The machine\'s own limits', machine_table(results)]
    if results.get('shares'):
        parts += ['## As shares of the possible', share_table(results)]
    if policies := policies_table(results):
        parts += ['## Policies, measured and simulated', policies]
    if seconds := seconds_text(results):
        parts += ['## Where the time went', seconds]
    parts += ['## How each figure is taken', '\n'.join(
        f'- {figures.BY_NAME[n].title}. {figures.BY_NAME[n].how}' for n in results['judged'])]
    parts += ['## Commands', '\n'.join(f'- {what}: `{command}`' for what, command in results['info'].get('commands', {}).items())]
    if differences := results.get('greedy', {}).get('differences'):
        parts += ['## Greedy answers that differ', '\n'.join(f'- {d["prompt"]}' for d in differences)]
    return '\n\n'.join(p for p in parts if p) + '\n'
