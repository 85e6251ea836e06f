"""Several workers of one model: requests are split, a conversation stays, what one loses the other does not notice."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal

import support

NAME = support.STORIES.stem


def start(count, *arguments):
    return support.Server('--instances', f'{NAME}={count}', '--cache-memory', '0', *arguments)


def entry(server):
    return next(model for model in server.request('GET', '/api/v1/residency')[2]['models'] if model['id'] == NAME)


def both_ready(server):
    return [instance['state'] for instance in entry(server)['instances']] == ['ready', 'ready']


def mapped(pid, path):
    """Rss and Pss of what a process has of a file."""
    rss = pss = 0
    inside = False
    for line in pathlib.Path(f'/proc/{pid}/smaps').read_text().splitlines():
        if not line[0].isupper():
            inside = line.endswith(str(path.resolve()))
        elif inside and line.startswith('Rss:'):
            rss += int(line.split()[1])
        elif inside and line.startswith('Pss:'):
            pss += int(line.split()[1])
    return rss, pss


def test_both_answer_under_load_and_share_the_pages_of_the_file():
    with start(2) as server:
        support.wait_until(lambda: both_ready(server), 'both are ready')
        with concurrent.futures.ThreadPoolExecutor(16) as clients:
            answers = list(clients.map(lambda n: server.complete(f'Client {n} said', max_tokens=24, ignore_eos=True), range(60)))
        assert all(answer['usage']['completion_tokens'] == 24 for answer in answers)
        values = server.metrics()
        for label in (NAME, f'{NAME}#2'):
            assert values[f'hearth_generated_tokens_total{{model="{label}"}}'] > 0
        assert server.metric('hearth_generated_tokens_total') == 60 * 24
        workers = server.workers()
        assert len(workers) == 2
        for pid in workers:
            rss, pss = mapped(pid, support.STORIES)
            assert rss > 0 and pss <= 0.6 * rss, 'every page is the other one\'s, too'
        listed = entry(server)
        assert {instance['pid'] for instance in listed['instances']} == set(workers)
        file_bytes = support.STORIES.stat().st_size
        apart = sum(instance['memory_bytes'] for instance in listed['instances'])
        assert 0.7 * file_bytes < apart - listed['memory_bytes'] < 1.1 * file_bytes, 'what is shared counts once'
        text = support.run_cli('ps', '--host', server.url.removeprefix('http://')).stdout
        assert 'ready 2/2' in text


def test_what_one_loses_the_other_does_not_notice():
    with start(2) as server:
        support.wait_until(lambda: both_ready(server), 'both are ready')
        body = {'prompt': 'Once upon a time', 'max_tokens': 4000, 'ignore_eos': True, 'context_overflow': 'shift'}
        streams = []
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stream = stack.enter_context(contextlib.closing(server.open_stream('/v1/completions', body)))
                arriving = support.events(stream)
                next(arriving)
                streams.append(arriving)
            by_requests = [instance['requests'] for instance in entry(server)['instances']]
            assert by_requests == [1, 1]
            first = entry(server)['instances'][0]['pid']
            os.kill(first, signal.SIGKILL)
            seen = [list(arriving) for arriving in streams]
        broken = [any('engine_lost' in event for event in events) for events in seen]
        assert broken == [True, False], 'only what ran on it'
        assert seen[1][-1] == '[DONE]'
        server.complete('Once', max_tokens=4)
        support.wait_until(lambda: both_ready(server), 'the other came back')
        restarts = [instance['restarts'] for instance in entry(server)['instances']]
        assert restarts == [1, 0]


def test_a_stop_is_answered_when_both_are_gone():
    with start(2) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        support.wait_until(lambda: both_ready(server), 'both are ready')
        body = {'prompt': 'Once upon a time', 'max_tokens': 4000, 'ignore_eos': True, 'context_overflow': 'shift'}
        with contextlib.closing(server.open_stream('/v1/completions', body)) as stream:
            arriving = support.events(stream)
            next(arriving)
            stop = pool.submit(server.request, 'POST', f'/api/v1/models/{NAME}/unload')
            assert list(arriving)[-1] == '[DONE]', 'what one of them has is finished'
            status, _, model = stop.result()
        assert (status, model['state']) == (200, 'cold'), model
        assert server.workers() == []


def test_a_conversation_stays_where_its_prefix_is():
    with start(2) as server:
        support.wait_until(lambda: both_ready(server), 'both are ready')
        for person in range(4):
            said = [5 + (person * 37 + i * 11) % 400 for i in range(80)]
            server.complete(said, max_tokens=1)
            again = server.complete([*said, 7, 8], max_tokens=1)
            assert again['usage']['prompt_tokens_details']['cached_tokens'] > 0


def test_wrong_counts_are_refused():
    for wrong in (f'{NAME}=0', f'{NAME}=17', NAME, '=2'):
        refused = support.run_cli('serve', '--model', support.STORIES, '--instances', wrong, '--port', '0')
        assert refused.returncode == 2 and '1 to 16' in refused.stderr, refused.stderr


def test_the_listing_says_nothing_of_instances_where_there_is_one():
    with support.Server() as server:
        assert 'instances' not in entry(server)
        assert json.dumps(server.metrics()).count('#2') == 0
