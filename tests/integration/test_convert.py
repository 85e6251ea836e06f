"""hearth convert: the bytes of upstream's converter, models that load, and nothing half written."""
import json
import os
import signal
import subprocess

import hf_folder
import pytest
import support

EXPECTED = json.loads((support.SOURCE / 'tests/integration/conversion_expected.json').read_text())
TOKENISE = os.environ.get('HEARTH_TOKENISE', str(support.SOURCE / 'build/dev/bin/tokenise'))
CASES = [(name, kind) for name, kinds in hf_folder.CASES.items() for kind in kinds]


@pytest.fixture(scope='module')
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp('folders')


def folder_of(name, scratch):
    if name.startswith('SmolLM2') and not support.SMOLLM2.exists():
        pytest.skip(f'no test model at {support.SMOLLM2}: `./dev setup` fetches it')
    if name == 'all-MiniLM-L6-v2' and not hf_folder.MINILM.exists():
        pytest.skip(f'no test model at {hf_folder.MINILM}: `./dev setup` fetches it')
    return hf_folder.make(name, scratch)


def convert(folder, output, *arguments):
    return support.run_cli('convert', folder, '-o', output, *arguments)


@pytest.mark.parametrize(('name', 'kind'), CASES)
def test_the_bytes_are_upstreams(name, kind, scratch, tmp_path):
    output = tmp_path / 'out.gguf'
    result = convert(folder_of(name, scratch), output, '--type', kind, '--json')
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report['type'] == kind and report['file_bytes'] == output.stat().st_size
    assert hf_folder.digest(output, name not in hf_folder.WITHOUT_SCORES) == EXPECTED[f'{name} {kind}']


@pytest.mark.parametrize('name', hf_folder.TOKENIZED)
def test_texts_become_the_tokens_of_the_reference(name, scratch, tmp_path):
    """SentencePiece's own, or huggingface/tokenizers' where there is no tokenizer.model."""
    output = tmp_path / 'out.gguf'
    assert convert(folder_of(name, scratch), output).returncode == 0
    texts = hf_folder.corpus()
    done = subprocess.run([TOKENISE, output], input='\0'.join([*texts, '']).encode(), capture_output=True, timeout=support.PATIENCE_S)
    assert done.returncode == 0, done.stderr
    rows = [[int(token) for token in line.split()] for line in done.stdout.decode().splitlines()]
    assert len(rows) == len(texts) > 1000
    assert hf_folder.ids_digest(rows) == EXPECTED[f'{name} tokens']


def test_what_comes_out_is_valid(scratch, tmp_path):
    for name in hf_folder.CASES:
        output = tmp_path / f'{name}.gguf'
        assert convert(folder_of(name, scratch), output).returncode == 0
        checked = support.run_cli('check', output, '--json')
        assert checked.returncode == 0, checked.stdout
        output.unlink()


def test_smollm2_says_what_its_weights_say(scratch, tmp_path):
    output = tmp_path / 'smollm2.gguf'
    assert convert(folder_of('SmolLM2-135M-Instruct', scratch), output, '--type', 'f16').returncode == 0
    result = support.run_cli('run', output, 'What is the capital of France?', '--temperature', '0', '-n', '12')
    assert result.returncode == 0 and 'Paris' in result.stdout, (result.stdout, result.stderr)


@pytest.mark.skipif(support.PATIENCE_S > 120, reason='a sanitizer reserves address space without bound')
def test_memory_does_not_grow_with_the_model(scratch, tmp_path):
    folder = folder_of('SmolLM2-135M-Instruct', scratch)
    assert (folder / 'model.safetensors').stat().st_size > 250 << 20
    script = f'ulimit -v {200 << 10}; exec "$0" convert "$1" -o "$2"'  # KiB of address space, the program's own included
    result = subprocess.run(['bash', '-c', script, support.BINARY, str(folder), str(tmp_path / 'out.gguf')], capture_output=True,
                            text=True, timeout=support.PATIENCE_S)
    assert result.returncode == 0, result.stderr


