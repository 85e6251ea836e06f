"""SentencePiece's tokenizers for conversion tests: tokenizer.model written field by field, and tokenizer.json beside it.

The pieces are those of Llama 2, which the engine's source has as a GGUF file without weights; Gemma's are these with
what its tokenizer has besides: other control tokens, and symbols that are pieces wherever they occur.
"""
import json
import struct

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = '\u2581'
GEMMA_CONTROL = ['<pad>', '<eos>', '<bos>']
GEMMA_SYMBOLS = ['<mask>', '[@BOS@]', *(f'<unused{i}>' for i in range(8)), '<start_of_turn>', '<end_of_turn>',
                 *('\n' * n for n in range(2, 6)), *(SPACE * n for n in range(2, 9)), '<table>', '</table>', '<h1>']
BPE = 2


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def piece(text, score, kind):
    body = data(1, text.encode()) + varint(2 << 3 | 5) + struct.pack('<f', score)
    return data(1, body + (b'' if kind == NORMAL else number(3, kind)))


def model(pieces, space_before):
    """The bytes of a tokenizer.model of BPE."""
    trainer = number(3, BPE) + number(4, len(pieces)) + number(35, 1)
    normalizer = data(1, b'identity') + data(2, b'') + number(3, space_before) + number(4, 0)
    return b''.join(piece(*p) for p in pieces) + data(2, trainer) + data(3, normalizer)


def llama_pieces(reader):
    fields = [reader.fields[f'tokenizer.ggml.{name}'].contents() for name in ('tokens', 'scores', 'token_type')]
    return list(zip(*fields, strict=True))


def gemma_pieces(reader):
    first = [(text, 0.0, CONTROL) for text in GEMMA_CONTROL] + [('<unk>', 0.0, UNKNOWN)]
    first += [(text, 0.0, USER_DEFINED) for text in GEMMA_SYMBOLS]
    taken = {text for text, _, _ in first}
    rest = [p for p in llama_pieces(reader) if p[2] in (NORMAL, BYTE) and p[0] not in taken]
    return first + [p for p in rest if p[2] == BYTE] + [p for p in rest if p[2] == NORMAL]


def merges(pieces):
    """As transformers makes them of a tokenizer.model: every way to split a piece, best pieces first."""
    ids = {text: i for i, (text, _, _) in enumerate(pieces)}
    out = []
    for text, score, kind in sorted(pieces, key=lambda p: -p[1]):
        if kind != NORMAL:
            continue
        ways = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in ids and text[i:] in ids]
        out += sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
    return [f'{left} {right}' for left, right in out]


def added(pieces, kinds):
    return [{'id': i, 'content': text, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False,
             'special': kind != USER_DEFINED} for i, (text, _, kind) in enumerate(pieces) if kind in kinds]


def tokenizer_json(pieces):
    mark = {'type': 'Replace', 'pattern': {'String': ' '}, 'content': SPACE}
    first = {'SpecialToken': {'id': '<s>', 'type_id': 0}}
    return {
        'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': added(pieces, (UNKNOWN, CONTROL)),
        'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Prepend', 'prepend': SPACE}, mark]}, 'pre_tokenizer': None,
        'post_processor': {
            'type': 'TemplateProcessing', 'single': [first, {'Sequence': {'id': 'A', 'type_id': 0}}],
            'pair': [first, {'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': '<s>', 'type_id': 1}},
                     {'Sequence': {'id': 'B', 'type_id': 1}}],
            'special_tokens': {'<s>': {'id': '<s>', 'ids': [1], 'tokens': ['<s>']}}},
        'decoder': {'type': 'Sequence', 'decoders': [
            {'type': 'Replace', 'pattern': {'String': SPACE}, 'content': ' '}, {'type': 'ByteFallback'}, {'type': 'Fuse'},
            {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0}]},
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None,
                  'end_of_word_suffix': None, 'fuse_unk': True, 'byte_fallback': True,
                  'vocab': {text: i for i, (text, _, _) in enumerate(pieces)}, 'merges': merges(pieces)}}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding='utf-8')


