"""Many requests at once, from `hearth bench serve`: where the client must cost next to nothing, as it shares the cores with the server.

Its report becomes the answers that client.py gives, so that both are counted alike. Times are seconds since the first request was sent.
"""
import asyncio
import json
import pathlib

from .client import Answer
from .process import MeasureError
from .programs import bench_serve_argv


def answer_of(sent, head, ended, status, retry_after, outcome, ttft, problem):
    """One request of the report."""
    done, timeout = outcome == 'completed', outcome == 'timeout'
    # A status other than 200 is no error of the exchange; what came with it is its text.
    said = problem.removeprefix(f'HTTP {status}: ') if outcome == 'http_error' else ''
    return Answer(sent=sent, head=head, ended=ended, status=status or None, text=said, finished=done,
                  headers={} if retry_after is None else {'retry-after': str(retry_after)}, times=[sent + ttft] if ttft > 0 else [],
                  error='' if done or outcome == 'http_error' else 'timeout' if timeout else f'{outcome}: {problem}')


def answers_of(report):
    columns = ('sent_times', 'head_times', 'end_times', 'statuses', 'retry_after_s', 'outcomes', 'ttfts', 'errors')
    return [answer_of(*row) for row in zip(*(report[name] for name in columns), strict=True)]


async def run(visit, server, label, timeout_s, **options):
    """(answers, report) of one run; other tasks go on meanwhile. The client ends with this task."""
    raw = visit.suite.raw_path(f'{label}-{visit.subject}')
    named = {'warmup': 0, 'detailed': True, **{name.replace('_', '-'): value for name, value in options.items()}}
    process = await asyncio.create_subprocess_exec(
        *bench_serve_argv(visit.suite.loadgen, server, named, raw), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    try:
        _, said = await asyncio.wait_for(process.communicate(), timeout_s)
    except asyncio.TimeoutError:
        raise MeasureError(f'{label}: the client did not end within {timeout_s:g} s') from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise MeasureError(f'{label}: the client ended with {process.returncode}: {said.decode(errors="replace").strip()[-300:]}')
    report = json.loads(pathlib.Path(raw).read_text())
    return answers_of(report), report
