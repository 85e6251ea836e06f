"""The real OpenAI SDK as the client: what its users call must work, and its error classes must come out."""
import threading

import openai
import pytest
import support


@pytest.fixture(scope='module')
def client(smollm2):
    with openai.OpenAI(base_url=smollm2.url + '/v1', api_key='unused', max_retries=0) as value:
        yield value


MODEL = 'SmolLM2-135M-Instruct.Q4_1'
ASK = [{'role': 'user', 'content': 'Name a colour.'}]


def test_the_model_is_listed_and_found(client):
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == 'model'
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve('nothing')


def test_a_chat_answer_has_content_usage_and_a_reason(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ('stop', 'length')
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 12
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_a_stream_says_the_same_as_the_whole_answer(client):
    whole = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0)
    stream = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0, stream=True,
                                            stream_options={'include_usage': True})
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    text = ''.join(c.choices[0].delta.content or '' for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_the_same_seed_gives_the_same_answer_and_n_choices_differ(client):
    def sample(seed):
        answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=16, n=4, seed=seed, temperature=1.5)
        assert [c.index for c in answer.choices] == [0, 1, 2, 3]
        return [c.message.content for c in answer.choices]
    first = sample(7)
    assert sample(7) == first
    assert sample(8) != first
    assert len(set(first)) > 1


def test_logprobs_come_for_every_token(client):
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert 0 < len(content) <= 6
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)  # greedy takes the likeliest


def test_a_stop_string_ends_the_answer_before_it(client):
    text = client.completions.create(model=MODEL, prompt='1, 2, 3, 4,', max_tokens=20, temperature=0).choices[0].text
    word = text[3:6]
    cut = client.completions.create(model=MODEL, prompt='1, 2, 3, 4,', max_tokens=20, temperature=0, stop=[word])
    assert cut.choices[0].text == text[:text.index(word)]
    assert cut.choices[0].finish_reason == 'stop'


def test_several_prompts_and_token_prompts_are_answered_in_order(client):
    answer = client.completions.create(model=MODEL, prompt=['Paris is', 'Two plus two is'], max_tokens=4, temperature=0, n=2)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text != answer.choices[2].text
    assert client.completions.create(model=MODEL, prompt=[1, 2, 3], max_tokens=1).usage.prompt_tokens == 3


def test_a_logit_bias_forbids_and_forces(client):
    first = client.completions.create(model=MODEL, prompt='The sky is', max_tokens=1, temperature=0, logprobs=1)
    forced = client.completions.create(model=MODEL, prompt='The sky is', max_tokens=3, temperature=0, logit_bias={'42': 100})
    assert forced.choices[0].text != first.choices[0].text
    assert len(set(forced.choices[0].text[i::3] for i in range(3))) >= 1 and forced.usage.completion_tokens == 3


def test_bad_input_is_a_bad_request_that_names_the_field(client):
    for field, value in [('temperature', 1000), ('top_logprobs', 99), ('n', 0), ('n', 100000)]:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK, **{field: value})
        assert caught.value.param == field, caught.value
        assert caught.value.request_id and caught.value.body['request_id'] == caught.value.request_id


def test_what_cannot_be_honoured_is_refused_not_dropped(client):
    tool = {'type': 'function', 'function': {'name': 'f', 'parameters': {'type': 'object', 'properties': {}}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ASK, tools=[tool])
    assert caught.value.param == 'tools'
    image = [{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,AA=='}}]}]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=image)


def test_an_unknown_model_and_a_long_prompt_have_their_codes(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model='nothing', messages=ASK)
    assert caught.value.code == 'model_not_found'
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{'role': 'user', 'content': 'word ' * 5000}])
    assert caught.value.code == 'context_length_exceeded'
    assert '2048' in caught.value.message


def test_leaving_a_stream_early_frees_the_engine(client, smollm2):
    import support
    for _ in range(5):
        stream = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1500, stream=True, extra_body={'ignore_eos': True})
        next(iter(stream))
        stream.close()
    support.wait_until(lambda: smollm2.metric('hearth_requests_running') == 0, 'all requests cancelled')


def test_the_async_client_runs_many_at_once(smollm2):
    import asyncio

    async def ask(client, i):
        answer = await client.chat.completions.create(model=MODEL, messages=[{'role': 'user', 'content': f'Count to {i}.'}], max_tokens=8,
                                                      temperature=0)
        return answer.choices[0].message.content

    async def main():
        async with openai.AsyncOpenAI(base_url=smollm2.url + '/v1', api_key='unused') as client:
            return await asyncio.gather(*(ask(client, i) for i in range(24)))

    assert all(asyncio.run(main()))


def test_the_sdk_tries_again_when_told_to_and_only_then(smollm2_path):
    with support.Server('--max-seqs', '1', '--queue', '1', models=[smollm2_path]) as server:
        answered = lambda status: sum(value for name, value in server.metrics().items()
                                      if name.startswith('hearth_http_requests_total{') and f'"{status}"' in name)
        with openai.OpenAI(base_url=server.url + '/v1', api_key='unused', max_retries=5) as client:
            stream = server.open_stream('/v1/completions', {'prompt': 'a', 'max_tokens': 2000, 'ignore_eos': True})
            support.wait_until(lambda: server.metric('hearth_requests_running') == 1, 'the stream runs')
            free = threading.Thread(target=lambda: (support.wait_until(lambda: answered(429) >= 1, 'a refusal'), stream.close()))
            free.start()
            assert client.completions.create(model=MODEL, prompt='a', max_tokens=2).usage.completion_tokens == 2
            free.join()
            assert answered(429) >= 1, 'the first try was refused'
            with pytest.raises(openai.BadRequestError):
                client.completions.create(model=MODEL, prompt='a', n=1000)
            assert answered(400) == 1, 'what is wrong is not sent again'


def test_embeddings_come_in_order_as_numbers_and_as_base64(client):
    texts = ['The sky is blue.', 'Ein Satz auf Deutsch.', 'The sky is blue.']
    answer = client.embeddings.create(model=MODEL, input=texts)  # the SDK asks for base64
    numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format='float')
    assert [d.index for d in answer.data] == [0, 1, 2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    first, second, third = (d.embedding for d in answer.data)
    assert first == pytest.approx(third, abs=1e-5) and first != pytest.approx(second, abs=1e-2)
    assert first == pytest.approx(numbers.data[0].embedding, abs=1e-5)
    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-4)
    short = client.embeddings.create(model=MODEL, input=texts[0], dimensions=32)
    assert len(short.data[0].embedding) == 32
    assert sum(x * x for x in short.data[0].embedding) == pytest.approx(1, abs=1e-4)
    with pytest.raises(openai.BadRequestError) as failed:
        client.embeddings.create(model=MODEL, input=texts[0], dimensions=100_000)
    assert failed.value.param == 'dimensions'


def test_many_inputs_are_one_answer_beside_a_stream(client):
    stream = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=48, temperature=0, stream=True)
    chunks = iter(stream)
    next(chunks)
    answer = client.embeddings.create(model=MODEL, input=[f'sentence number {i}' for i in range(150)])
    assert [d.index for d in answer.data] == list(range(150))
    alone = client.embeddings.create(model=MODEL, input='sentence number 149')
    assert answer.data[149].embedding == pytest.approx(alone.data[0].embedding, abs=1e-3)
    assert list(chunks)[-1].choices[0].finish_reason in ('stop', 'length')
