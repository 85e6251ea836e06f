"""Models in memory: what they take and are said to take, models that come and go under a budget and a limit of the kernel's,
files that change under a name. HEARTH_CHURN says how many loads the churn goes on for."""
import contextlib
import json
import os
import pathlib
import random
import sys
import threading

import pytest
import support

sys.path.insert(0, str(support.SOURCE / 'bench'))
from suite import tiny_models  # noqa: E402

CHURN = int(os.environ.get('HEARTH_CHURN', '60'))
SANITIZED = os.environ.get('HEARTH_SANITIZED', '') == '1'
MIB = 1 << 20


def proc_bytes(pid, field, file='smaps_rollup'):
    for line in pathlib.Path(f'/proc/{pid}/{file}').read_text().splitlines():
        if line.startswith(field + ':'):
            return int(line.split()[1]) << 10
    return 0


def estimate(model, *arguments):
    result = support.run_cli('estimate', model, '--json', *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tiny')
    for kind in tiny_models.KINDS:
        tiny_models.write(kind, folder / f'{kind}.gguf')
    return folder


# --- what a model takes ---

def measured_models(tiny):
    yield support.STORIES, 128
    yield tiny / 'hybrid.gguf', 4096
    yield tiny / 'window.gguf', 4096
    if support.SMOLLM2.exists():
        yield support.SMOLLM2, 512
        yield support.SMOLLM2, 4096


@pytest.mark.skipif(SANITIZED, reason='a sanitizer takes more than the model')
def test_the_estimate_is_within_5_percent_of_what_a_worker_takes_when_its_cache_is_full(tiny):
    wrong = []
    for path, cells in measured_models(tiny):
        said = estimate(path, '--kv-cells', str(cells))['total_bytes']
        with support.Server('--ctx', str(cells), '--kv-cells', str(cells), '--cache-memory', '0', models=[path]) as server:
            prompt = [5 + i % 90 for i in range(cells - 8)]
            status, _, answer = server.request('POST', '/v1/completions', {'prompt': prompt, 'max_tokens': 4}, timeout=600)
            assert status == 200, answer
            took = proc_bytes(server.worker_of(path), 'Rss')
            promised = server.request('GET', '/api/v1/residency')[2]['models'][0]['memory_bytes']
        print(f'{path.name} {cells}: said {said / MIB:.1f} MiB, took {took / MIB:.1f}, off by {said / took - 1:+.1%}; '
              f'promised once ready {promised / MIB:.1f}, off by {promised / took - 1:+.1%}')
        # Once it is ready a worker has not touched all of its own program yet.
        if abs(said - took) > 0.05 * took or abs(promised - took) > max(0.05 * took, 2 * MIB):
            wrong.append((path.name, cells))
    assert wrong == []


def test_the_server_tells_the_parts_of_an_estimate_and_what_became_of_it(tiny):
    with support.Server(models=[tiny / 'window.gguf']) as server:
        status, _, body = server.request('GET', '/api/v1/models/estimate?model=window&context=2048&kv_cells=2048')
        assert status == 200, body
        parts = ('weights_bytes', 'kv_bytes', 'scratch_bytes', 'process_bytes')
        assert body['total_bytes'] == sum(body[part] for part in parts) and all(body[part] > 0 for part in parts)
        assert body == {**body, **{key: value for key, value in estimate(tiny / 'window.gguf', '--kv-cells', '2048').items()
                                   if key.endswith('_bytes')}}
        assert body['served']['state'] == 'ready' and body['served']['memory_bytes'] > 0
        assert server.request('GET', '/api/v1/models/estimate?model=none')[0] == 404
        assert server.request('GET', '/api/v1/models/estimate')[0] == 400
        status, _, body = server.request('GET', '/api/v1/models/estimate?model=window&context=0')
        assert status == 400 and body['error']['param'] == 'context'


# --- the command line ---

def test_ps_and_stop_talk_to_the_server(tiny):
    with support.Server('--lazy', '--keep-alive', '3600', '--pin', 'window', models=[tiny / 'hybrid.gguf', tiny / 'window.gguf']) as server:
        assert json.loads(support.run_cli('ps', '--json', '--host', server.url.removeprefix('http://')).stdout)['models'] == []
        server.complete('x', model='hybrid', max_tokens=2)
        server.complete('x', model='window', max_tokens=2)
        text = support.run_cli('ps', '--host', server.url.removeprefix('http://')).stdout.splitlines()
        assert text[0].split() == ['NAME', 'STATE', 'MEMORY', 'CONTEXT', 'STAYS'] and len(text) == 3
        assert 'min' in text[1] and 'for ever' in text[2]
        assert support.run_cli('stop', 'hybrid', '--host', server.url.removeprefix('http://')).returncode == 0
        models = json.loads(support.run_cli('ps', '--json', '--host', server.url.removeprefix('http://')).stdout)['models']
        assert [model['id'] for model in models] == ['window'] and models[0]['pinned']
        missing = support.run_cli('stop', 'a/b', '--host', server.url.removeprefix('http://'))
        assert missing.returncode == 3 and 'a/b' in missing.stderr
    gone = support.run_cli('ps', '--host', server.url.removeprefix('http://'))
    assert gone.returncode == 4 and '--host' in gone.stderr


def test_pins_and_preloads_name_served_models(tiny):
    refused = support.run_cli('serve', '--model', tiny / 'window.gguf', '--pin', 'other', '--port', '0')
    assert refused.returncode == 2 and "--pin 'other'" in refused.stderr
    with support.Server('--lazy', '--preload', 'window', models=[tiny / 'hybrid.gguf', tiny / 'window.gguf']) as server:
        states = {m['id']: m['state'] for m in server.request('GET', '/api/v1/residency')[2]['models']}
        assert states == {'hybrid': 'cold', 'window': 'ready'}


# --- one name, another file ---

class Clients:
    """Threads that ask without a pause until told to stop, and note every answer that is not right."""

    def __init__(self, server, model, count):
        self.server, self.model = server, model
        self.stopping, self.wrong, self.answers = threading.Event(), [], 0
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    def _ask(self, number):
        while not self.stopping.is_set():
            body = {'model': self.model, 'prompt': f'Client {number} said', 'max_tokens': 12, 'ignore_eos': True}
            try:
                if number % 2:
                    with contextlib.closing(self.server.open_stream('/v1/completions', body)) as stream:
                        seen = list(support.events(stream))
                    right = len(seen) > 1 and seen[-1] == '[DONE]' and not any('"error"' in event for event in seen)
                else:
                    status, _, seen = self.server.request('POST', '/v1/completions', body)
                    right = status == 200
            except OSError as error:
                seen, right = error, False
            if not right:
                self.wrong.append(seen)
            self.answers += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def test_a_swap_under_load_fails_nobody(tiny):
    files = [tiny / 'window.gguf', tiny / 'hybrid.gguf', support.STORIES]
    with support.Server('--ctx', '128', models=[f'name={files[0]}']) as server, Clients(server, 'name', 6) as clients:
        for turn in range(1, 10):
            seen = clients.answers
            status, _, body = server.request('POST', '/api/v1/models/name/swap', {'path': str(files[turn % 3])})
            assert status == 200 and body['state'] == 'ready', body
            server.worker_of(files[turn % 3])
            support.wait_until(lambda: clients.answers > seen + 6, 'answers of the new file')
        support.wait_until(lambda: len(server.workers()) == 1, 'the former workers go')
        clients.stopping.set()
        clients.__exit__()
        assert clients.wrong == [] and clients.answers > 60
        assert server.metric('hearth_worker_restarts_total') == 0
        states = {key: value for key, value in server.metrics().items() if key.startswith('hearth_model_state') and value}
        assert list(states) == ['hearth_model_state{model="name",state="ready"}']


def test_a_swap_that_cannot_be_leaves_everything_as_it_is(tiny, tmp_path):
    broken = tmp_path / 'broken.gguf'
    broken.write_bytes(b'GGUF nothing')
    need = estimate(tiny / 'window.gguf')['total_bytes']
    with support.Server('--memory', str(int(need * 1.5)), models=[f'name={tiny / "window.gguf"}']) as server:
        status, _, body = server.request('POST', '/api/v1/models/name/swap', {'path': str(broken)})
        assert status == 400 and 'broken.gguf' in body['error']['message'], body
        status, _, body = server.request('POST', '/api/v1/models/name/swap', {'path': str(tiny / 'hybrid.gguf')})
        assert status == 507 and str(int(need * 1.5)) in body['error']['message'], body
        assert server.request('POST', '/api/v1/models/name/swap', {})[0] == 400
        assert server.request('POST', '/api/v1/models/none/swap', {'path': 'x'})[0] == 404
        server.complete('still', model='name', max_tokens=2)
        assert len(server.workers()) == 1


# --- coming and going ---

@contextlib.contextmanager
def memory_group(limit):
    """A control group with that limit, or none where there may be none; and how often its limit killed."""
    folder = pathlib.Path(f'/sys/fs/cgroup/memory/hearth-test-{os.getpid()}')
    try:
        folder.mkdir()
        (folder / 'memory.limit_in_bytes').write_text(str(limit))
    except OSError:
        yield None, lambda: 0
        return
    try:
        yield folder, lambda: int(next(line for line in (folder / 'memory.oom_control').read_text().splitlines()
                                       if line.startswith('oom_kill ')).split()[1])
    finally:
        with contextlib.suppress(OSError):
            support.wait_until(lambda: not (folder / 'cgroup.procs').read_text(), 'the group is empty', 10)
            folder.rmdir()


class Watcher(threading.Thread):
    """The most all workers took at once, page cache that several share counted once."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.most, self.stopping = server, 0, threading.Event()

    def run(self):
        while not self.stopping.wait(0.05):
            total = 0
            for pid in self.server.workers():
                with contextlib.suppress(OSError):
                    total += proc_bytes(pid, 'Pss')
            self.most = max(self.most, total)


@pytest.mark.skipif(SANITIZED, reason='a sanitizer takes more than the models')
def test_models_come_and_go_without_an_end_or_an_error(tiny, tmp_path, monkeypatch):
    paths = [tiny / 'hybrid.gguf', tiny / 'window.gguf', support.STORIES]
    names = [f'm{i}' for i in range(6)]
    models = [f'{name}={paths[i % 3]}' for i, name in enumerate(names)]
    need = max(estimate(path, '--kv-cells', '4096')['total_bytes'] for path in paths)
    budget = int(need * 2.5)
    models.append(f'huge={support.SMOLLM2}' if support.SMOLLM2.exists() else f'huge={paths[0]}')
    with memory_group(budget + 96 * MIB) as (group, kills):
        if group:
            wrapper = tmp_path / 'hearth'
            wrapper.write_text(f'#!/bin/sh\necho $$ > {group}/cgroup.procs\nexec {support.BINARY} "$@"\n')
            wrapper.chmod(0o755)
            monkeypatch.setattr(support, 'BINARY', str(wrapper))
        with support.Server('--lazy', '--memory', str(budget), '--kv-cells', '4096', '--ctx', '128',
                            '--request-timeout', '600', models=models) as server:
            watcher = Watcher(server)
            watcher.start()
            wrong, loads = [], lambda: server.log_text().count('"worker ready"')
            done = threading.Event()

            def ask(seed):
                chance = random.Random(seed)
                while not done.is_set():
                    name = chance.choice([*names, 'huge'] if support.SMOLLM2.exists() else names)
                    body = {'model': name, 'prompt': 'once upon', 'max_tokens': chance.randint(1, 16)}
                    status, _, answer = server.request('POST', '/v1/completions', body, timeout=600)
                    sizes = status == 507 and name == 'huge' and str(budget) in answer['error']['message']
                    if status != 200 and not sizes:
                        wrong.append((name, status, answer))

            threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
            for thread in threads:
                thread.start()
            try:
                support.wait_until(lambda: loads() >= CHURN or wrong, f'{CHURN} loads', patience=900)
            finally:
                done.set()
                for thread in threads:
                    thread.join()
            watcher.stopping.set()
            watcher.join()
            restarts, loaded = server.metric('hearth_worker_restarts_total'), loads()
        print(f'{loaded} loads, most memory {watcher.most / MIB:.1f} MiB of {budget / MIB:.1f}, group {bool(group)}, killed {kills()}')
        assert wrong == [] and restarts == 0 and kills() == 0
        assert 0 < watcher.most <= budget
