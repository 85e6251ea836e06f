"""Models that take turns in a memory that holds one of them: parked, woken, ended, and what that is said to take."""
import json
import os
import pathlib
import signal
import sys

import pytest
import support

sys.path.insert(0, str(support.SOURCE / 'bench'))
from suite import tiny_models  # noqa: E402

SANITIZED = os.environ.get('HEARTH_SANITIZED', '') == '1'
MIB = 1 << 20
CELLS = '4096'


def memory(pid, field):
    for line in pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines():
        if line.startswith(field + ':'):
            return int(line.split()[1]) << 10
    return 0


def estimate(model):
    result = support.run_cli('estimate', model, '--json', '--kv-cells', CELLS)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def room_for_one(models, slack=8 * MIB):
    """Of a sanitized build a process takes more than is estimated; then what is there makes the bound."""
    sizes = [estimate(model) for model in models]
    # Either loaded with the other parked, not both loaded.
    room = max(size['total_bytes'] for size in sizes) + max(size['process_bytes'] for size in sizes) + slack
    assert room < sum(size['total_bytes'] for size in sizes), 'both would fit'
    return room


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    for kind in ('hybrid', 'window'):
        tiny_models.write(kind, folder / f'{kind}.gguf')
    return [folder / 'hybrid.gguf', folder / 'window.gguf']


def start(models, room, *arguments):
    return support.Server('--lazy', '--memory', str(room), '--kv-cells', CELLS, '--cache-memory', '0', *arguments, models=models)


def residency(server):
    body = server.request('GET', '/api/v1/residency')[2]
    return body['memory'], {model['id']: model for model in body['models']}


def say(server, model):
    return server.complete('Once upon a time', model=model, max_tokens=8, temperature=0)['choices'][0]['text']


needs_true_sizes = pytest.mark.skipif(SANITIZED, reason='a sanitizer takes more than the models')


def big_models():
    """A vocabulary, a cache and weights that are worth something, twice."""
    if not support.SMOLLM2.exists():
        pytest.skip('SmolLM2 has not been fetched')
    return support.SMOLLM2


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """SmolLM2 by two names: two models for the server, one file."""
    source = big_models()
    folder = tmp_path_factory.mktemp('pair')
    for name in ('one', 'two'):
        (folder / f'{name}.gguf').symlink_to(source)
    return [folder / 'one.gguf', folder / 'two.gguf']


@needs_true_sizes
def test_models_that_take_turns_keep_their_processes_and_say_what_they_said(pair):
    room = room_for_one(pair)
    with start(pair, room) as server:
        first = {name: say(server, name) for name in ('one', 'two')}
        workers = set(server.workers())
        assert len(workers) == 2
        for _ in range(3):
            for name, other in (('one', 'two'), ('two', 'one')):
                assert say(server, name) == first[name]
                budget, states = residency(server)
                assert states[name]['state'] == 'ready' and states[other]['state'] == 'parked'
                assert budget['used_bytes'] <= budget['budget_bytes'] == room
        assert set(server.workers()) == workers, 'nobody was loaded again'
        assert server.metric('hearth_model_wakes_total') == 6
        assert server.metric('hearth_worker_restarts_total') == 0


@needs_true_sizes
def test_packed_weights_are_packed_again_in_the_sandbox(models, tmp_path):
    packed = tmp_path / 'packed.gguf'
    made = support.run_cli('quantize', models[1], 'Q4_0', '-o', packed)
    assert made.returncode == 0, made.stderr
    pair = [models[0], packed]
    with start(pair, room_for_one(pair, slack=0), '--parked', '2') as server:
        first = {path: say(server, path.stem) for path in pair}
        for path in (*pair, *pair):
            assert say(server, path.stem) == first[path]
        # The other one may have to go for it; this one comes back each time.
        woken = [line for line in server.log_text().splitlines() if '"woken in' in line and '"packed"' in line]
        assert len(woken) == 2, server.log_text()


@needs_true_sizes
def test_what_a_parked_model_is_said_to_keep_is_what_it_keeps(pair):
    with start(pair, room_for_one(pair)) as server:
        say(server, 'one')
        before = memory(server.worker_of(pair[0]), 'Rss')
        say(server, 'two')
        _, states = residency(server)
        kept = memory(server.worker_of(pair[0]), 'Rss')
        said = states['one']['memory_bytes']
        print(f'loaded {before / MIB:.1f} MiB, parked {kept / MIB:.1f}, said {said / MIB:.1f}, '
              f'estimated {estimate(pair[0])["process_bytes"] / MIB:.1f}')
        assert abs(said - kept) < 0.05 * kept + MIB
        assert kept < before / 2
        # Of the weights nothing is left but what the process is.
        assert kept < estimate(pair[0])['process_bytes'] * 1.25 + 4 * MIB


@needs_true_sizes
def test_a_parked_worker_that_is_killed_is_only_loaded_again(pair):
    with start(pair, room_for_one(pair)) as server:
        first = say(server, 'one')
        say(server, 'two')
        pid = server.worker_of(pair[0])
        os.kill(pid, signal.SIGKILL)
        support.wait_until(lambda: residency(server)[1]['one']['state'] == 'cold', 'its end is seen')
        assert say(server, 'one') == first
        assert server.metric('hearth_worker_restarts_total') == 0
        assert server.worker_of(pair[0]) != pid


@needs_true_sizes
def test_parked_models_are_listed_and_stopped(pair):
    with start(pair, room_for_one(pair)) as server:
        say(server, 'one')
        say(server, 'two')
        host = server.url.removeprefix('http://')
        listed = {model['id']: model['state'] for model in
                  json.loads(support.run_cli('ps', '--json', '--host', host).stdout)['models']}
        assert listed == {'one': 'parked', 'two': 'ready'}
        assert [model['name'] for model in server.request('GET', '/api/ps')[2]['models']] == ['two:latest']
        words = {model['id']: model['status']['value'] for model in server.request('GET', '/v1/models')[2]['data']}
        assert words == {'one': 'sleeping', 'two': 'loaded'}
        assert support.run_cli('stop', 'one', '--host', host).returncode == 0
        assert residency(server)[1]['one']['state'] == 'cold'
        assert len(server.workers()) == 1


def test_nobody_is_parked_with_parked_0(models):
    room = 512 * MIB if SANITIZED else room_for_one(models, 0)
    with start(models, room, '--parked', '0') as server:
        for name in ('hybrid', 'window', 'hybrid'):
            say(server, name)
        assert 'parked' not in {model['state'] for model in residency(server)[1].values()}
        assert server.metric('hearth_model_wakes_total') == 0
