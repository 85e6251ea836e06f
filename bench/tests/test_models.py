import base64
import http.client
import pathlib
import struct
import sys
import tempfile
import types
import unittest
from unittest import mock

from suite import gemma_model
from suite.figures import HEARTH, SERVER
from suite.file_server import FileServer, range_of
from suite.process import MeasureError
from suite.scenes import embed, pull, swap


def suite_of(**parts):
    """As much of a suite as the ends of scenes look at."""
    suite = types.SimpleNamespace(taken={}, results={'plots': {}}, folder=pathlib.Path('/nonexistent'), samples={}, **parts)
    suite.add = lambda name, subject, value: suite.samples.setdefault(name, {}).setdefault(subject, []).append(value)
    return suite


class Files(unittest.TestCase):
    def test_ranges_are_those_of_the_file(self):
        self.assertEqual(range_of(None, 10), (0, 10))
        self.assertEqual(range_of('bytes=2-5', 10), (2, 6))
        self.assertEqual(range_of('bytes=2-', 10), (2, 10))
        self.assertEqual(range_of('bytes=2-99', 10), (2, 10))
        for header in ('bytes=10-', 'bytes=5-4', 'bytes=-3', 'lines=1-2', 'bytes=a-b'):
            self.assertIsNone(range_of(header, 10), header)

    def test_a_file_comes_whole_and_in_ranges(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / 'file.bin'
            path.write_bytes(bytes(range(200)))
            with FileServer(path) as server:
                connection = http.client.HTTPConnection('127.0.0.1', server.server_address[1], timeout=10)

                def get(target, **headers):
                    connection.request('GET', target, headers=headers)
                    answer = connection.getresponse()
                    return answer.status, answer.getheader('Content-Range'), answer.read()
                self.assertEqual(get('/file.bin'), (200, None, bytes(range(200))))
                self.assertEqual(get('/file.bin', Range='bytes=3-5'), (206, 'bytes 3-5/200', b'\3\4\5'))
                self.assertEqual(get('/file.bin', Range='bytes=200-')[0], 416)
                self.assertEqual(get('/other')[0], 404)
                connection.close()

    def test_programs_that_fail_are_no_measurement(self):
        seconds, cpu = pull.timed([sys.executable, '-c', 'sum(range(1000))'])
        self.assertGreater(seconds, 0)
        self.assertGreater(cpu, 0)
        with self.assertRaisesRegex(MeasureError, 'ended with 3: why'):
            pull.timed([sys.executable, '-c', 'import sys; sys.stderr.write("why"); sys.exit(3)'])


class MadeUpModel(unittest.TestCase):
    def test_the_vocabulary_has_gemmas_size_and_no_token_twice(self):
        texts, kinds, scores = gemma_model.vocabulary()
        self.assertEqual({len(texts), len(kinds), len(scores), len(set(texts))}, {gemma_model.VOCABULARY})
        self.assertEqual(kinds.count(gemma_model.BYTE), 256)
        self.assertEqual(texts[3], '<unk>')
        self.assertEqual(kinds[3], gemma_model.UNKNOWN)

    def test_a_file_has_the_bytes_its_shapes_ask_for(self):
        small = {'LAYERS': 1, 'WIDTH': 32, 'FEED_FORWARD': 64, 'HEADS': 2, 'HEAD_WIDTH': 32, 'VOCABULARY': 512, 'PATTERN_BLOCKS': 16}
        numbers = 32 * 512 + 3 * 32 * 64 + 2 * 32 * 64 + 2 * 32 * 32
        norms = 5 * 32 + 2 * 32
        with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(gemma_model, **small):
            path, sizes = pathlib.Path(folder) / 'm.gguf', {}
            for kind in (gemma_model.GGML_Q8_0, gemma_model.GGML_F32):
                gemma_model.write(path, kind)
                data = path.read_bytes()
                self.assertEqual(struct.unpack_from('<4sIQ', data), (b'GGUF', 3, 15))
                sizes[kind] = len(data)
        self.assertEqual(sizes[gemma_model.GGML_F32] - sizes[gemma_model.GGML_Q8_0], 4 * numbers - numbers // 32 * 34)
        self.assertGreater(sizes[gemma_model.GGML_Q8_0], numbers // 32 * 34 + 4 * norms)


class Judging(unittest.TestCase):
    def test_texts_after_swaps_are_compared_with_the_peers_first(self):
        suite = suite_of(wanted=['swap_equal'])
        suite.results['plots']['swap'] = {HEARTH: [{'texts': ['a', 'b']}], SERVER: [{'texts': ['a', 'a']}]}
        swap.finish(suite)
        self.assertEqual(suite.samples, {'swap_equal': {HEARTH: [75.0]}})
        alone = suite_of(wanted=['swap_equal'])
        alone.results['plots']['swap'] = {HEARTH: [{'texts': ['a']}]}
        swap.finish(alone)
        self.assertEqual(alone.samples, {})

    def test_the_smallest_cosine_counts(self):
        def coded(*numbers):
            return base64.b64encode(struct.pack(f'<{len(numbers)}f', *numbers)).decode()
        suite = suite_of(wanted=['embed_equal', 'embed_rounded'])
        suite.taken = {('embed vectors', 'f16', HEARTH): [coded(1, 0), coded(3, 4)],
                       ('embed vectors', 'f16', SERVER): [coded(2, 0), coded(4, 3)],
                       ('embed vectors', 'q8_0', HEARTH): [coded(1, 0), coded(4, -3)]}
        embed.finish(suite)
        self.assertAlmostEqual(suite.samples['embed_equal'][HEARTH][0], 0.96)
        self.assertAlmostEqual(suite.samples['embed_rounded'][HEARTH][0], 0.0)

    def test_texts_are_the_same_in_every_run(self):
        texts = embed.make_texts(3)
        self.assertEqual(texts, embed.make_texts(1000)[:3])
        self.assertTrue(all(5 <= len(text.split()) <= 20 for text in texts))


if __name__ == '__main__':
    unittest.main()
