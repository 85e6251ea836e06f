"""`hearth create`: a model of another one and a Modelfile, and what it does to answers."""
import json
import os
import shutil

import ollama
import openai
import pytest
import support

MODELFILE = '''# a pirate
FROM base
SYSTEM """You are a pirate.
Arr."""
PARAMETER temperature 0
PARAMETER num_predict 5
PARAMETER num_ctx 1024
MESSAGE user Ahoy
MESSAGE assistant Arr!
LICENSE free
'''
ASK = [{'role': 'user', 'content': 'Who are you?'}]


@pytest.fixture(scope='module')
def folder(smollm2_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    (folder / 'base.gguf').symlink_to(smollm2_path)
    return folder


def create(folder, name, text, *arguments):
    environment = {**os.environ, 'HEARTH_MODELS_DIR': str(folder)}
    return support.run_cli('create', name, '-f', '-', *arguments, stdin=text, environment=environment)


@pytest.fixture(scope='module')
def server(folder, smollm2_path):
    # A link whose file lies elsewhere is no model of the folder, but may be given by its path.
    made = create(folder, 'pirate', MODELFILE.replace('FROM base', f'FROM {smollm2_path}'), '--json')
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)['model'] == 'pirate'
    with support.Server('--models-dir', str(folder), models=['pirate', smollm2_path]) as server:
        yield server


@pytest.fixture(scope='module')
def client(server):
    return ollama.Client(host=server.url)


def test_the_weights_are_shared(server, folder, smollm2_path):
    assert (folder / 'pirate.gguf').stat().st_size == smollm2_path.stat().st_size
    note = json.loads((folder / 'pirate.hearth.json').read_text())
    assert note['system'] == 'You are a pirate.\nArr.' and json.loads(note['params'])['num_ctx'] == 1024


def test_show_tells_what_was_said(client):
    shown = client.show('pirate')
    assert 'SYSTEM """You are a pirate.\nArr."""' in shown.modelfile and 'MESSAGE assistant Arr!' in shown.modelfile
    assert 'temperature' in shown.parameters and 'num_ctx' in shown.parameters and '1024' in shown.parameters
    assert shown.license == 'free' and shown.details.parent_model.lower().startswith('smollm2')


def test_a_created_model_is_what_the_request_would_have_to_say(client, smollm2_path):
    short = client.chat('pirate', ASK)
    said = [{'role': 'system', 'content': 'You are a pirate.\nArr.'}, {'role': 'user', 'content': 'Ahoy'},
            {'role': 'assistant', 'content': 'Arr!'}] + ASK
    by_hand = client.chat(smollm2_path.stem, said, options={'temperature': 0, 'num_predict': 5})
    assert short.eval_count == 5 and short.prompt_eval_count == by_hand.prompt_eval_count
    assert short.message.content == by_hand.message.content
    assert client.chat('pirate', ASK, options={'num_predict': 2}).eval_count == 2
    assert client.generate('pirate', 'Who are you?').prompt_eval_count == short.prompt_eval_count


def test_the_other_dialect_honours_it_too(server, client):
    answer = openai.OpenAI(base_url=server.url + '/v1', api_key='-').chat.completions.create(model='pirate', messages=ASK)
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].message.content == client.chat('pirate', ASK).message.content


