"""hearth quantize: upstream's quantiser in a sandboxed process of its own; files that are whole or absent."""
import json
import pathlib
import signal
import subprocess

import hf_folder
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


def test_auto_leaves_what_is_quantised_alone_and_too_small_a_cache_is_said(model, tmp_path):
    if support.SMOLLM2.exists():
        assert run(support.SMOLLM2, tmp_path, '--quantize', 'auto').returncode == 0
        assert not list(tmp_path.glob('*.gguf'))
    refused = run(model, tmp_path, '--quantize', 'fast', '--quant-cache-size', '1MiB')
    assert refused.returncode == 1 and '1048576 (--quant-cache-size)' in refused.stderr
    assert not list(tmp_path.glob('*.gguf'))
