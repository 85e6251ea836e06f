"""Hugging Face folders for conversion tests, rebuilt from GGUF files: the same bytes at every run.

SmolLM2's own safetensors cannot be fetched at set-up. Its GGUF can, so the folder is made from it: each tensor
dequantised by gguf-py (from the engine's pinned source), the engine's order of query and key rows undone, rounded to
BF16, and tokenizer.json rebuilt from the vocabulary, the token types and the merges. config.json and the pre-tokenizer
are as published.
"""
import hashlib
import json
import struct
import sys

import numpy as np
import spm_tokenizer
import support

sys.path.insert(0, str(support.CACHE / 'third_party/llama.cpp/gguf-py'))
import gguf  # noqa: E402

SMOLLM2_CONFIG = {
    'architectures': ['LlamaForCausalLM'], 'attention_bias': False, 'attention_dropout': 0.0, 'bos_token_id': 1,
    'eos_token_id': 2, 'hidden_act': 'silu', 'hidden_size': 576, 'initializer_range': 0.041666666666666664,
    'intermediate_size': 1536, 'is_llama_config': True, 'max_position_embeddings': 8192, 'mlp_bias': False,
    'model_type': 'llama', 'num_attention_heads': 9, 'num_hidden_layers': 30, 'num_key_value_heads': 3, 'pad_token_id': 2,
    'pretraining_tp': 1, 'rms_norm_eps': 1e-05, 'rope_interleaved': False, 'rope_scaling': None, 'rope_theta': 100000,
    'tie_word_embeddings': True, 'torch_dtype': 'bfloat16', 'transformers_version': '4.42.3', 'use_cache': True,
    'vocab_size': 49152}
SMOLLM2_PRE_TOKENIZER = {'type': 'Sequence', 'pretokenizers': [
    {'type': 'Digits', 'individual_digits': True},
    {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}]}
BYTE_LEVEL = {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': True, 'use_regex': True}
LLAMA_NAMES = {
    'attn_norm': 'input_layernorm', 'attn_q': 'self_attn.q_proj', 'attn_k': 'self_attn.k_proj', 'attn_v': 'self_attn.v_proj',
    'attn_output': 'self_attn.o_proj', 'ffn_norm': 'post_attention_layernorm', 'ffn_gate': 'mlp.gate_proj',
    'ffn_up': 'mlp.up_proj', 'ffn_down': 'mlp.down_proj'}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding='utf-8')


