"""hearth quantize: upstream's quantiser in a sandboxed process of its own; files that are whole or absent."""
import concurrent.futures
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import signal
import subprocess

import hf_folder
import ollama
import pytest
import support


@pytest.fixture(scope='module')
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp('folders')


@pytest.fixture(scope='module')
def folder(scratch):
    if not support.SMOLLM2.exists():
        pytest.skip(f'no test model at {support.SMOLLM2}: `./dev setup` fetches it')
    return hf_folder.make('SmolLM2-135M-Instruct', scratch)


@pytest.fixture(scope='module')
def model(folder, scratch):
    output = scratch / 'smollm2-bf16.gguf'
    assert support.run_cli('convert', folder, '-o', output).returncode == 0
    return output


def quantize(source, form, output, *arguments):
    return support.run_cli('quantize', source, form, '-o', output, *arguments)


@pytest.mark.parametrize(('form', 'kind', 'mib'), [('fast', 'Q4_1', 93), ('balanced', 'Q5_K_M', 106), ('quality', 'Q8_0', 138),
                                                  ('q4_k_m', 'Q4_K_M', 100), ('F16', 'F16', 258)])
def test_profiles_and_types(model, tmp_path, form, kind, mib):
    output = tmp_path / 'out.gguf'
    result = quantize(model, form, output, '--json')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['type'] == kind and report['parameters'] == 134515008 and report['file_bytes'] == output.stat().st_size
    assert output.stat().st_size >> 20 == mib
    assert support.run_cli('check', output).returncode == 0


def test_the_weights_are_those_they_were_made_from(model, tmp_path):
    """The folder is the published Q4_1 model in BF16: quantised to Q4_1 it is nearly that one again."""
    output = tmp_path / 'out.gguf'
    assert quantize(model, 'fast', output).returncode == 0
    import gguf
    import numpy as np
    published = {t.name: t for t in gguf.GGUFReader(support.SMOLLM2).tensors}
    for tensor in gguf.GGUFReader(output).tensors:
        a, b = (gguf.quants.dequantize(t.data, t.tensor_type).ravel() for t in (tensor, published[tensor.name]))
        assert np.dot(a, b) > 0.9999 * np.linalg.norm(a) * np.linalg.norm(b), tensor.name


def test_a_folder_is_converted_and_quantised_in_one_go(folder, model, tmp_path):
    output = tmp_path / 'from-folder.gguf'
    assert quantize(folder, 'Q8_0', output).returncode == 0
    assert quantize(model, 'Q8_0', tmp_path / 'from-file.gguf').returncode == 0
    assert hf_folder.digest(output) == hf_folder.digest(tmp_path / 'from-file.gguf')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['from-file.gguf', 'from-folder.gguf']


def test_the_maker_is_confined(model, tmp_path):
    report = json.loads(quantize(model, 'fast', tmp_path / 'out.gguf', '--json').stdout)
    assert 'no_new_privs' in report['sandbox']
    if 'landlock' in report['sandbox']:
        assert 'writes one file' in report['sandbox']


def test_nobody_calls_a_maker_by_hand():
    for arguments in ([], ['convert'], ['quantize', 'a', 'b', 'c', 'd']):
        result = support.run_cli('maker', *arguments)
        assert result.returncode == 2 and 'not by hand' in result.stderr


def test_what_is_quantised_is_not_quantised_again(tmp_path):
    if not support.SMOLLM2.exists():
        pytest.skip(f'no test model at {support.SMOLLM2}: `./dev setup` fetches it')
    result = quantize(support.SMOLLM2, 'quality', tmp_path / 'out.gguf')
    assert result.returncode == 1 and 'quantised already' in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_says_why(model, tmp_path):
    output = tmp_path / 'out.gguf'
    assert quantize(tmp_path / 'nowhere.gguf', 'fast', output).returncode == 3
    unknown = quantize(model, 'smallest', output)
    assert unknown.returncode == 2 and 'fast, balanced, quality, full' in unknown.stderr
    assert quantize(model, 'full', output).returncode == 2
    broken = tmp_path / 'broken.gguf'
    broken.write_bytes(model.read_bytes()[:1 << 20])
    assert quantize(broken, 'fast', output).returncode == 1
    output.write_text('mine')
    refused = quantize(model, 'fast', output)
    assert refused.returncode == 2 and 'exists already' in refused.stderr and output.read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['broken.gguf', 'out.gguf']


