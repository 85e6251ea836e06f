"""A model of the size and shape of Gemma 3 270M, with its 262,144 tokens and made-up weights, for what loading and fetching cost."""
import array
import itertools
import math
import random
import string
import struct

from .tiny_models import BOOL, CONTROL, F32, I32, NORMAL, STRING, U32, File

LAYERS, WIDTH, FEED_FORWARD, HEADS, HEAD_WIDTH, VOCABULARY = 18, 640, 2048, 4, 256, 262144
PARAMETERS = 268_098_176
GGML_F32, GGML_Q8_0 = 0, 8
Q8_BLOCK, PATTERN_BLOCKS = 32, 1 << 15
UNKNOWN, BYTE = 2, 6  # kinds of tokens
SPACE = '\u2581'
NAMED = ['<pad>', '<eos>', '<bos>', '<unk>', '<start_of_turn>', '<end_of_turn>']


def vocabulary():
    """(texts, kinds, scores): bytes, characters, and words of four letters."""
    letters = [SPACE, *(chr(c) for c in range(33, 127))]
    words = (prefix + ''.join(word) for word in itertools.product(string.ascii_lowercase, repeat=4) for prefix in ('', SPACE))
    texts = [*NAMED, *(f'<0x{b:02X}>' for b in range(256)), *letters]
    kinds = [UNKNOWN if text == '<unk>' else CONTROL for text in NAMED] + [BYTE] * 256 + [NORMAL] * (VOCABULARY - len(NAMED) - 256)
    texts += itertools.islice(words, VOCABULARY - len(texts))
    return texts, kinds, [0.0 if kind != NORMAL else -float(i) for i, kind in enumerate(kinds)]


def put_values(file):
    texts, kinds, scores = vocabulary()
    file.put('general.architecture', STRING, 'gemma3')
    file.put('general.name', STRING, 'made-up Gemma 3 270M')
    for key, value in (('context_length', 32768), ('embedding_length', WIDTH), ('block_count', LAYERS),
                       ('feed_forward_length', FEED_FORWARD), ('attention.head_count', HEADS), ('attention.head_count_kv', 1),
                       ('attention.key_length', HEAD_WIDTH), ('attention.value_length', HEAD_WIDTH), ('attention.sliding_window', 512)):
        file.put(f'gemma3.{key}', U32, value)
    file.put('gemma3.attention.layer_norm_rms_epsilon', F32, 1e-6)
    file.put('gemma3.rope.freq_base', F32, 1e6)
    file.put('tokenizer.ggml.model', STRING, 'llama')
    file.put('tokenizer.ggml.pre', STRING, 'default')
    file.put_array('tokenizer.ggml.tokens', STRING, texts)
    file.put_array('tokenizer.ggml.scores', F32, scores)
    file.put_array('tokenizer.ggml.token_type', I32, kinds)
    for name, token in (('bos', 2), ('eos', 1), ('unknown', 3), ('padding', 0)):
        file.put(f'tokenizer.ggml.{name}_token_id', U32, token)
    file.put('tokenizer.ggml.add_space_prefix', BOOL, False)


class Weights:
    """One random pattern over and over: bytes that no two neighbours share, made in no time."""

    def __init__(self, kind, seed=1):
        chance = random.Random(seed)
        self.kind = kind
        if kind == GGML_Q8_0:
            scale = struct.pack('<e', 0.0005)
            self.pattern = b''.join(scale + chance.randbytes(Q8_BLOCK) for _ in range(PATTERN_BLOCKS))
        else:
            self.pattern = array.array('f', (chance.uniform(-0.06, 0.06) for _ in range(PATTERN_BLOCKS * Q8_BLOCK))).tobytes()

    def parts(self, count):
        """Of `count` numbers."""
        size = count // Q8_BLOCK * (Q8_BLOCK + 2) if self.kind == GGML_Q8_0 else 4 * count
        whole, rest = divmod(size, len(self.pattern))
        return [self.pattern] * whole + [self.pattern[:rest]]


def write(path, kind):
    """Some 285 MB as GGML_Q8_0, 1.07 GB as GGML_F32."""
    file, weights = File(), Weights(kind)
    put_values(file)

    def matrix(name, shape):
        file.raw(f'{name}.weight', shape, kind, weights.parts(math.prod(shape)))

    def norm(name, size):
        file.tensor(f'{name}.weight', (size,), [1.0] * size)

    matrix('token_embd', (WIDTH, VOCABULARY))
    norm('output_norm', WIDTH)
    for layer in range(LAYERS):
        block = f'blk.{layer}'
        for name, shape in (('attn_q', (WIDTH, HEADS * HEAD_WIDTH)), ('attn_k', (WIDTH, HEAD_WIDTH)), ('attn_v', (WIDTH, HEAD_WIDTH)),
                            ('attn_output', (HEADS * HEAD_WIDTH, WIDTH)), ('ffn_gate', (WIDTH, FEED_FORWARD)),
                            ('ffn_up', (WIDTH, FEED_FORWARD)), ('ffn_down', (FEED_FORWARD, WIDTH))):
            matrix(f'{block}.{name}', shape)
        for name in ('attn_norm', 'post_attention_norm', 'ffn_norm', 'post_ffw_norm'):
            norm(f'{block}.{name}', WIDTH)
        for name in ('attn_q_norm', 'attn_k_norm'):
            norm(f'{block}.{name}', HEAD_WIDTH)
    file.write(path)