def test_run_is_told_the_same(client, folder):
    environment = {**os.environ, 'HEARTH_MODELS_DIR': str(folder)}
    chat = client.chat('pirate', ASK)

    def run(*flags):
        done = support.run_cli('run', 'pirate', 'Who are you?', '--json', *flags, environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    said = run()
    assert said['answer'] == chat.message.content and said['completion_tokens'] == 5
    assert said['prompt_tokens'] == chat.prompt_eval_count
    first = said['answer'].split()[0]
    assert run('--stop', first)['answer'].strip() == '' and run('-n', '2')['completion_tokens'] == 2
    system = run('--system', 'Be a corsair.')
    assert system['prompt_tokens'] != said['prompt_tokens'], 'a system message of the flags goes before the model\'s own'


def test_show_tells_it_in_both_ways(server, folder):
    environment = {**os.environ, 'HEARTH_MODELS_DIR': str(folder)}
    for arguments in (['--models-dir', folder], ['--host', f'127.0.0.1:{server.port}']):
        shown = support.run_cli('show', 'pirate', *arguments, environment=environment)
        assert shown.returncode == 0 and 'You are a pirate. Arr.' in shown.stdout, shown
        assert '"num_predict":5' in shown.stdout and 'assistant: Arr!' in shown.stdout
        said = json.loads(support.run_cli('show', 'pirate', *arguments, '--json', environment=environment).stdout)
        assert said['system'] == 'You are a pirate.\nArr.' and said['options']['temperature'] == 0
        assert said['messages'] == [{'role': 'user', 'content': 'Ahoy'}, {'role': 'assistant', 'content': 'Arr!'}]
        text = support.run_cli('show', 'pirate', *arguments, '--modelfile', environment=environment).stdout
        assert text.startswith('FROM ') and 'SYSTEM """You are a pirate.\nArr."""' in text and 'PARAMETER num_predict 5' in text
    made = create(folder, 'again', text.replace(text.splitlines()[0], 'FROM pirate'))
    assert made.returncode == 0, made.stderr
    again = json.loads((folder / 'again.hearth.json').read_text())
    before = json.loads((folder / 'pirate.hearth.json').read_text())
    assert [again[key] for key in ('system', 'params', 'messages')] == [before[key] for key in ('system', 'params', 'messages')]
    for name in ('again.gguf', 'again.hearth.json'):
        (folder / name).unlink()


def test_a_context_of_its_own_is_what_it_is_loaded_with(client):
    assert {model.model: model.context_length for model in client.ps().models}['pirate:latest'] == 1024


@pytest.mark.parametrize(('text', 'message'), [
    ('SYSTEM x', 'no FROM line'), ('FROM nobody', 'nobody'), ('FROM base\nPARAMETER warmth 1', "unknown parameter 'warmth'"),
    ('FROM base\nADAPTER a.gguf', 'a.gguf: cannot open it'), ('FRON base', 'line 1: command must be one of')])
def test_what_cannot_be_made_is_an_error(folder, text, message):
    before = sorted(folder.iterdir())
    made = create(folder, 'x', text)
    assert made.returncode != 0 and message in made.stderr, made
    assert sorted(folder.iterdir()) == before


def test_a_client_creates_a_model_and_changes_it(client, folder):
    lines = [part.status for part in client.create('corsair', from_='pirate', system='Be a corsair.', stream=True,
                                                    parameters={'num_predict': 3, 'stop': ['zzz', 'yyy']}, license=['one', 'two'])]
    assert lines == ['writing manifest', 'success']
    shown = client.show('corsair')
    assert 'SYSTEM Be a corsair.' in shown.modelfile and 'PARAMETER stop yyy' in shown.modelfile and shown.license == 'one\ntwo'
    assert 'MESSAGE user Ahoy' in shown.modelfile and shown.details.parent_model == 'pirate'
    before = client.chat('corsair', ASK)
    assert before.eval_count == 3
    assert client.create('corsair', from_='pirate', system='Be brief, and say nothing of the sea.', parameters={'num_predict': 4},
                         template='{{ .Prompt }}!').status == 'success'
    after = client.chat('corsair:latest', ASK)
    assert after.eval_count == 4 and after.prompt_eval_count > before.prompt_eval_count
    assert client.show('corsair').template == '{{ .Prompt }}!'
    client.copy('corsair', 'privateer')
    assert 'SYSTEM Be brief, and say nothing of the sea.' in client.show('privateer').modelfile
    client.delete('privateer')
    client.delete('corsair')
    assert not (folder / 'corsair.gguf').exists() and not (folder / 'corsair.hearth.json').exists()


def test_models_of_one_base_share_its_worker_and_never_load_it_again(stories_path, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    for name in ('base', 'another'):
        shutil.copy(stories_path, folder / f'{name}.gguf')
    with support.Server('--models-dir', str(folder), models=[]) as server:
        client = ollama.Client(host=server.url)

        def lengths(*names, **options):
            return [client.generate(name, 'Once upon a time', options={'seed': 1, **options}).eval_count for name in names]
        assert lengths('base', num_predict=4) == [4]
        worker, = server.workers()
        client.create('brief', from_='base', parameters={'num_predict': 2, 'num_ctx': 64})
        client.create('briefer', from_='brief', parameters={'num_predict': 1})
        assert lengths('brief', 'briefer', 'brief') == [2, 1, 2]
        assert lengths('base', 'brief', num_predict=3, num_ctx=32) == [3, 3]
        assert lengths('base', 'briefer', num_predict=3, num_ctx=128, num_batch=16) == [3, 3]
        assert server.workers() == [worker], 'neither another name nor other options load the weights again'

        # What is swapped under one of the names leaves the others where they are.
        status, _, body = server.request('POST', '/api/v1/models/brief/swap', {'model': 'another'})
        assert status == 200, body
        assert worker in server.workers() and len(server.workers()) == 2
        assert lengths('briefer', 'base', 'briefer', num_predict=2) == [2, 2, 2] and lengths('brief', num_predict=3) == [3]
        client.delete('briefer')
        assert lengths('base', num_predict=2) == [2] and worker in server.workers()


def test_what_a_client_cannot_create_is_an_error(client, server):
    def refused(**fields):
        status, _, body = server.request('POST', '/api/create', {'model': 'x', **fields})
        return status, body['error']
    assert refused() == (400, "neither 'from' or 'files' was specified")
    assert refused(**{'from': 'nobody'}) == (404, "model 'nobody' not found")
    assert refused(**{'from': '/etc/passwd'})[0] == 404
    assert refused(**{'from': 'pirate', 'parameters': {'warmth': 1}}) == (400, "Unknown parameter 'warmth'.")
    assert refused(**{'from': 'pirate', 'parameters': {'top_k': 'x'}})[0] == 400
    assert refused(**{'from': 'pirate', 'messages': [{'role': 'oracle', 'content': 'x'}]})[0] == 400
    for field in ('files', 'adapters', 'quantize'):
        status, error = refused(**{'from': 'pirate', field: 'q4_0' if field == 'quantize' else {'a.gguf': 'sha256:0'}})
        assert status == 400 and field[:6] in error
    status, _, body = server.request('POST', '/api/create', {'model': '../x', 'from': 'pirate'})
    assert status == 400, body
