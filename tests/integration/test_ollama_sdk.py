"""The real Ollama SDK as the client: what its users call must work, and its error class must come out."""
import asyncio
import hashlib
import math
import os
import re

import hf_folder
import httpx
import ollama
import pytest
import support
from model_source import ModelSource


@pytest.fixture(scope='module')
def client(smollm2):
    return ollama.Client(host=smollm2.url)


MODEL = 'smollm2-135m-instruct.q4_1'  # as Ollama's users spell it: any case, tag left out
ASK = [{'role': 'user', 'content': 'Name a colour.'}]
GREEDY = {'temperature': 0, 'num_predict': 16}


def refused(call):
    with pytest.raises(ollama.ResponseError) as caught:
        call()
    return caught.value


def test_a_chat_answer_has_content_counts_and_durations(client):
    answer = client.chat(MODEL, ASK, options=GREEDY)
    assert answer.message.role == 'assistant' and answer.message.content
    assert answer.done and answer.done_reason in ('stop', 'length')
    assert answer.model == MODEL
    assert re.fullmatch(r'20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z', answer.created_at)
    assert 0 < answer.eval_count <= 16 and answer.prompt_eval_count > 5
    assert 0 < answer.eval_duration <= answer.total_duration
    assert 0 < answer.prompt_eval_duration <= answer.total_duration


def test_a_stream_says_the_same_as_the_whole_answer(client):
    whole = client.chat(MODEL, ASK, options=GREEDY)
    chunks = list(client.chat(MODEL, ASK, options=GREEDY, stream=True))
    assert ''.join(chunk.message.content for chunk in chunks) == whole.message.content
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len(chunks) > 2 and chunks[-1].done_reason == whole.done_reason
    assert chunks[-1].eval_count == whole.eval_count


def test_generate_applies_the_template_and_raw_does_not(client):
    templated = client.generate(MODEL, 'Name a colour.', options=GREEDY)
    chat = client.chat(MODEL, ASK, options=GREEDY)
    assert templated.response == chat.message.content
    raw = client.generate(MODEL, 'The sky is', raw=True, options=GREEDY)
    assert raw.response and raw.prompt_eval_count < templated.prompt_eval_count
    streamed = ''.join(part.response for part in client.generate(MODEL, 'The sky is', raw=True, options=GREEDY, stream=True))
    assert streamed == raw.response


def test_a_known_template_takes_the_place_of_the_models_own(client):
    chatml = '{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant'
    own = client.generate(MODEL, 'Name a colour.', system='Be brief.', options=GREEDY)
    same = client.generate(MODEL, 'Name a colour.', system='Be brief.', template=chatml, options=GREEDY)
    assert (same.response, same.prompt_eval_count) == (own.response, own.prompt_eval_count)
    bare = client.generate(MODEL, 'The sky is', template='{{ .Prompt }}', options=GREEDY)
    assert bare.response == client.generate(MODEL, 'The sky is', raw=True, options=GREEDY).response
    with pytest.raises(ollama.ResponseError, match='none of the templates'):
        client.generate(MODEL, 'The sky is', template='{{ .Prompt }}?')


def test_a_system_prompt_is_read(client):
    plain = client.generate(MODEL, 'Name a colour.', options=GREEDY)
    told = client.generate(MODEL, 'Name a colour.', system='You speak of nothing but the sea.', options=GREEDY)
    assert told.prompt_eval_count != plain.prompt_eval_count


def test_a_context_goes_on_where_it_ended(client):
    first = client.generate(MODEL, 'My name is Ada. Say hello.', options=GREEDY)
    assert len(first.context) == first.prompt_eval_count + first.eval_count
    second = client.generate(MODEL, 'What is my name?', context=first.context, options={'temperature': 0, 'num_predict': 24})
    assert second.context[:len(first.context)] == first.context
    alone = client.generate(MODEL, 'What is my name?', options=GREEDY)
    assert second.prompt_eval_count == len(first.context) + alone.prompt_eval_count
    assert client.generate(MODEL, 'Hello', raw=True, options=GREEDY).context is None