def test_ctrl_c_leaves_nothing_behind(scratch, tmp_path):
    target = tmp_path / 'target'
    target.mkdir()
    process = subprocess.Popen([support.BINARY, 'convert', str(folder_of('SmolLM2-135M-Instruct', scratch)), '-o',
                                str(target / 'out.gguf'), '--type', 'f32'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    support.wait_until(lambda: list(target.iterdir()) or process.poll() is not None, 'the output file')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=support.PATIENCE_S)
    assert process.returncode == 130 and 'nothing was written' in errors
    assert list(target.iterdir()) == []


def test_a_killed_conversion_leaves_a_file_that_the_next_one_removes(scratch, tmp_path):
    target = tmp_path / 'target'
    target.mkdir()
    folder = folder_of('SmolLM2-135M-Instruct', scratch)
    process = subprocess.Popen([support.BINARY, 'convert', str(folder), '-o', str(target / 'out.gguf'), '--type', 'f32'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    support.wait_until(lambda: list(target.iterdir()) and support.children(process.pid), 'the maker and its output file')
    makers = support.children(process.pid)
    process.kill()
    process.wait()
    support.wait_until(lambda: not any(support.alive(pid) for pid in makers), 'the maker to die with who started it')
    assert not (target / 'out.gguf').exists() and len(list(target.iterdir())) == 1
    assert convert(folder, target / 'out.gguf', '--type', 'f16').returncode == 0
    assert [path.name for path in target.iterdir()] == ['out.gguf']


def test_an_existing_file_is_replaced_only_when_asked(scratch, tmp_path):
    folder, output = folder_of('Tiny-qwen3-1M', scratch), tmp_path / 'out.gguf'
    output.write_text('mine')
    refused = convert(folder, output)
    assert refused.returncode == 2 and 'exists already' in refused.stderr and output.read_text() == 'mine'
    assert convert(folder, output, '--force').returncode == 0
    assert output.stat().st_size > 1 << 20


def test_what_is_refused_says_why_and_writes_nothing(tmp_path):
    missing = convert(tmp_path / 'nowhere', tmp_path / 'out.gguf')
    assert missing.returncode == 3 and 'config.json' in missing.stderr
    (tmp_path / 'config.json').write_text('{"architectures": ["MambaForCausalLM"]}')
    unknown = convert(tmp_path, tmp_path / 'out.gguf')
    assert unknown.returncode == 1 and 'MambaForCausalLM' in unknown.stderr
    assert convert(tmp_path, tmp_path / 'out.gguf', '--type', 'q8').returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


@pytest.mark.parametrize('method', ['gptq', 'awq'])
@pytest.mark.parametrize('family', ['llama3', 'qwen3', 'mixtral'])
def test_packed_weights_are_those_of_the_folder(method, family, scratch, tmp_path):
    """Against a conversion of the dequantised weights, in F32: only the blocks' minimum may be rounded, to F16."""
    import gguf
    import numpy as np
    hf_folder.packed(folder_of(f'Tiny-{family}-1M', scratch), method, tmp_path / 'packed', tmp_path / 'plain')
    result = convert(tmp_path / 'packed', tmp_path / 'packed.gguf', '--json')
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)['type'] == 'q4_1'
    assert convert(tmp_path / 'plain', tmp_path / 'plain.gguf', '--type', 'f32').returncode == 0
    plain = {t.name: t for t in gguf.GGUFReader(tmp_path / 'plain.gguf').tensors}
    blocks = 0
    for tensor in gguf.GGUFReader(tmp_path / 'packed.gguf').tensors:
        if tensor.tensor_type != gguf.GGMLQuantizationType.Q4_1:
            continue
        blocks += 1
        ours = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(ours - plain[tensor.name].data).max() <= 0.01 * 15 * 2 ** -11, tensor.name
    assert blocks == 14  # seven matrices in each of two layers, those of experts as one
    checked = support.run_cli('check', tmp_path / 'packed.gguf')
    assert checked.returncode == 0, checked.stdout


def test_columns_in_another_order_are_refused(scratch, tmp_path):
    hf_folder.packed(folder_of('Tiny-qwen3-1M', scratch), 'gptq', tmp_path / 'packed', tmp_path / 'plain')
    file = tmp_path / 'packed/model.safetensors'
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:start])
    data[start + header['model.layers.1.mlp.down_proj.g_idx']['data_offsets'][0]] = 1
    file.write_bytes(data)
    result = convert(tmp_path / 'packed', tmp_path / 'out.gguf')
    assert result.returncode == 1 and 'desc_act' in result.stderr and not (tmp_path / 'out.gguf').exists()