def bf16_bits(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # no NaN among weights


def write_safetensors(path, tensors):
    """`tensors`: name -> (type, array)"""
    header, offset = {}, 0
    for name, (kind, values) in tensors.items():
        header[name] = {'dtype': kind, 'shape': list(values.shape), 'data_offsets': [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with path.open('wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for _, values in tensors.values():
            file.write(values.tobytes())


def hf_name(name):
    if name.startswith('blk.'):
        _, layer, rest = name.split('.', 2)
        return f'model.layers.{layer}.{LLAMA_NAMES[rest.removesuffix(".weight")]}.weight'
    return {'token_embd.weight': 'model.embed_tokens.weight', 'output_norm.weight': 'model.norm.weight'}[name]


def undo_permute(values, heads):
    return values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def bpe_tokenizer(reader, pre_tokenizer, post_processor):
    tokens = reader.fields['tokenizer.ggml.tokens'].contents()
    types = reader.fields['tokenizer.ggml.token_type'].contents()
    added = [{'id': i, 'content': token, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False,
              'special': types[i] == CONTROL} for i, token in enumerate(tokens) if types[i] in (CONTROL, USER_DEFINED)]
    return {
        'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': added, 'normalizer': None,
        'pre_tokenizer': pre_tokenizer, 'post_processor': post_processor, 'decoder': BYTE_LEVEL,
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None,
                  'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False,
                  'vocab': {token: i for i, token in enumerate(tokens) if types[i] != UNUSED},
                  'merges': reader.fields['tokenizer.ggml.merges'].contents()}}


def smollm2(source, folder):
    """Writes SmolLM2-135M-Instruct in BF16 below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)
    heads = {'attn_q': SMOLLM2_CONFIG['num_attention_heads'], 'attn_k': SMOLLM2_CONFIG['num_key_value_heads']}
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split('.')[-2]
        tensors[hf_name(tensor.name)] = ('BF16', bf16_bits(undo_permute(values, heads[kind]) if kind in heads else values))
    write_safetensors(folder / 'model.safetensors', tensors)
    write_json(folder / 'config.json', SMOLLM2_CONFIG)
    write_json(folder / 'generation_config.json',
               {'_from_model_config': True, 'bos_token_id': 1, 'eos_token_id': 2, 'pad_token_id': 2, 'transformers_version': '4.42.3'})
    write_json(folder / 'tokenizer.json', bpe_tokenizer(reader, SMOLLM2_PRE_TOKENIZER, None))
    write_json(folder / 'tokenizer_config.json', {
        'add_prefix_space': False, 'bos_token': '<|im_start|>', 'eos_token': '<|im_end|>', 'unk_token': '<|endoftext|>',
        'pad_token': '<|im_end|>', 'clean_up_tokenization_spaces': False, 'model_max_length': 8192, 'tokenizer_class': 'GPT2Tokenizer',
        'chat_template': reader.fields['tokenizer.chat_template'].contents()})
    return folder


# --- tiny models of the other families ---------------------------------------
# Random weights, but the vocabularies, and the rules that split text, are those of published models: the engine's
# source has the former as GGUF files without weights.

TINY_WIDTH, TINY_FEED_FORWARD, TINY_HEADS, TINY_KV_HEADS, TINY_HEAD_WIDTH = 32, 64, 4, 2, 8
TINY_EXPERTS = 12
UNTIED = {'tie_word_embeddings': False, 'head_dim': None}
MIXTURE = {'rope_theta': 1000000, 'num_experts': TINY_EXPERTS, 'num_experts_per_tok': 2, 'moe_intermediate_size': 48,
           'norm_topk_prob': True, 'decoder_sparse_step': 1, 'mlp_only_layers': []}
LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                  r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r'\p{N}{1,3}', r'\p{N}')
LLAMA3_POST = {'type': 'Sequence', 'processors': [
    {'type': 'ByteLevel', 'add_prefix_space': True, 'trim_offsets': False, 'use_regex': True},
    {'type': 'TemplateProcessing',
     'single': [{'SpecialToken': {'id': '<|begin_of_text|>', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}}],
     'pair': [{'SpecialToken': {'id': '<|begin_of_text|>', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}},
              {'SpecialToken': {'id': '<|begin_of_text|>', 'type_id': 1}}, {'Sequence': {'id': 'B', 'type_id': 1}}],
     'special_tokens': {'<|begin_of_text|>': {'id': '<|begin_of_text|>', 'ids': [128000], 'tokens': ['<|begin_of_text|>']}}}]}
TINY = {
    'llama3': ('LlamaForCausalLM', 'llama-bpe', 'F16', {
        'rope_theta': 500000.0, 'tie_word_embeddings': False, 'rope_scaling': {
            'factor': 32.0, 'high_freq_factor': 4.0, 'low_freq_factor': 1.0, 'original_max_position_embeddings': 8192,
            'rope_type': 'llama3'}}),
    'qwen2': ('Qwen2ForCausalLM', 'qwen2', 'BF16', {'rope_theta': 1000000.0, 'head_dim': None}),
    'qwen3': ('Qwen3ForCausalLM', 'qwen2', 'F32', {'rope_theta': 1000000}),
    'qwen3moe': ('Qwen3MoeForCausalLM', 'qwen2', 'BF16', MIXTURE),
    'qwen3moefused': ('Qwen3MoeForCausalLM', 'qwen2', 'F16', MIXTURE),
    'llama2': ('LlamaForCausalLM', spm_tokenizer.write_llama2, 'F16', UNTIED),
    'llamajson': ('LlamaForCausalLM', spm_tokenizer.write_llama_json, 'BF16', UNTIED),
    'codellama': ('LlamaForCausalLM', spm_tokenizer.write_codellama, 'BF16', {**UNTIED, 'rope_theta': 1000000}),
    'mistral': ('MistralForCausalLM', spm_tokenizer.write_mistral, 'BF16', {**UNTIED, 'sliding_window': None, 'rope_theta': 1000000.0}),
    'mixtral': ('MixtralForCausalLM', spm_tokenizer.write_llama2, 'BF16', {
        **UNTIED, 'num_local_experts': TINY_EXPERTS, 'num_experts_per_tok': 2, 'rope_theta': 1000000.0}),
    # As published with a vision tower: what the defaults of Gemma 3 are is not said.
    'gemma3spm': ('Gemma3ForConditionalGeneration', spm_tokenizer.write_gemma3, 'BF16', {
        'sliding_window': 1024, 'rope_scaling': {'factor': 8.0, 'rope_type': 'linear'}}),
    'gemma3': ('Gemma3ForCausalLM', 'qwen2', 'BF16', {'sliding_window': 512, 'rope_local_base_freq': 10000.0}),
    'lfm2': ('Lfm2ForCausalLM', 'llama-bpe', 'BF16', {
        'layer_types': ['conv', 'full_attention'], 'norm_eps': 1e-05, 'conv_L_cache': 3, 'block_auto_adjust_ff_dim': True,
        'block_ffn_dim_multiplier': 1.0, 'block_multiple_of': 16, 'rope_theta': 1000000.0}),
}


def tiny_tokenizer(folder, vocabulary):
    """Writes the tokenizer; how many tokens the model has."""
    if callable(vocabulary):
        return vocabulary(folder, gguf.GGUFReader(support.CACHE / 'third_party/llama.cpp/models/ggml-vocab-llama-spm.gguf'))
    reader = gguf.GGUFReader(support.CACHE / f'third_party/llama.cpp/models/ggml-vocab-{vocabulary}.gguf')
    llama3 = vocabulary == 'llama-bpe'
    split = {'type': 'Split', 'pattern': {'Regex': LLAMA3_PATTERN if llama3 else QWEN2_PATTERN}, 'behavior': 'Isolated',
             'invert': False}
    pre = {'type': 'Sequence', 'pretokenizers': [split, {**BYTE_LEVEL, 'add_prefix_space': False, 'use_regex': False}]}
    tokenizer = bpe_tokenizer(reader, pre, LLAMA3_POST if llama3 else None)
    tokenizer['model']['ignore_merges'] = llama3
    tokenizer['model']['merges'] = [merge.split(' ') for merge in tokenizer['model']['merges']]  # as newer files have it
    write_json(folder / 'tokenizer.json', tokenizer)
    names = ({'bos_token': '<|begin_of_text|>', 'eos_token': '<|end_of_text|>'} if llama3 else
             {'eos_token': {'__type': 'AddedToken', 'content': '<|endoftext|>', 'special': True}, 'pad_token': '<|endoftext|>'})
    write_json(folder / 'tokenizer_config.json', {'tokenizer_class': 'PreTrainedTokenizerFast', **names})
    (folder / 'chat_template.jinja').write_text('{% for m in messages %}{{ m.content }}{% endfor %}', encoding='utf-8')
    return len(reader.fields['tokenizer.ggml.tokens'].contents())


def expert_shapes(family):
    """Name -> shape of what takes the feed-forward matrices' place."""
    width = MIXTURE['moe_intermediate_size'] if family.startswith('qwen3moe') else TINY_FEED_FORWARD
    if family == 'qwen3moefused':
        return {'mlp.gate.weight': (TINY_EXPERTS, TINY_WIDTH), 'mlp.experts.gate_up_proj': (TINY_EXPERTS, 2 * width, TINY_WIDTH),
                'mlp.experts.down_proj': (TINY_EXPERTS, TINY_WIDTH, width)}
    block, gate, up, down = (('block_sparse_moe', 'w1', 'w3', 'w2') if family == 'mixtral' else
                             ('mlp', 'gate_proj', 'up_proj', 'down_proj'))
    shapes = {f'{block}.gate.weight': (TINY_EXPERTS, TINY_WIDTH)}
    for expert in range(TINY_EXPERTS):
        shapes |= {f'{block}.experts.{expert}.{gate}.weight': (width, TINY_WIDTH),
                   f'{block}.experts.{expert}.{up}.weight': (width, TINY_WIDTH),
                   f'{block}.experts.{expert}.{down}.weight': (TINY_WIDTH, width)}
    return shapes


def tiny_shapes(family, vocabulary, tied):
    """Name -> shape of every tensor."""
    heads, kv_heads, head_width = (8, 4, 256) if family == 'gemma3spm' else (TINY_HEADS, TINY_KV_HEADS, TINY_HEAD_WIDTH)
    q, kv = heads * head_width, kv_heads * head_width
    gemma = family.startswith('gemma3')
    norms = ['operator_norm', 'ffn_norm'] if family == 'lfm2' else ['input_layernorm', 'post_attention_layernorm']
    norms += ['pre_feedforward_layernorm', 'post_feedforward_layernorm'] if gemma else []
    shapes = {'model.embed_tokens.weight': (vocabulary, TINY_WIDTH)}
    shapes['model.embedding_norm.weight' if family == 'lfm2' else 'model.norm.weight'] = (TINY_WIDTH,)
    if not tied:
        shapes['lm_head.weight'] = (vocabulary, TINY_WIDTH)
    for layer in range(2):
        inner = {f'{name}.weight': (TINY_WIDTH,) for name in norms}
        attention = {'self_attn.q_proj': q, 'self_attn.k_proj': kv, 'self_attn.v_proj': kv}
        if family == 'lfm2' and layer == 0:
            inner |= {'conv.conv.weight': (TINY_WIDTH, 1, 3), 'conv.in_proj.weight': (3 * TINY_WIDTH, TINY_WIDTH),
                      'conv.out_proj.weight': (TINY_WIDTH, TINY_WIDTH)}
        else:
            inner |= {f'{name}.weight': (rows, TINY_WIDTH) for name, rows in attention.items()}
            inner[f'self_attn.{"out" if family == "lfm2" else "o"}_proj.weight'] = (TINY_WIDTH, q)
            if family == 'qwen2':
                inner |= {f'{name}.bias': (rows,) for name, rows in attention.items()}
            if family.startswith('qwen3') or gemma or family == 'lfm2':
                ending = 'layernorm' if family == 'lfm2' else 'norm'
                inner |= {f'self_attn.{part}_{ending}.weight': (head_width,) for part in 'qk'}
        names = ['feed_forward.w1', 'feed_forward.w3', 'feed_forward.w2'] if family == 'lfm2' else [
            'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']
        width = 48 if family == 'lfm2' else TINY_FEED_FORWARD  # two thirds, rounded up to 16
        inner |= expert_shapes(family) if family in ('mixtral', 'qwen3moe', 'qwen3moefused') else {
            f'{names[0]}.weight': (width, TINY_WIDTH), f'{names[1]}.weight': (width, TINY_WIDTH),
            f'{names[2]}.weight': (TINY_WIDTH, width)}
        shapes |= {f'model.layers.{layer}.{name}': shape for name, shape in inner.items()}
    return shapes


def tiny_config(family, tokens):
    architecture, _, _, more = TINY[family]
    kinds = {'gemma3': 'gemma3_text', 'qwen3moe': 'qwen3_moe', 'qwen3moefused': 'qwen3_moe', 'llama2': 'llama', 'llama3': 'llama',
             'llamajson': 'llama', 'codellama': 'llama'}
    sizes = {'hidden_size': TINY_WIDTH, 'intermediate_size': TINY_FEED_FORWARD, 'num_hidden_layers': 2, 'vocab_size': tokens}
    if family == 'gemma3spm':
        return {'architectures': [architecture], 'model_type': 'gemma3', 'eos_token_id': [1, 15], 'image_token_index': tokens,
                'vision_config': {'model_type': 'siglip_vision_model', 'hidden_size': 8},
                'text_config': {'model_type': 'gemma3_text', **sizes, **more}}
    config = {'architectures': [architecture], 'model_type': kinds.get(family, family), **sizes, 'num_attention_heads': TINY_HEADS,
              'num_key_value_heads': TINY_KV_HEADS, 'head_dim': TINY_HEAD_WIDTH, 'max_position_embeddings': 4096,
              'rms_norm_eps': 1e-06, 'tie_word_embeddings': True, **more}
    return {key: value for key, value in config.items() if key != 'head_dim' or value}


def tiny(family, folder):
    """Writes a model of two layers in two shards below `folder`."""
    _, vocabulary, kind, _ = TINY[family]
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tiny_tokenizer(folder, vocabulary)
    config = tiny_config(family, tokens)
    write_json(folder / 'config.json', config)
    write_json(folder / 'generation_config.json', {'temperature': 0.7, 'top_k': 20, 'top_p': 0.8, 'repetition_penalty': 1.05})
    random = np.random.Generator(np.random.PCG64(7))
    tensors = {}
    for name, shape in tiny_shapes(family, tokens, config.get('tie_word_embeddings', True)).items():
        values = random.standard_normal(shape, dtype=np.float32)
        name = f'language_model.{name}' if family == 'gemma3spm' else name
        tensors[name] = (kind, {'F32': values, 'F16': values.astype(np.float16), 'BF16': bf16_bits(values)}[kind])
    if family == 'gemma3spm':
        tensors['multi_modal_projector.mm_soft_emb_norm.weight'] = ('BF16', bf16_bits(np.ones(8)))
    shards = {f'model-0000{i + 1}-of-00002.safetensors': dict(list(tensors.items())[i::2]) for i in range(2)}
    for name, part in shards.items():
        write_safetensors(folder / name, part)
    write_json(folder / 'model.safetensors.index.json', {
        'metadata': {}, 'weight_map': {tensor: name for name, part in shards.items() for tensor in part}})
    return folder


# --- what is compared --------------------------------------------------------

MINILM = support.CACHE / 'models/all-MiniLM-L6-v2'
# The folder's name is part of the result: general.name and its kin come from it.
CASES = {'all-MiniLM-L6-v2': ['f16'], 'SmolLM2-135M-Instruct': ['bf16'],
         **{f'Tiny-{family}-1M': ['bf16'] for family in TINY}}


def make(name, scratch):
    """The folder of that case, made below `scratch` if it is not there yet."""
    if name == 'all-MiniLM-L6-v2':
        return MINILM
    folder = scratch / name
    if not folder.exists():
        smollm2(support.SMOLLM2, folder) if name.startswith('SmolLM2') else tiny(name.split('-')[1], folder)
    return folder


# Upstream knows no scores where there is no tokenizer.model: of such a folder these alone are not compared.
WITHOUT_SCORES = ['Tiny-llamajson-1M']


def digest(path, scores=True):
    """SHA-256 of the whole file: equal keys in equal order, equal tensors, equal padding."""
    if scores:
        with path.open('rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    data = bytearray(path.read_bytes())
    key = b'tokenizer.ggml.scores' + struct.pack('<II', 9, 6)  # an array of float32
    at = data.index(key) + len(key)
    count = struct.unpack_from('<Q', data, at)[0]
    data[at + 8:at + 8 + 4 * count] = bytes(4 * count)
    return hashlib.sha256(data).hexdigest()


# --- what is tokenised ---------------------------------------------------------

TOKENIZED = [f'Tiny-{family}-1M' for family in ('llama2', 'llamajson', 'mistral', 'gemma3spm')]
TEXTS_MAX = 1500


def corpus():
    """Texts in many languages and of many kinds, from the engine's pinned source."""
    source = support.CACHE / 'third_party/llama.cpp'
    texts = (source / 'models/ggml-vocab-llama-spm.gguf.inp').read_text(encoding='utf-8').split('\n__ggml_vocab_test__\n')
    for path in [source / 'README.md', *sorted((source / 'docs').glob('*.md')), source / 'common/arg.cpp']:
        texts += path.read_text(encoding='utf-8').split('\n')
    return [text for text in dict.fromkeys(texts) if text][:TEXTS_MAX]


def ids_digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


# --- packed models -------------------------------------------------------------

PACKED_GROUP = 32
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def read_safetensors(path):
    """Name -> float32 array, of a file that write_safetensors() wrote."""
    data = path.read_bytes()
    length = struct.unpack('<Q', data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        begin, end = entry['data_offsets']
        raw = data[8 + length + begin:8 + length + end]
        kinds = {'F32': np.float32, 'F16': np.float16, 'BF16': np.uint16}
        values = np.frombuffer(raw, kinds[entry['dtype']]).reshape(entry['shape'])
        tensors[name] = (values.astype(np.uint32) << 16).view(np.float32) if entry['dtype'] == 'BF16' else values.astype(np.float32)
    return tensors


def pack_words(numbers, order=range(8)):
    """Eight numbers of the last axis to a word."""
    parts = numbers.astype(np.uint32).reshape(*numbers.shape[:-1], -1, 8)
    words = np.zeros(parts.shape[:-1], np.uint32)
    for place, index in enumerate(order):
        words |= parts[..., index] << np.uint32(4 * place)
    return words.view(np.int32)


def packed(source, method, folder, plain):
    """Writes the model of `source` below `folder` as GPTQ or AWQ, and the very same weights in F32 below `plain`."""
    for target in (folder, plain):
        target.mkdir(parents=True)
        for path in source.iterdir():
            if path.suffix != '.safetensors' and not path.name.endswith('.index.json'):
                (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / 'config.json').read_text())
    quantization = {'quant_method': method, 'bits': 4, 'group_size': PACKED_GROUP}
    quantization |= {'desc_act': False, 'sym': False} if method == 'gptq' else {'version': 'gemm', 'zero_point': True}
    write_json(folder / 'config.json', {**config, 'quantization_config': quantization})
    random = np.random.Generator(np.random.PCG64(5))
    out, exact, tensors = {}, {}, {}
    for shard in sorted(source.glob('*.safetensors')):
        tensors |= read_safetensors(shard)
    for name, values in tensors.items():
        if not name.endswith(('_proj.weight', 'w1.weight', 'w2.weight', 'w3.weight')):
            out[name] = exact[name] = ('F32', values)
            continue
        rows, columns = values.shape
        numbers = random.integers(0, 16, (columns, rows))  # as the libraries see it
        zeros = random.integers(1, 16, (columns // PACKED_GROUP, rows))
        scales = random.uniform(1e-3, 1e-2, zeros.shape).astype(np.float16)
        base = name.removesuffix('.weight')
        if method == 'gptq':
            out[f'{base}.qweight'] = ('I32', np.ascontiguousarray(pack_words(np.ascontiguousarray(numbers.T)).T))
            out[f'{base}.qzeros'] = ('I32', pack_words(zeros - 1))
            out[f'{base}.g_idx'] = ('I32', np.arange(columns, dtype=np.int32) // PACKED_GROUP)
        else:
            out[f'{base}.qweight'] = ('I32', pack_words(numbers, AWQ_ORDER))
            out[f'{base}.qzeros'] = ('I32', pack_words(zeros, AWQ_ORDER))
        out[f'{base}.scales'] = ('F16', scales)
        spread = [np.repeat(part.astype(np.float32), PACKED_GROUP, 0) for part in (scales, zeros)]
        exact[name] = ('F32', np.ascontiguousarray(((numbers - spread[1]) * spread[0]).T.astype(np.float32)))
    write_safetensors(folder / 'model.safetensors', out)
    write_safetensors(plain / 'model.safetensors', exact)
