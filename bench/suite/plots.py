"""Plots of the scenes: TTFT against users, streams beside a long prompt, fates of many requests, hit rate along a trace."""
from . import stats, svg
from .figures import A_SLOT_EACH, BATCHED, BENCH, CURL, CURL_AND_HASH, CURL_AND_SYNC, HEARTH, SERVER, TORCH, UNBOUNDED, UNCACHED

COLORS = {HEARTH: '#c2410c', SERVER: '#2563eb', BENCH: '#475569', BATCHED: '#0f766e', 'llama-bench, same length': '#94a3b8',
          UNCACHED: '#7dd3fc', A_SLOT_EACH: '#a5b4fc', UNBOUNDED: '#475569', CURL: '#0f766e', CURL_AND_SYNC: '#0e7490',
          CURL_AND_HASH: '#94a3b8', TORCH: '#a16207'}
QUESTION_S = 0.5  # between the interactive questions of overload
BEFORE_S = 2  # of the streams are drawn before the long prompt arrives
DOTS_MAX = 4000  # of one server: more would make the page slow and the picture no clearer


def shared(by_subject):
    """Median TTFT of so many users at once, over users and rounds."""
    series = {}
    for subject, rounds in by_subject.items():
        # results.json has names where the run had numbers.
        users = sorted({int(count) for r in rounds for count in r['users']})
        by_users = [{int(count): values for count, values in r['users'].items()} for r in rounds]
        points = [(count, stats.median([v for r in by_users for v in r.get(count, [])])) for count in users]
        series[subject] = points, COLORS[subject], 'marked'
    colds = {subject: stats.median([v for r in rounds for v in r['cold']]) for subject, rounds in by_subject.items()}
    said = '; '.join(f'{subject} {stats.number(value)} ms' for subject, value in colds.items())
    yield ('users', svg.plane('Users who share a 2,000-token system prompt', 'users at once, after a first one had an answer',
                              'median TTFT, ms', series, log_y=True),
           f'A prompt that was read once need not be read again. The first user waits: {said}.')


