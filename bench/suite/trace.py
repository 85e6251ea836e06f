"""The Mooncake conversation trace (arrival, lengths, one hash per 512 prompt tokens), thinned and scaled so that a small model serves it.

Whole conversations are kept or left out, never single requests: what can be reused stays what it was.
"""
import dataclasses
import hashlib
import json

from . import prompts
from .process import MeasureError

BLOCK_TOKENS = 512
ROWS_MAX = 1_000_000


@dataclasses.dataclass(frozen=True)
class Row:
    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple


def read(path, rows_max=ROWS_MAX):
    rows = []
    for number, line in enumerate(prompts.read(path).splitlines(), 1):
        try:
            fields = json.loads(line)
            row = Row(fields['timestamp'] / 1000, int(fields['input_length']), int(fields['output_length']), tuple(fields['hash_ids']))
        except (ValueError, KeyError, TypeError) as error:
            raise MeasureError(f'{path}, line {number}: {error}') from None
        if row.prompt_tokens < 1 or len(row.blocks) != -(-row.prompt_tokens // BLOCK_TOKENS):
            raise MeasureError(f'{path}, line {number}: {len(row.blocks)} hashes for {row.prompt_tokens} tokens')
        rows.append(row)
        if len(rows) == rows_max:
            break
    return rows


def conversation_of(row):
    """What the requests of a conversation have in common: the second block; the first is everybody's system prompt."""
    return row.blocks[min(1, len(row.blocks) - 1)]


def thin(rows, one_of):
    """About one of `one_of` conversations, always the same ones."""
    def kept(row):
        digest = hashlib.sha256(str(conversation_of(row)).encode()).digest()
        return int.from_bytes(digest[:8], 'big') % one_of == 0
    return [row for row in rows if kept(row)]


def scale(rows, divisor, prompt_max, output_max):
    """Lengths divided by `divisor`, and cut where a request would not fit."""
    block = BLOCK_TOKENS // divisor
    scaled = []
    for row in rows:
        tokens = max(1, min(round(row.prompt_tokens / divisor), prompt_max))
        scaled.append(Row(row.at_s, tokens, max(1, min(round(row.output_tokens / divisor), output_max)), row.blocks[:-(-tokens // block)]))
    return scaled


def computed_by_unbounded(rows, divisor):
    """Prompt tokens per row that a cache which forgets nothing computes: all after the longest run of blocks seen before."""
    block = BLOCK_TOKENS // divisor
    seen, computed = set(), []
    for row in rows:
        hits = 0
        while hits < len(row.blocks) and row.blocks[hits] in seen:
            hits += 1
        seen.update(row.blocks)
        computed.append(max(0, row.prompt_tokens - hits * block))
    return computed


def text(row, divisor, words_per_token):
    """The prompt: every block has words of its own, the same wherever it stands."""
    block = BLOCK_TOKENS // divisor
    parts, left = [], row.prompt_tokens
    for number in row.blocks:
        tokens = min(block, left)
        left -= tokens
        # The words of a cut block are the first ones of the whole block.
        whole = prompts.words(max(1, round(block * words_per_token)), f'block {number}').split()
        parts += whole[:max(1, round(tokens * words_per_token))]
    return ' '.join(parts)
