"""Does time tell a tenant what another one computed?

For each pair one prompt is computed for one tenant; another then asks for that
prompt and for a fresh one of equal length, in random order. What both cost is
compared: exactly, in tokens and steps, and as times to the first token, by the
rank test of Mann and Whitney.

    python tests/integration/tenant_probe.py --model MODEL.gguf [--pairs 200]

prints the figures as JSON. `effect` is the chance that a warmed prompt is
answered later than a fresh one: 0.5 says that time tells nothing.
"""
import argparse
import json
import math
import random
import statistics
import time

import support

TENANT = 'x-tenant'


def cost_of(server, tokens, tenant, salt='own'):
    """(prompt tokens computed, steps, ms to the answer's only token) of a prompt."""
    def steps():
        _, _, body = server.request('GET', '/api/v1/engine')
        return body['models'][0]['engine']['steps']['total']
    before = steps()
    began = time.perf_counter()
    asked = {'prompt': tokens, 'max_tokens': 1, 'temperature': 0, 'cache_salt': salt}
    status, _, body = server.request('POST', '/v1/completions', asked, {TENANT: tenant})
    ms = (time.perf_counter() - began) * 1000
    assert status == 200, body
    usage = body['usage']
    return usage['prompt_tokens'] - usage['prompt_tokens_details']['cached_tokens'], steps() - before, ms


def probe(server, pairs, length, vocabulary, seed=1):
    """[(cost of a warmed prompt, cost of a fresh one)]"""
    rng = random.Random(seed)
    costs = []
    for pair in range(pairs):
        salt = str(pair)  # no pair shares anything with one before
        firsts = rng.sample(range(5, vocabulary), 2)
        warmed, fresh = ([first] + [rng.randrange(5, vocabulary) for _ in range(length - 1)] for first in firsts)
        cost_of(server, warmed, 'victim', salt)
        asked = [warmed, fresh]
        rng.shuffle(asked)
        answered = {id(tokens): cost_of(server, tokens, 'prober', salt) for tokens in asked}
        costs.append((answered[id(warmed)], answered[id(fresh)]))
    return costs


def mann_whitney(a, b):
    """(chance that one of a is larger than one of b, p of no difference), by the normal approximation."""
    ranked = sorted([(value, 0) for value in a] + [(value, 1) for value in b])
    rank_sum, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        rank_sum += sum((at + end + 1) / 2 for i in range(at, end) if ranked[i][1] == 0)
        at = end
    u = rank_sum - len(a) * (len(a) + 1) / 2
    z = (u - len(a) * len(b) / 2) / math.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    return u / (len(a) * len(b)), math.erfc(abs(z) / math.sqrt(2))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--model', default=str(support.SMOLLM2))
    options.add_argument('--pairs', type=int, default=200)
    options.add_argument('--length', type=int, default=96)
    options.add_argument('--vocabulary', type=int, default=400)
    chosen = options.parse_args()
    with support.Server('--tenant-header', TENANT, models=[chosen.model]) as server:
        costs = probe(server, chosen.pairs, chosen.length, chosen.vocabulary)
        own = [cost_of(server, [7] * chosen.length, 'prober') for _ in range(2)]
    warmed, fresh = ([pair[i][2] for pair in costs] for i in range(2))
    effect, p = mann_whitney(warmed, fresh)
    print(json.dumps({
        'pairs': len(costs), 'prompt_tokens': chosen.length,
        'pairs_that_differ_in_tokens_or_steps': sum(a[:2] != b[:2] for a, b in costs),
        'ms_warmed_median': round(statistics.median(warmed), 3), 'ms_fresh_median': round(statistics.median(fresh), 3),
        'ms_own_prefix': round(own[1][2], 3), 'effect': round(effect, 4), 'p': round(p, 4)}, indent=1))


if __name__ == '__main__':
    main()