def test_raw_prompts_may_name_special_tokens(client):
    by_hand = '<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n'
    raw = client.generate(MODEL, by_hand, raw=True, options=GREEDY)
    templated = client.generate(MODEL, 'Name a colour.', system='You are kind.', options=GREEDY)
    assert (raw.prompt_eval_count, raw.response) == (templated.prompt_eval_count, templated.response)


def test_options_do_what_they_say(client):
    def sample(seed):
        return client.generate(MODEL, 'Once', raw=True, options={'seed': seed, 'temperature': 1.5, 'num_predict': 12}).response
    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in range(4)}) > 1
    cut = client.generate(MODEL, 'Count: 1, 2, 3,', raw=True, options={'temperature': 0, 'num_predict': 3})
    assert cut.eval_count == 3 and cut.done_reason == 'length'
    text = client.generate(MODEL, '1, 2, 3, 4,', raw=True, options={'temperature': 0, 'num_predict': 20}).response
    stopped = client.generate(MODEL, '1, 2, 3, 4,', raw=True, options={'temperature': 0, 'num_predict': 20, 'stop': [text[3:6]]})
    assert stopped.response == text[:text.index(text[3:6])] and stopped.done_reason == 'stop'


def test_logprobs_come_for_every_token(client):
    answer = client.chat(MODEL, ASK, options={'temperature': 0, 'num_predict': 4}, logprobs=True, top_logprobs=2)
    assert 0 < len(answer.logprobs) <= 4
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in answer.logprobs)


def test_a_long_prompt_is_cut_unless_told_otherwise(client, smollm2):
    long = [{'role': 'user', 'content': 'word ' * 5000}]
    assert client.chat(MODEL, long, options={'num_predict': 2}).eval_count == 2
    status, _, body = smollm2.request('POST', '/api/chat', {'model': MODEL, 'messages': long, 'truncate': False})
    assert status == 400 and '2048' in body['error'], body


def test_the_model_is_listed_with_its_digest(client, smollm2_path):
    # The first list may come before the file was read to its end.
    entry = support.wait_until(lambda: next((m for m in client.list().models if set(m.digest) != {'0'}), None), 'the digest')
    assert entry.model == 'SmolLM2-135M-Instruct.Q4_1:latest'
    assert entry.size.real == smollm2_path.stat().st_size
    assert entry.digest == hashlib.sha256(smollm2_path.read_bytes()).hexdigest()
    assert entry.details.format == 'gguf' and entry.details.family == 'llama'
    assert entry.details.parameter_size == '134.52M' and entry.details.quantization_level == 'Q4_1'
    assert entry.modified_at.year >= 2024


def test_the_loaded_model_is_listed(client):
    entry, = client.ps().models
    assert entry.model == 'SmolLM2-135M-Instruct.Q4_1:latest'
    assert entry.context_length == 2048 and entry.size_vram.real == 0 and entry.expires_at.year > 2100


def test_show_tells_what_clients_look_for(client):
    shown = client.show(MODEL)
    assert shown.modelinfo['general.architecture'] == 'llama'
    assert shown.modelinfo['llama.context_length'] == 8192
    assert shown.modelinfo['general.parameter_count'] == 134515008
    assert 'completion' in shown.capabilities
    assert '<|im_start|>' in shown.template and shown.parameters.split() == ['num_ctx', '2048']
    assert 'FROM ./SmolLM2-135M-Instruct.Q4_1.gguf' in shown.modelfile


def test_nothing_to_answer_loads_the_model(client):
    assert client.generate(MODEL).done_reason == 'load'
    assert client.chat(MODEL, keep_alive='5m').done_reason == 'load'
    assert client.generate(MODEL, keep_alive=0).done_reason == 'unload'


