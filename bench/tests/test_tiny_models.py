import pathlib
import struct
import tempfile
import unittest

from suite import tiny_models


class TinyModels(unittest.TestCase):
    def written(self, kind, seed=1):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / 'm.gguf'
            tiny_models.write(kind, path, seed)
            return path.read_bytes()

    def test_a_file_holds_all_its_tensors(self):
        for kind in tiny_models.KINDS:
            data = self.written(kind)
            magic, version, tensors, values = struct.unpack_from('<4sIQQ', data)
            self.assertEqual((magic, version), (b'GGUF', 3))
            self.assertGreater(tensors, 50)
            self.assertGreater(values, 15)
            floats = tiny_models.WIDTH * tiny_models.VOCABULARY * 2
            self.assertGreater(len(data), floats * 4)

    def test_a_seed_names_a_model(self):
        self.assertEqual(self.written('hybrid'), self.written('hybrid'))
        self.assertNotEqual(self.written('hybrid'), self.written('hybrid', 2))

    def test_a_chat_is_rendered_with_a_character_for_each_token(self):
        text = tiny_models.render([{'role': 'system', 'content': 'Be.'}, {'role': 'user', 'content': 'Hi?'}])
        self.assertEqual(text.count('\ue000'), 3)
        self.assertEqual(text.count('\ue001'), 2)
        self.assertTrue(text.endswith('assistant\n'))


if __name__ == '__main__':
    unittest.main()
