import json
import pathlib
import tempfile
import unittest

from suite import prompts, trace
from suite.process import MeasureError

PARAGRAPH = ' '.join(['word'] * 80)


def make_data(folder):
    """Made-up files in the form of the public ones."""
    (folder / 'eval' / 'bfcl').mkdir(parents=True)
    text = f' = Title = \n \n short line \n {PARAGRAPH} <unk> \n'
    text += ''.join(f' {PARAGRAPH} well @-@ known {i} , ( see ) . \n' for i in range(5))
    (folder / 'eval' / 'wikitext2_test.txt').write_text(text)
    parameters = {'properties': {name: {'type': 'integer'} for name in ('a', 'b', 'c')}}
    rows = [{'function': [{'name': f'm.f{i}', 'description': 'Adds.', 'parameters': parameters}]} for i in range(9)]
    rows.insert(0, {'function': [{'name': 'small', 'description': '', 'parameters': {'properties': {'a': {}}}}]})
    (folder / 'eval' / 'bfcl' / 'BFCL_v4_simple_python.json').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    (folder / 'eval' / 'gsm8k_test.jsonl').write_text(''.join(json.dumps({'question': f'sum {i}'}) + '\n' for i in range(8)))
    (folder / 'eval' / 'ifeval.jsonl').write_text(''.join(json.dumps({'prompt': f'do {i}'}) + '\n' for i in range(8)))


class Sets(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = pathlib.Path(folder.name)
        make_data(self.data)

    def test_words_depend_on_nothing_but_the_seed(self):
        self.assertEqual(prompts.words(50, 'a'), prompts.words(50, 'a'))
        self.assertNotEqual(prompts.words(50, 'a'), prompts.words(50, 'b'))
        self.assertEqual(len(prompts.words(50, 'a').split()), 50)
        self.assertTrue(prompts.words(60, 'a').startswith(prompts.words(50, 'a')))
        self.assertEqual(prompts.words(4, 1), 'group end friend man')  # a change here changes every figure

    def test_the_copy_set_is_a_third_each_of_text_json_and_code(self):
        made = prompts.copy_set(self.data)
        self.assertEqual(len(made), prompts.SET_SIZE)
        self.assertEqual(made, prompts.copy_set(self.data))
        texts, as_json, as_code = (made[i::3] for i in range(3))
        self.assertTrue(all('well-known' in p and '(see).' in p and '<unk>' not in p for p, _ in texts))
        self.assertTrue(all(json.loads(p.split('```json\n')[1].split('```')[0])['name'] == 'old_name' for p, _ in as_json))
        for prompt, _ in as_code:
            compile(prompt.split('```python\n')[1].split('```')[0], 'prompt', 'exec')
        self.assertIn('def f4(a, b, c):', as_code[0][0])

    def test_the_chat_set_asks_different_things(self):
        made = prompts.chat_set(self.data)
        self.assertEqual(len({p for p, _ in made}), prompts.SET_SIZE)

    def test_data_that_is_missing_or_too_small_is_an_error(self):
        (self.data / 'eval' / 'ifeval.jsonl').write_text('')
        with self.assertRaisesRegex(MeasureError, 'only 6 questions; 12 are needed'):
            prompts.chat_set(self.data)
        (self.data / 'eval' / 'wikitext2_test.txt').unlink()
        with self.assertRaisesRegex(MeasureError, 'wikitext2_test.txt is not there'):
            prompts.copy_set(self.data)


def row(tokens, blocks, at_ms=0):
    return {'timestamp': at_ms, 'input_length': tokens, 'output_length': 64, 'hash_ids': blocks}


class Traces(unittest.TestCase):
    def read(self, *rows):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / 'trace.jsonl'
            path.write_text(''.join((r if isinstance(r, str) else json.dumps(r)) + '\n' for r in rows))
            return trace.read(path)

    def test_rows_that_break_the_format_are_named(self):
        for bad, said in (('{', 'line 2'), (row(600, [1]), '1 hashes for 600 tokens'), ({'timestamp': 1}, 'input_length')):
            with self.assertRaisesRegex(MeasureError, said):
                self.read(row(512, [0]), bad)

    def test_conversations_stay_whole(self):
        rows = self.read(*(row(1024, [0, 10 + i % 40]) for i in range(400)))
        kept = trace.thin(rows, 4)
        self.assertTrue(0 < len(kept) < len(rows))
        self.assertEqual(len(kept), 10 * len({trace.conversation_of(r) for r in kept}))

    def test_an_unbounded_cache_computes_what_nobody_had_before(self):
        rows = self.read(row(1024, [0, 1]), row(1500, [0, 1, 2]), row(1024, [0, 3]), row(1024, [4, 1]), row(1024, [0, 1]))
        rows = trace.scale(rows, 32, 1900, 32)
        self.assertEqual([r.prompt_tokens for r in rows], [32, 47, 32, 32, 32])
        self.assertEqual(trace.computed_by_unbounded(rows, 32), [32, 15, 16, 32, 0])

    def test_a_cut_prompt_has_only_the_blocks_it_reaches(self):
        cut = trace.scale(self.read(row(2048, [0, 1, 2, 3])), 32, 40, 1)[0]
        self.assertEqual((cut.prompt_tokens, cut.output_tokens, cut.blocks), (40, 1, (0, 1, 2)))

    def test_equal_blocks_give_equal_text(self):
        first, second = trace.scale(self.read(row(1024, [0, 1]), row(1100, [0, 2, 3])), 32, 1900, 32)
        a, b = trace.text(first, 32, 1.0), trace.text(second, 32, 1.0)
        self.assertEqual(len(a.split()), 32)
        self.assertEqual(a.split()[:16], b.split()[:16])
        self.assertNotEqual(a.split()[16:32], b.split()[16:32])


if __name__ == '__main__':
    unittest.main()