def test_errors_have_status_and_text(client):
    missing = refused(lambda: client.chat('nothing', ASK))
    assert missing.status_code == 404 and missing.error == "model 'nothing' not found"
    assert refused(lambda: list(client.chat('nothing', ASK, stream=True))).status_code == 404
    assert refused(lambda: client.show('nothing')).status_code == 404
    assert 'temperature' in refused(lambda: client.chat(MODEL, ASK, options={'temperature': 1000})).error
    tool = {'type': 'function', 'function': {'name': 'f', 'description': 'f', 'parameters': {'type': 'object', 'properties': {}}}}
    assert refused(lambda: client.chat(MODEL, ASK, tools=[tool])).error == f'"{MODEL}" does not support tools'
    assert refused(lambda: client.chat(MODEL, ASK, think=True)).error == f'"{MODEL}" does not support thinking'
    assert refused(lambda: client.chat(MODEL, ASK, format='json')).status_code == 400


def test_a_larger_context_loads_nothing_again(client, smollm2):
    long = [{'role': 'user', 'content': 'Count. ' * 1200}]
    short = client.chat(MODEL, long, options={'num_predict': 1})
    workers = smollm2.workers()
    whole = client.chat(MODEL, long, options={'num_predict': 1, 'num_ctx': 8192})
    assert short.prompt_eval_count < 2048 < whole.prompt_eval_count
    assert smollm2.workers() == workers


def test_what_does_not_exist_says_so(client):
    assert refused(lambda: client.push('x')).status_code == 404
    for call in (lambda: client.copy('a', 'b'), lambda: client.delete('a'), lambda: client.create('a', from_='b')):
        assert refused(call).status_code == 404


def test_models_are_pulled_copied_and_deleted(client, stories_path):
    with ModelSource(layers=[('application/vnd.ollama.image.model', stories_path.read_bytes())]) as registry:
        name = f'{registry.authority}/ns/model:tiny'
        assert [step.status for step in client.pull(name, stream=True)][-1] == 'success'
        assert client.pull(name).status == 'success'
    assert name in [model.model for model in client.list().models]
    assert client.copy(name, 'mine').status == 'success'
    assert client.delete(name).status == 'success'
    left = [model.model for model in client.list().models]
    assert 'mine:latest' in left and name not in left
    assert client.generate('mine', 'Once', options={'num_predict': 2}).done
    assert client.delete('mine').status == 'success'
    assert refused(lambda: client.delete('mine')).status_code == 404
    assert refused(lambda: client.copy('none', 'x')).status_code == 404
    assert refused(lambda: client.delete(MODEL)).status_code == 403, 'given by --model'


@pytest.fixture(scope='module')
def minilm(tmp_path_factory):
    if not hf_folder.MINILM.exists():
        pytest.skip(f'no test model at {hf_folder.MINILM}: `./dev setup` fetches it')
    path = tmp_path_factory.mktemp('minilm') / 'minilm.gguf'
    converted = support.run_cli('convert', hf_folder.MINILM, '-o', path)
    assert converted.returncode == 0, converted.stderr
    with support.Server(models=[path]) as server:
        yield ollama.Client(host=server.url)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_texts_become_vectors_of_length_1(minilm):
    texts = ['A cat sits on the mat.', 'There is a kitten on the rug.', 'The bank raised its interest rates.']
    answer = minilm.embed('minilm', texts)
    cat, kitten, bank = answer.embeddings
    assert answer.model == 'minilm' and len(cat) == 384 and answer.prompt_eval_count > 20
    assert 0 <= answer.load_duration <= answer.total_duration
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-5 for vector in (cat, kitten, bank))
    assert cosine(cat, kitten) > 0.5 > 0.2 > cosine(cat, bank)
    assert minilm.embed('minilm', texts[1]).embeddings[0] == pytest.approx(kitten, abs=1e-4)
    assert cosine(minilm.embeddings('minilm', texts[0]).embedding, cat) > 0.9999
    shorter, = minilm.embed('minilm', texts[0], dimensions=8).embeddings
    assert len(shorter) == 8 and cosine(shorter, cat[:8]) > 0.9999
    assert minilm.embed('minilm', []).embeddings == []