def named(**texts):
    """The part of a tokenizer_config.json that names tokens, as newer files have it."""
    return {f'{kind}_token': {'__type': 'AddedToken', 'content': text, 'lstrip': False, 'normalized': False, 'rstrip': False,
                              'single_word': False} for kind, text in texts.items()}


LLAMA_NAMES = named(bos='<s>', eos='</s>', unk='<unk>')
TEMPLATE = "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endfor %}"


def write_llama2(folder, reader):
    """As Llama 2 is published: both files."""
    pieces = llama_pieces(reader)
    (folder / 'tokenizer.model').write_bytes(model(pieces, True))
    write_json(folder / 'tokenizer.json', tokenizer_json(pieces))
    write_json(folder / 'tokenizer_config.json', {
        'add_bos_token': True, 'add_eos_token': False, 'clean_up_tokenization_spaces': False, 'legacy': False, 'pad_token': None,
        'tokenizer_class': 'LlamaTokenizer', 'chat_template': TEMPLATE, **LLAMA_NAMES})
    return len(pieces)


def write_llama_json(folder, reader):
    """A tokenizer.json alone."""
    pieces = llama_pieces(reader)
    write_json(folder / 'tokenizer.json', tokenizer_json(pieces))
    write_json(folder / 'tokenizer_config.json', {
        'add_bos_token': True, 'add_eos_token': False, 'legacy': False, 'tokenizer_class': 'LlamaTokenizer', **LLAMA_NAMES})
    return len(pieces)


def write_mistral(folder, reader):
    """A tokenizer.model alone, tokens added by both files, and room for more."""
    pieces = llama_pieces(reader)
    count = len(pieces)
    (folder / 'tokenizer.model').write_bytes(model(pieces, True))
    write_json(folder / 'added_tokens.json', {'<tool>': count, '<far>': count + 100, '[INST]': count + 2})
    decoder = {str(token['id']): {k: v for k, v in token.items() if k != 'id'} for token in added(pieces, (UNKNOWN, CONTROL))}
    plain = {'lstrip': False, 'normalized': False, 'rstrip': False, 'single_word': False}
    decoder |= {str(count + 2): {'content': '[INST]', 'special': True, **plain},
                str(count + 3): {'content': f'{SPACE}[/INST]', 'special': False, **plain},
                str(count + 4): {'content': '<|end|>', 'special': False, **plain},
                str(count + 99): {'content': '<beyond>', 'special': True, **plain}}
    write_json(folder / 'tokenizer_config.json', {
        'add_bos_token': True, 'add_eos_token': False, 'add_prefix_space': True, 'added_tokens_decoder': decoder, 'bos_token': '<s>',
        'eos_token': '</s>', 'unk_token': '<unk>', 'tokenizer_class': 'LlamaTokenizer', 'chat_template': TEMPLATE})
    return count + 8


def write_codellama(folder, reader):
    """Known by the size of its vocabulary."""
    pieces = llama_pieces(reader)
    (folder / 'tokenizer.model').write_bytes(model(pieces, True))
    write_json(folder / 'tokenizer_config.json', {'add_bos_token': True, 'add_eos_token': False, 'tokenizer_class': 'CodeLlamaTokenizer',
                                                  **LLAMA_NAMES})
    return 32016


def write_gemma3(folder, reader):
    """Symbols of its own, no space before a text, and an added token the model has no room for."""
    pieces = gemma_pieces(reader)
    (folder / 'tokenizer.model').write_bytes(model(pieces, False))
    named_again = added(pieces, (UNKNOWN, CONTROL, USER_DEFINED))
    decoder = {str(token['id']): {k: v for k, v in token.items() if k != 'id'} for token in named_again}
    decoder[str(len(pieces))] = {**decoder['0'], 'content': '<image_soft_token>'}
    write_json(folder / 'tokenizer_config.json', {
        'add_bos_token': True, 'add_eos_token': False, 'added_tokens_decoder': decoder, 'bos_token': '<bos>', 'eos_token': '<eos>',
        'pad_token': '<pad>', 'unk_token': '<unk>', 'spaces_between_special_tokens': False, 'tokenizer_class': 'GemmaTokenizer'})
    (folder / 'chat_template.jinja').write_text(TEMPLATE, encoding='utf-8')
    return len(pieces)