def start(folder, target):
    process = subprocess.Popen([support.BINARY, 'quantize', str(folder), 'Q4_K_M', '-o', str(target / 'out.gguf')],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    support.wait_until(lambda: list(target.iterdir()) and support.children(process.pid), 'the maker and its output')
    return process


def test_ctrl_c_leaves_neither_file_nor_process(folder, tmp_path):
    process = start(folder, tmp_path)
    makers = support.children(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=support.PATIENCE_S)
    assert process.returncode == 130 and 'nothing was written' in errors
    assert list(tmp_path.iterdir()) == [] and not any(support.alive(pid) for pid in makers)


def test_a_kill_takes_the_maker_along_and_the_next_one_cleans_up(folder, model, tmp_path):
    process = start(folder, tmp_path)
    makers = support.children(process.pid)
    process.kill()
    process.wait()
    support.wait_until(lambda: not any(support.alive(pid) for pid in makers), 'the maker to die with who started it')
    assert not (tmp_path / 'out.gguf').exists() and list(tmp_path.iterdir())
    assert quantize(model, 'fast', tmp_path / 'out.gguf').returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ['out.gguf']


def test_auto_leaves_a_small_model_as_it_is_or_makes_it_smaller(folder, tmp_path):
    """Which of them depends on the memory of the machine; a form is chosen and said."""
    result = support.run_cli('quantize', folder, '-o', tmp_path / 'out.gguf', '--json')
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)['type'] in ('BF16', 'Q8_0', 'Q5_K_M', 'Q4_1')


def test_auto_of_a_file_makes_it_smaller_or_says_that_it_need_not_be(model, tmp_path):
    result = support.run_cli('quantize', model, '-o', tmp_path / 'out.gguf')
    assert result.returncode == 0 or (result.returncode == 2 and 'left as it is' in result.stderr), result.stderr


def test_the_default_name_says_source_and_type(model, tmp_path):
    result = subprocess.run([support.BINARY, 'quantize', str(model), 'Q4_0'], cwd=tmp_path, capture_output=True, text=True,
                            timeout=support.PATIENCE_S)
    assert result.returncode == 0 and result.stdout == 'smollm2-bf16-Q4_0.gguf\n'
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ['smollm2-bf16-Q4_0.gguf']


# --- the cache -----------------------------------------------------------------


def run(model, cache, *arguments):
    return support.run_cli('run', model, 'The capital of France is', '--quant-cache-dir', cache, '-t', '0', '-n', '4', *arguments)


def made_in(cache):
    """Inode of each model in the cache: one that is made again has another."""
    return sorted(path.stat().st_ino for path in cache.glob('*.gguf'))


def test_a_folder_is_served_and_quantised_once(folder, tmp_path):
    cache = tmp_path / 'cache'
    first = run(folder, cache, '--quantize', 'fast')
    assert first.returncode == 0, first.stderr
    made = made_in(cache)
    assert len(made) == 1
    second = run(folder, cache, '--quantize', 'fast')
    assert second.stdout == first.stdout and made_in(cache) == made
    assert run(folder, cache).returncode == 0 and len(made_in(cache)) == 2  # as it is: another model
    assert not list(cache.glob('.*')) and not list(cache.glob('*.new'))


def bytes_written(pid):
    """By the process, and by those it waited for."""
    return int(next(line for line in pathlib.Path(f'/proc/{pid}/io').read_text().splitlines() if line.startswith('wchar:')).split()[1])


def test_the_second_load_makes_nothing(model, tmp_path):
    """Counted, not timed: a maker writes the model it makes."""
    written = []
    for _ in range(2):
        with support.Server('--quantize', 'fast', '--quant-cache-dir', str(tmp_path), models=[f'small={model}']) as server:
            written.append(bytes_written(server.process.pid))
            assert server.complete('The capital of France is', model='small', max_tokens=2)
        made = [path.stat().st_size for path in tmp_path.glob('*.gguf')]
    assert len(made) == 1 and written[0] >= made[0] and written[1] < 1 << 20, (written, made)


