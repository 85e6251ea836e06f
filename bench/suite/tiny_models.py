"""Small models with random weights in the shapes of LFM2 and Gemma 3: what they say is noise, how they remember is real.

Every printable character is one token and no two characters ever merge, so that the tokens of a chat can be counted here, without
asking a server; the frame of a message is ChatML's.
"""
import array
import pathlib
import random
import struct

HYBRID, WINDOW = 'hybrid', 'window'
KINDS = {HYBRID: 'lfm2', WINDOW: 'gemma3'}
CONTEXT, WIDTH, HEADS, FEED_FORWARD = 4096, 64, 2, 160
LAYERS = {HYBRID: 6, WINDOW: 6}
ATTENTION_LAYERS = (2, 5)  # of the hybrid one; the others are short convolutions
SLIDING_WINDOW, WINDOW_PATTERN = 512, 6  # Gemma 3's: five of six layers look back at so many tokens
KERNEL = 3  # of the convolutions
ALIGNMENT = 32
VOCABULARY = 128

START, END, STOP = '<|im_start|>', '<|im_end|>', '<|endoftext|>'
PRINTABLE = [chr(c) for c in range(33, 127)]
TEMPLATE = ("{% for message in messages %}{{ '" + START + "' + message['role'] + '\\n' + message['content'] + '" + END + "' + '\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '" + START + "assistant\\n' }}{% endif %}")

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
FORMATS = {U32: 'I', I32: 'i', F32: 'f'}
NORMAL, CONTROL, UNUSED = 1, 3, 5  # kinds of tokens


def render(messages):
    """The prompt as the servers see it, one character for each token."""
    start, end = '\ue000', '\ue001'
    return ''.join(f'{start}{m["role"]}\n{m["content"]}{end}\n' for m in messages) + f'{start}assistant\n'


class File:
    """A GGUF file: values and tensors, written in order."""

    def __init__(self):
        self.values, self.tensors = [], []

    @staticmethod
    def string(text):
        data = text.encode()
        return struct.pack('<Q', len(data)) + data

    def put(self, key, kind, value):
        packed = {U32: lambda: struct.pack('<I', value), F32: lambda: struct.pack('<f', value),
                  BOOL: lambda: struct.pack('<?', value), STRING: lambda: self.string(value)}[kind]()
        self.values.append(self.string(key) + struct.pack('<I', kind) + packed)

    def put_array(self, key, kind, values):
        packed = b''.join(map(self.string, values)) if kind == STRING else struct.pack(f'<{len(values)}{FORMATS[kind]}', *values)
        self.values.append(self.string(key) + struct.pack('<IIQ', ARRAY, kind, len(values)) + packed)

    def tensor(self, name, shape, data):
        """`shape` begins with the length of a row; `data` are floats, row by row."""
        self.raw(name, shape, 0, [array.array('f', data).tobytes()])

    def raw(self, name, shape, kind, parts):
        """Of ggml's type `kind`; its bytes are those of `parts`, one behind the other."""
        self.tensors.append((name, shape, kind, parts))

    def write(self, path):
        head = b'GGUF' + struct.pack('<IQQ', 3, len(self.tensors), len(self.values)) + b''.join(self.values)
        offset = 0
        for name, shape, kind, parts in self.tensors:
            head += self.string(name) + struct.pack(f'<I{len(shape)}QIQ', len(shape), *shape, kind, offset)
            size = sum(map(len, parts))
            offset += size + -size % ALIGNMENT
        with pathlib.Path(path).open('wb') as out:
            out.write(head + bytes(-len(head) % ALIGNMENT))
            for _, _, _, parts in self.tensors:
                for part in parts:
                    out.write(part)
                out.write(bytes(-sum(map(len, parts)) % ALIGNMENT))


