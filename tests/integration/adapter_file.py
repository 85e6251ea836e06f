"""A LoRA adapter of a llama model, as a GGUF file and as PEFT saves it: random changes of matrices of every layer."""
import json
import random
import struct

# Layers, width, heads and what the feed-forward is wide, by what the file is called.
SHAPES = {'stories260Ktok512.gguf': (5, 64, 8, 172), 'SmolLM2-135M-Instruct.Q4_1.gguf': (30, 576, 9, 1536)}
MODULES = {'attn_q': 'self_attn.q_proj', 'attn_output': 'self_attn.o_proj', 'ffn_down': 'mlp.down_proj'}


def text(value):
    data = value.encode()
    return struct.pack('<Q', len(data)) + data


def changes(base, rank, spread, seed):
    """(layer, matrix, 'a' or 'b', its rows)"""
    layers, width, _, wide = SHAPES[base.name]
    source = random.Random(seed)
    for layer in range(layers):
        for name, columns, rows in (('attn_q', width, width), ('attn_output', width, width), ('ffn_down', wide, width)):
            for part, across, down in (('a', columns, rank), ('b', rank, rows)):
                yield layer, name, part, [[source.gauss(0, spread) for _ in range(across)] for _ in range(down)]


def packed(rows):
    return b''.join(struct.pack(f'<{len(row)}f', *row) for row in rows)


def write_adapter(path, base, rank=4, alpha=8.0, spread=0.05, seed=1):
    pairs = [('general.architecture', 'llama'), ('general.type', 'adapter'), ('adapter.type', 'lora')]
    tensors = list(changes(base, rank, spread, seed))
    head = b'GGUF' + struct.pack('<IQQ', 3, len(tensors), len(pairs) + 1)
    for key, value in pairs:
        head += text(key) + struct.pack('<I', 8) + text(value)
    head += text('adapter.lora.alpha') + struct.pack('<If', 6, alpha)
    data = b''
    for layer, name, part, rows in tensors:
        head += text(f'blk.{layer}.{name}.weight.lora_{part}') + struct.pack('<IQQIQ', 2, len(rows[0]), len(rows), 0, len(data))
        data += packed(rows)
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def write_peft(folder, base, rank=4, alpha=8.0, spread=0.05, seed=1):
    """The same: rows of queries are in halves there, and in pairs in GGUF."""
    folder.mkdir()
    head = SHAPES[base.name][1] // SHAPES[base.name][2]
    tensors = {}
    for layer, name, part, rows in changes(base, rank, spread, seed):
        if name == 'attn_q' and part == 'b':
            halves = [None] * len(rows)
            for at, row in enumerate(rows):
                within = at % head
                halves[at - within + within % 2 * (head // 2) + within // 2] = row
            rows = halves
        tensors[f'base_model.model.model.layers.{layer}.{MODULES[name]}.lora_{part.upper()}.weight'] = rows
    header, data = {}, b''
    for name, rows in tensors.items():
        begin = len(data)
        data += packed(rows)
        header[name] = {'dtype': 'F32', 'shape': [len(rows), len(rows[0])], 'data_offsets': [begin, len(data)]}
    encoded = json.dumps(header).encode()
    (folder / 'adapter_model.safetensors').write_bytes(struct.pack('<Q', len(encoded)) + encoded + data)
    config = {'peft_type': 'LORA', 'r': rank, 'lora_alpha': alpha, 'bias': 'none', 'target_modules': ['q_proj']}
    (folder / 'adapter_config.json').write_text(json.dumps(config))
    return folder
