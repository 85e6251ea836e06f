"""A second model that guesses ahead: the same answers, and clear words where it cannot."""
import pytest
import support

PROMPTS = ['Once upon a time', 'The little dog', 'One day, Lily and her friend']


def answers(server):
    return [server.complete(prompt, max_tokens=60, temperature=temperature, seed=7)['choices'][0]['text']
            for prompt in PROMPTS for temperature in (0, 1)]


def test_answers_are_the_same_with_a_draft_model(stories_path):
    with support.Server('--no-speculation', models=[stories_path]) as server:
        plain = answers(server)
    with support.Server('--draft', str(stories_path), models=[stories_path]) as server:
        assert answers(server) == plain
        status, _, view = server.request('GET', '/api/v1/engine')
        assert status == 200
        speculation = view['models'][0]['engine']['speculation']
        assert speculation['draft_model']['memory_bytes'] > 0
        assert speculation['draft_model']['name'].startswith('llama')
        assert speculation['model']['accepted'] <= speculation['model']['drafted']
        drafted = speculation['model']['drafted']
        support.wait_until(lambda: server.metric('hearth_draft_model_drafted_tokens_total') == drafted, 'the metric of drafted tokens')


def test_answers_of_a_chat_model_are_the_same_with_itself_as_draft(smollm2_path):
    texts = []
    for flags in (('--no-speculation',), ('--draft', str(smollm2_path), '--draft-max', '4')):
        with support.Server('--ctx', '2048', *flags, models=[smollm2_path]) as server:
            texts.append(server.chat('Name three rivers and say where they flow.', max_tokens=80,
                                     temperature=0)['choices'][0]['message']['content'])
    assert texts[0] == texts[1]


def test_models_with_other_words_do_not_go_together(stories_path, smollm2_path):
    result = support.run_cli('serve', '--model', smollm2_path, '--draft', stories_path, '--port', '0')
    assert result.returncode == 1
    for part in (str(smollm2_path), str(stories_path), 'cannot guess ahead', 'vocabularies differ', '49152', '512'):
        assert part in result.stderr, result.stderr
    result = support.run_cli('run', '--draft', stories_path, smollm2_path, 'Hello')
    assert result.returncode != 0
    assert 'cannot guess ahead' in result.stderr


@pytest.mark.parametrize('flags, says, exit_status', [
    (('--draft', '{m}', '--no-speculation'), '--no-speculation says that none are guessed', 2),
    (('--draft', '{m}', '--model', 'b={m}'), 'which of the 2 models', 2),
    (('--draft', 'c={m}'), "no model 'c' is served", 2),
    (('--draft', '{m}', '--draft', 'a={m}'), 'it can have one', 2),
    (('--draft', 'there-is-no-such-model'), 'there-is-no-such-model', None),
])
def test_a_draft_that_cannot_be_is_named(stories_path, flags, says, exit_status):
    flags = [flag.format(m=stories_path) for flag in flags]
    result = support.run_cli('serve', '--model', f'a={stories_path}', '--port', '0', *flags)
    assert says in result.stderr
    assert result.returncode != 0 and exit_status in (None, result.returncode)