def put_vocabulary(file):
    texts = [STOP, START, END, 'Ċ', 'Ġ', *PRINTABLE]
    kinds = [CONTROL] * 3 + [NORMAL] * (len(texts) - 3) + [UNUSED] * (VOCABULARY - len(texts))
    texts += [f'<unused{i}>' for i in range(VOCABULARY - len(texts))]
    file.put('tokenizer.ggml.model', STRING, 'gpt2')
    file.put('tokenizer.ggml.pre', STRING, 'gpt-2')
    file.put_array('tokenizer.ggml.tokens', STRING, texts)
    file.put_array('tokenizer.ggml.token_type', I32, kinds)
    file.put_array('tokenizer.ggml.merges', STRING, ['Ġ Ġ'])  # one is needed; two spaces never meet here
    for name, token in (('bos', 0), ('eos', 2), ('padding', 0)):
        file.put(f'tokenizer.ggml.{name}_token_id', U32, token)
    file.put('tokenizer.ggml.add_bos_token', BOOL, False)
    file.put('tokenizer.chat_template', STRING, TEMPLATE)


def put_shape(file, kind):
    name = KINDS[kind]
    heads_kv = [HEADS if layer in ATTENTION_LAYERS else 0 for layer in range(LAYERS[kind])]
    file.put('general.architecture', STRING, name)
    file.put('general.name', STRING, f'tiny {name}')
    for key, value in (('context_length', CONTEXT), ('embedding_length', WIDTH), ('block_count', LAYERS[kind]),
                       ('feed_forward_length', FEED_FORWARD), ('vocab_size', VOCABULARY), ('attention.head_count', HEADS)):
        file.put(f'{name}.{key}', U32, value)
    file.put(f'{name}.attention.layer_norm_rms_epsilon', F32, 1e-5)
    if kind == HYBRID:
        file.put_array(f'{name}.attention.head_count_kv', U32, heads_kv)
        file.put(f'{name}.shortconv.l_cache', U32, KERNEL)
        return
    for key, value in (('head_count_kv', HEADS), ('sliding_window', SLIDING_WINDOW), ('sliding_window_pattern', WINDOW_PATTERN),
                       ('key_length', WIDTH // HEADS), ('value_length', WIDTH // HEADS)):
        file.put(f'{name}.attention.{key}', U32, value)


def put_layer(file, kind, layer, noise, ones):
    def one(name, shape):
        file.tensor(f'blk.{layer}.{name}.weight', shape, noise(shape))

    def norm(name, size):
        file.tensor(f'blk.{layer}.{name}.weight', (size,), ones(size))

    norm('attn_norm', WIDTH)
    if kind == HYBRID and layer not in ATTENTION_LAYERS:
        one('shortconv.conv', (KERNEL, WIDTH))
        one('shortconv.in_proj', (WIDTH, 3 * WIDTH))
        one('shortconv.out_proj', (WIDTH, WIDTH))
    else:
        for name in ('attn_q', 'attn_k', 'attn_v', 'attn_output'):
            one(name, (WIDTH, WIDTH))
        for name in ('attn_q_norm', 'attn_k_norm'):
            norm(name, WIDTH // HEADS)
    if kind == WINDOW:
        norm('post_attention_norm', WIDTH)
        norm('post_ffw_norm', WIDTH)
    norm('ffn_norm', WIDTH)
    one('ffn_gate', (WIDTH, FEED_FORWARD))
    one('ffn_up', (WIDTH, FEED_FORWARD))
    one('ffn_down', (FEED_FORWARD, WIDTH))


def write(kind, path, seed=1):
    """A model of this kind: some 1.5 MB, the same for the same seed."""
    chance, file = random.Random(f'{kind} {seed}'), File()

    def noise(shape):
        count = 1
        for size in shape:
            count *= size
        return [chance.gauss(0, 0.3) for _ in range(count)]

    def ones(size):
        return [1.0] * size

    put_shape(file, kind)
    put_vocabulary(file)
    file.tensor('token_embd.weight', (WIDTH, VOCABULARY), noise((WIDTH, VOCABULARY)))
    file.tensor('token_embd_norm.weight' if kind == HYBRID else 'output_norm.weight', (WIDTH,), ones(WIDTH))
    # It says printable characters and nothing else: the others' logits are 0, and of so many one is above.
    said = [noise((WIDTH,)) if 5 <= token < 5 + len(PRINTABLE) else [0.0] * WIDTH for token in range(VOCABULARY)]
    file.tensor('output.weight', (WIDTH, VOCABULARY), [x for row in said for x in row])
    for layer in range(LAYERS[kind]):
        put_layer(file, kind, layer, noise, ones)
    file.write(path)