def test_a_damaged_model_is_made_again_not_served(model, tmp_path):
    first = run(model, tmp_path, '--quantize', 'fast')
    assert first.returncode == 0, first.stderr
    kept = next(tmp_path.glob('*.gguf'))
    digest = hf_folder.digest(kept)
    with kept.open('r+b') as file:
        file.seek(kept.stat().st_size // 2)
        file.write(b'damage')
    assert hf_folder.digest(kept) != digest
    assert run(model, tmp_path, '--quantize', 'fast').stdout == first.stdout
    assert hf_folder.digest(kept) == digest


def test_a_kill_at_any_moment_leaves_no_wrong_model(model, tmp_path):
    expected = run(model, tmp_path / 'other', '--quantize', 'Q8_0')
    assert expected.returncode == 0, expected.stderr
    digest = hf_folder.digest(next((tmp_path / 'other').glob('*.gguf')))
    cache = tmp_path / 'cache'
    for wanted in ('*.lock', '.*.part', '*.gguf', '*.entry'):
        process = subprocess.Popen([support.BINARY, 'run', str(model), 'x', '-n', '1', '--quantize', 'Q8_0', '--quant-cache-dir',
                                    str(cache)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        support.wait_until(lambda wanted=wanted, process=process: list(cache.glob(wanted)) or process.poll() is not None, wanted)
        makers = support.children(process.pid)
        process.kill()
        process.wait()
        support.wait_until(lambda makers=makers: not any(support.alive(pid) for pid in makers), 'children to die')
        entries = list(cache.glob('*.entry'))
        assert not entries or hf_folder.digest(entries[0].with_suffix('.gguf')) == digest
    assert run(model, cache, '--quantize', 'Q8_0').stdout == expected.stdout


def test_the_server_serves_what_it_made(folder, tmp_path):
    server = support.Server('--quantize', 'quality', '--quant-cache-dir', str(tmp_path), models=[f'small={folder}'])
    try:
        answer = server.complete('The capital of France is', model='small', max_tokens=4, temperature=0)
        assert 'Paris' in answer['choices'][0]['text']
    finally:
        server.stop()


@pytest.fixture
def shelf(model, tmp_path):
    """A models folder with one model in BF16, and a cache beside it."""
    folder = tmp_path / 'models'
    folder.mkdir()
    (folder / 'big.gguf').hardlink_to(model)
    return folder


def serve_quantised(shelf, *arguments):
    return support.Server('--models-dir', str(shelf), '--quant-cache-dir', str(shelf.parent / 'cache'), *arguments, models=[])


def quantize_jobs(server):
    return server.request('GET', '/api/v1/jobs?kind=quantize')[2]['jobs']


@contextlib.contextmanager
def makers_wait(shelf):
    """The making of `big` as `fast` waits, as if another process did it, until the given function is called."""
    cache = shelf.parent / 'cache'
    with serve_quantised(shelf, '--quantize', 'fast') as server:
        server.complete('x', model='big', max_tokens=1)
    made, = cache.glob('*.gguf')
    with open(made.with_suffix('.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.unlink()
        yield lambda: fcntl.flock(lock, fcntl.LOCK_UN)


def read_stream(server, path, body, on_line):
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=support.PATIENCE_S)
    with contextlib.closing(connection):
        connection.request('POST', path, json.dumps(body))
        lines = []
        for line in connection.getresponse():
            on_line(line.decode())
            lines.append(line.decode())
        return lines


ASK = [{'role': 'user', 'content': 'Name a colour.'}]
GREEDY = {'temperature': 0, 'num_predict': 12}


def test_a_model_is_quantised_when_it_is_first_asked_for(shelf):
    cache = shelf.parent / 'cache'
    with serve_quantised(shelf, '--quantize', 'fast') as server:
        assert not cache.exists() or not made_in(cache), 'not before'
        client = ollama.Client(host=server.url)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: client.chat('big', ASK, options=GREEDY).message.content, range(3)))
        assert answers[0] and answers == [answers[0]] * 3
        job, = quantize_jobs(server)
        assert job['state'] == 'done' and job['model'] == 'big', 'once for all'
        assert server.request('POST', '/api/show', {'model': 'big'})[2]['details']['quantization_level'] == 'Q4_1'
    made = made_in(cache)
    assert len(made) == 1
    with serve_quantised(shelf, '--quantize', 'fast') as server:
        assert ollama.Client(host=server.url).chat('big', ASK, options=GREEDY).message.content == answers[0]
        assert made_in(cache) == made, 'it was found, not made'


def test_nothing_is_made_to_show_a_model_or_to_let_it_go(shelf):
    with serve_quantised(shelf, '--quantize', 'fast') as server:
        shown = server.request('POST', '/api/show', {'model': 'big'})[2]
        assert shown['details']['quantization_level'] == 'BF16' and shown['template'] != '{{ .Prompt }}'
        for path, wish in (('generate', {}), ('chat', {'messages': []}), ('embed', {'input': []}), ('embeddings', {'prompt': ''})):
            status, _, body = server.request('POST', f'/api/{path}', {'model': 'big', 'keep_alive': 0, **wish})
            assert status == 200, body
        assert quantize_jobs(server) == [] and server.request('GET', '/api/v1/residency')[2]['models'] == []


def test_streams_are_told_that_it_is_made(shelf):
    with makers_wait(shelf) as go_on, serve_quantised(shelf, '--quantize', 'fast') as server:
        client = ollama.Client(host=server.url)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            streams = [pool.submit(lambda: list(client.chat('big', ASK, options=GREEDY, stream=True))) for _ in range(2)]
            lines = [json.loads(line) for line in
                     read_stream(server, '/api/chat', {'model': 'big', 'messages': ASK, 'options': GREEDY},
                                 lambda line: 'status' in line and go_on())]
            streams = [stream.result() for stream in streams]
        said = client.chat('big', ASK, options=GREEDY).message.content
        assert said
        for chunks in streams:
            assert ''.join(chunk.message.content for chunk in chunks) == said
            assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        told = [line for line in lines if line.get('status') == 'quantizing model']
        assert told and all(line['message']['content'] == '' and not line['done'] for line in told), lines
        assert all(line.get('completed', 0) <= line.get('total', 0) for line in told)
        assert ''.join(line['message']['content'] for line in lines) == said
        assert len(quantize_jobs(server)) == 1, 'once for all'


def test_streams_of_the_other_dialect_and_of_javascript_are_told_too(shelf):
    script = (f"const {{Ollama}} = require('ollama'); (async () => {{ let text = ''; for await (const part of await new "
              f"Ollama({{host: process.argv[1]}}).chat({{model: 'big', messages: {json.dumps(ASK)}, options: {json.dumps(GREEDY)}, "
              "stream: true})) text += part.message.content; process.stdout.write(text); })()")
    with makers_wait(shelf) as go_on, serve_quantised(shelf, '--quantize', 'fast') as server:
        node = subprocess.Popen(['node', '-e', script, server.url], stdout=subprocess.PIPE, text=True,
                                env={**os.environ, 'NODE_PATH': str(support.SOURCE / 'build/node/node_modules')})
        lines = read_stream(server, '/v1/chat/completions', {'model': 'big', 'messages': ASK, 'stream': True, 'temperature': 0,
                                                             'max_tokens': 12, 'sse_ping_interval': 1},
                            lambda line: line.startswith(': ') and go_on())
        said = ollama.Client(host=server.url).chat('big', ASK, options=GREEDY).message.content
        assert node.communicate(timeout=support.PATIENCE_S)[0] == said
        assert any(line.startswith(': quantizing model, ') for line in lines)
        assert ''.join(lines).rstrip().endswith('data: [DONE]')


def test_the_original_is_served_meanwhile_if_that_is_wanted(shelf):
    with makers_wait(shelf) as go_on, serve_quantised(shelf, '--quantize', 'fast', '--while-quantizing', 'original') as server:
        level = lambda: server.request('POST', '/api/show', {'model': 'big'})[2]['details']['quantization_level']
        assert server.chat('Name a colour.', model='big', max_tokens=2)
        assert level() == 'BF16'
        go_on()
        support.wait_until(lambda: quantize_jobs(server)[0]['state'] == 'done', 'it to be made')
        support.wait_until(lambda: server.chat('Name a colour.', model='big', max_tokens=2) and level() == 'Q4_1', 'it to be served')


def test_what_cannot_be_made_is_an_error_and_not_the_original(shelf):
    with serve_quantised(shelf, '--quantize', 'fast', '--quant-cache-size', '1MiB') as server:
        status, _, body = server.request('POST', '/api/generate', {'model': 'big', 'prompt': 'x', 'stream': False})
        assert status == 503 and 'was not quantised' in body['error'] and str(shelf.parent) not in body['error'], body
        assert quantize_jobs(server)[0]['state'] == 'failed'
        status, _, body = server.request('POST', '/v1/completions', {'model': 'big', 'prompt': 'x', 'stream': False})
        assert status == 503 and body['error']['code'] == 'model_unavailable', body
        assert len(quantize_jobs(server)) == 1, 'not tried again with each request'


def test_what_a_model_is_beside_its_weights_stays(shelf):
    made = support.run_cli('create', 'pirate', '-f', '-', stdin='FROM big\nSYSTEM Arr.\n',
                           environment={**os.environ, 'HEARTH_MODELS_DIR': str(shelf)})
    assert made.returncode == 0, made.stderr
    with support.Server('--models-dir', str(shelf), '--quant-cache-dir', str(shelf.parent / 'cache'), '--quantize', 'fast',
                        models=['pirate']) as server:
        shown = server.request('POST', '/api/show', {'model': 'pirate'})[2]
        assert shown['system'] == 'Arr.' and shown['details']['quantization_level'] == 'Q4_1'


def test_a_name_moves_to_a_model_in_its_made_form_with_what_that_is_beside_its_weights(shelf):
    made = support.run_cli('create', 'pirate', '-f', '-', stdin='FROM big\nSYSTEM Arr.\n',
                           environment={**os.environ, 'HEARTH_MODELS_DIR': str(shelf)})
    assert made.returncode == 0, made.stderr
    flags = ('--quantize', 'fast', '--data-dir', str(shelf.parent / 'data'))

    def served(server):
        server.complete('x', model='big', max_tokens=1)
        shown = server.request('POST', '/api/show', {'model': 'big'})[2]
        return shown.get('system'), shown['details']['quantization_level']

    with serve_quantised(shelf, *flags) as server:
        assert served(server) == (None, 'Q4_1')
        status, _, body = server.request('POST', '/api/v1/models/big/swap', {'model': 'pirate'})
        assert status == 200 and body['state'] == 'ready', body
        assert served(server) == ('Arr.', 'Q4_1')
    with serve_quantised(shelf, *flags) as server:
        assert served(server) == ('Arr.', 'Q4_1'), 'it is remembered'


def test_auto_goes_by_the_budget(shelf):
    if not support.SMOLLM2.exists():
        pytest.skip('no test model')
    with serve_quantised(shelf, '--quantize', 'auto', '--memory', '700MiB', '--ctx', '512', '--kv-cells', '512') as server:
        server.complete('x', model='big', max_tokens=1)
        level = server.request('POST', '/api/show', {'model': 'big'})[2]['details']['quantization_level']
        assert level == 'Q8_0', 'BF16 would be more than a tenth of 700 MiB, Q8_0 is less than 30 %'


def test_auto_leaves_what_is_quantised_alone_and_too_small_a_cache_is_said(model, tmp_path):
    if support.SMOLLM2.exists():
        assert run(support.SMOLLM2, tmp_path, '--quantize', 'auto').returncode == 0
        assert not list(tmp_path.glob('*.gguf'))
    refused = run(model, tmp_path, '--quantize', 'fast', '--quant-cache-size', '1MiB')
    assert refused.returncode == 1 and '1048576 (--quant-cache-size)' in refused.stderr
    assert not list(tmp_path.glob('*.gguf'))