def stall(by_subject):
    """The gaps between tokens of three streams, over the time since the long prompt arrived; of the last round."""
    for figure, title in (('gap_8000', '8,000'), ('gap', '2,000')):
        series, said = {}, []
        for subject, rounds in by_subject.items():
            if figure in rounds[-1]:
                drawn = rounds[-1][figure]
                gaps = [(at, gap) for at, gap in drawn['gaps'] if at >= -BEFORE_S and gap > 0]
                every = max(1, -(-len(gaps) // DOTS_MAX))
                dots = [p for i, p in enumerate(gaps) if i % every == 0 or p[1] > 4 * drawn['base_ms']]
                series[subject] = dots, COLORS[subject], 'dots'
                said.append(f'{subject}: first token of the long prompt after {stats.number(drawn["ttft_ms"])} ms, '
                            f'gaps before it arrived {stats.number(drawn["base_ms"])} ms')
        if series and any(places for places, _, _ in series.values()):
            yield (f'timeline-{figure}', svg.plane(f'Three streams while {title} tokens are read', 'seconds since it arrived',
                                                   'ms since the token before', series, True, (120, 'target ≤ 120 ms')),
                   'Every dot is a token of one of three running streams. ' + '; '.join(said) + '.')


def fates(name, title):
    def draw(by_subject):
        kinds = ['answered', 'refused', 'other', 'hung']
        rows = [(subject, [stats.median([r[kind] for r in rounds]) for kind in kinds]) for subject, rounds in by_subject.items()]
        if any(sum(values) for _, values in rows):
            yield (name, svg.stacked(title, 'requests', ['answered', 'refused, with Retry-After', 'any other end', 'no end'], rows),
                   'Median of the rounds.')
    return draw


def overload(by_subject):
    """The fates, and what the crowd cost the machine."""
    said = []
    for subject, rounds in by_subject.items():
        if not all('seconds' in r.get('overload', {}) for r in rounds):
            continue  # of a run from before the crowd had a client of its own
        peak, good, rate = (stats.number(stats.median([r[key] for r in rounds])) for key in ('peak_per_s', 'goodput_per_s', 'rate_per_s'))
        spent, wall = (sum(r['overload'][key] for r in rounds) for key in ('client_cpu_s', 'seconds'))
        said.append(f'{subject}: {peak} answers per second at the peak, {good} while {rate} requests per second arrived, whose client took '
                    f'{100 * spent / wall:.1f} % of a core')
    for name, picture, caption in fates('overload', 'Overload, 10 times the capacity')(by_subject):
        yield name, picture, caption + (f' {"; ".join(said)}.' if said else '')
    # Of the last round: one line per thing can be read, one per round cannot.
    waits = {subject: [(QUESTION_S * i, ms) for i, ms in enumerate(rounds[-1].get('high_ttft_ms', []))]
             for subject, rounds in by_subject.items()}
    if any(waits.values()):
        series = {subject: (points, COLORS[subject], 'dots') for subject, points in waits.items() if points}
        yield ('overload-interactive', svg.plane('Interactive questions under overload', 'seconds', 'TTFT, ms', series, log_y=True),
               'The last round. Not answered: 25,000.')
    purse = [(seen['at'], seen['purse_ms']) for seen in by_subject.get(HEARTH, [{}])[-1].get('overload', {}).get('seen', [])]
    if purse:
        yield ('overload-purse', svg.plane('What pays for interrupted steps, under overload', 'seconds', 'ms',
                                           {'purse': (purse, COLORS[HEARTH], 'line')}),
               'Computing that may be lost to interactive questions at that moment; at zero they wait for steps to end. The last round.')


def bound(by_subject):
    """What no cache can save: of the trace as it was played."""
    drawn = by_subject.get(UNBOUNDED, [{}])[-1]
    if 'share_computed' not in drawn:
        return ''
    return f' Of these {drawn["requests"]} requests a cache that forgets nothing computes {100 * drawn["share_computed"]:.0f} % itself.'


def replay(by_subject):
    """Share of prompt tokens so far that came from the cache."""
    series = {}
    for subject, rounds in reversed(by_subject.items()):  # Hearth's line, which may run along the bound, on top
        prompt, cached, points = 0, 0, []
        for i, (p, c) in enumerate(zip(rounds[-1]['prompt'], rounds[-1]['cached'])):
            prompt, cached = prompt + p, cached + c
            points.append((i + 1, 100 * cached / max(1, prompt)))
        series[subject] = points, COLORS[subject], 'line'
    yield ('hit-rate', svg.plane('Hit rate along the Mooncake conversation trace', 'requests so far', '% of prompt tokens from the cache',
                                 series), f'Sums up to each request.{bound(by_subject)}')


def chats(by_subject):
    """RSS from rest to sixteen chats."""
    steps = {'at_rest': 0, 'rss_chats1': 1, 'rss_chats16': 16}
    series = {subject: ([(at, stats.median([r[key] for r in rounds])) for key, at in steps.items()], COLORS[subject], 'marked')
              for subject, rounds in by_subject.items()}
    yield ('chats', svg.plane('Memory as chats begin, context setting 32k', 'running chats', 'RSS of the process tree, MiB', series),
           'Before the first request, with one and with sixteen running chats.')


def swap(by_subject):
    """Every swap, in the order they were asked for."""
    series = {subject: (list(enumerate((ms for r in rounds for ms in r['ms']), 1)), COLORS[subject], 'marked')
              for subject, rounds in by_subject.items()}
    yield ('swaps', svg.plane('Swap of two models, room for one', 'swaps of all rounds', 'request to first token, ms', series, log_y=True,
                              mark=(250, 'target ≤ 250 ms')),
           'SmolLM2 and a model of the shape of Gemma 3 270M, in turn.')


DRAWN = {'shared': shared, 'stall': stall, 'chats': chats, 'burst': fates('burst', '500 requests at once'),
         'overload': overload, 'replay': replay, 'swap': swap}


def of(results):
    """(name, picture, caption) of every plot there is data for."""
    for scene, draw in DRAWN.items():
        if by_subject := results.get('plots', {}).get(scene):
            yield from draw(by_subject)
