#!/usr/bin/env python3
"""Records sentence-transformers' vectors for tests/integration/test_embeddings.py.

usage: tools/record_embeddings.py FOLDER > tests/integration/embeddings_expected.json

FOLDER is all-MiniLM-L6-v2 as `./dev setup` fetches it. Needs the package sentence-transformers, on PyTorch's CPU
kernels, whose versions go into the file. The vectors are those of the whole pipeline: tokenizer, model, pooling and
normalising.
"""
import json
import sys

import sentence_transformers
import torch

DIGITS = 8  # significant ones of a float
TEXTS = [
    'A man is eating food.',
    'The quick brown fox jumps over the lazy dog.',
    'Why is the sky blue?',
    'bees',
    'How do I reset the password of my account, and who can tell me the old one?',
    'Die Katze sitzt auf der Matte.',
    'Les élèves mangent à la cantine — tous les jours!',
    '東京は日本の首都です。',
    'int main(void) { return 0; }  // C, not C++',
    'E = mc² and π ≈ 3.14159, says 1 of 1,000 people.',
    '  spaces   and\ttabs\nand lines  ',
    ' '.join(['A long text is cut off where the model ends, here it goes on about rain in the mountains.'] * 12),
]


def main():
    folder = sys.argv[1]
    model = sentence_transformers.SentenceTransformer(folder, device='cpu')
    vectors = model.encode(TEXTS, batch_size=1, normalize_embeddings=True)
    rows = [{'text': text, 'vector': [float(f'{value:.{DIGITS}g}') for value in vector.tolist()]}
            for text, vector in zip(TEXTS, vectors, strict=True)]
    made_by = {'sentence-transformers': sentence_transformers.__version__, 'torch': torch.__version__}
    print('{"made_by": ' + json.dumps(made_by) + ', "rows": [')
    print(',\n'.join(json.dumps(row, ensure_ascii=False) for row in rows))
    print(']}')


if __name__ == '__main__':
    main()