def test_a_text_that_is_too_long_loses_its_end_unless_told_otherwise(minilm):
    assert minilm.embed('minilm', 'word ' * 2000).prompt_eval_count == 512
    error = refused(lambda: minilm.embed('minilm', 'word ' * 2000, truncate=False))
    assert (error.status_code, error.error) == (400, 'the input length exceeds the context length')


def test_hundreds_of_texts_are_one_call(minilm):
    texts = [f'Text number {i} speaks of {i * 7}.' for i in range(300)]
    vectors = minilm.embed('minilm', texts).embeddings
    assert len(vectors) == 300 and cosine(vectors[299], minilm.embed('minilm', texts[299]).embeddings[0]) > 0.9999


def test_leaving_a_stream_early_frees_the_engine(client, smollm2):
    for _ in range(5):
        stream = client.generate(MODEL, 'Once', raw=True, options={'num_predict': 1500}, stream=True)
        next(stream)
        stream.close()
    support.wait_until(lambda: smollm2.metric('hearth_requests_running') == 0, 'all requests cancelled')


def test_the_async_client_runs_many_at_once(smollm2):
    async def ask(client, i):
        parts = [part async for part in await client.chat(MODEL, [{'role': 'user', 'content': f'Count to {i}.'}], stream=True,
                                                          options={'num_predict': 8, 'temperature': 0})]
        return ''.join(part.message.content for part in parts)

    async def main():
        client = ollama.AsyncClient(host=smollm2.url)
        return await asyncio.gather(*(ask(client, i) for i in range(16)))

    assert all(asyncio.run(main()))


def test_serve_also_listens_where_ollama_would(stories_path, monkeypatch):
    monkeypatch.setenv('OLLAMA_HOST', '127.0.0.1:0')
    with support.Server('--ollama', models=[stories_path]) as server:
        lines = iter(server.process.stdout.readline, '')
        url = next(line for line in lines if line.startswith("Ollama's clients find it on ")).split()[-1]
        assert url != server.url
        with_ollama = ollama.Client(host=url)
        assert with_ollama.generate('stories260ktok512', 'Once', raw=True, options={'num_predict': 4}).eval_count == 4
        assert server.complete('Once', max_tokens=2)['usage']['completion_tokens'] == 2
        taken = support.run_cli('serve', '--model', stories_path, '--port', '0', '--ollama',
                                environment={**os.environ, 'OLLAMA_HOST': url})
        assert taken.returncode == 1 and '--ollama' in taken.stderr and 'OLLAMA_HOST says where' in taken.stderr, taken


def test_pages_and_apps_that_ollama_origins_names_may_call(stories_path, monkeypatch):
    monkeypatch.setenv('OLLAMA_HOST', '127.0.0.1:0')
    monkeypatch.setenv('OLLAMA_ORIGINS', 'https://app.example, http://lan:*')
    with support.Server('--ollama', models=[stories_path]) as server:
        lines = iter(server.process.stdout.readline, '')
        url = next(line for line in lines if line.startswith("Ollama's clients find it on ")).split()[-1]
        for origin, allowed in (('https://app.example', True), ('http://lan:3000', True), ('tauri://localhost', True),
                                ('https://evil.example', False)):
            answer = httpx.get(f'{url}/api/tags', headers={'Origin': origin})
            assert (answer.status_code == 200) == allowed, origin
            assert answer.headers.get('access-control-allow-origin') == (origin if allowed else None)
        assert httpx.get(f'{server.url}/api/tags', headers={'Origin': 'https://app.example'}).status_code == 403, 'there alone'


def test_serve_does_not_listen_to_everybody_unasked(stories_path):
    for host, message in (('0.0.0.0', 'OLLAMA_HOST 0.0.0.0 would let anybody'), ('127.0.0.1:x', 'OLLAMA_HOST must be')):
        run = support.run_cli('serve', '--model', stories_path, '--port', '0', '--ollama', environment={**os.environ, 'OLLAMA_HOST': host})
        assert run.returncode == 2 and message in run.stderr, run
