"""Prefixes that outlive the server: on disk, after kill -9, sealed, damaged, without a disk."""
import json
import pathlib
import signal
import subprocess

import pytest

from support import SMOLLM2, STORIES, Server, wait_until

MODEL = SMOLLM2 if SMOLLM2.exists() else STORIES
LONG = 'You are the keeper of a lighthouse. ' + ' '.join(f'Rule {n}: the lamp number {n} is lit at hour {n % 24}.' for n in range(40))
FIRST = [{'role': 'system', 'content': LONG}, {'role': 'user', 'content': 'Which lamp is lit first?'}]


def say(server, messages):
    """(text, cached tokens, prompt tokens)"""
    status, _, body = server.request('POST', '/v1/chat/completions',
                                     {'messages': messages, 'temperature': 0, 'max_tokens': 40})
    assert status == 200, body
    usage = body['usage']
    return (body['choices'][0]['message']['content'], usage['prompt_tokens_details']['cached_tokens'],
            usage['prompt_tokens'])


def second_turn(answer):
    return FIRST + [{'role': 'assistant', 'content': answer}, {'role': 'user', 'content': 'And which is last?'}]


def written(server):
    """Waits until what was computed is on disk."""
    tokens = 400
    wait_until(lambda: server.metric('hearth_prefix_cache_written_bytes_total') > tokens * 100, 'files are written')
    last = [0]

    def stands_still():
        now = server.metric('hearth_prefix_cache_written_bytes_total')
        # A worker reports four times a second: equal twice in a row says that nothing is on its way.
        still = now == last[-1] and len(last) > 200
        last.append(now)
        return still
    wait_until(stands_still, 'the last file is written')


def test_a_chat_goes_on_after_kill_9(tmp_path):
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB')
    server = Server(*flags, models=[MODEL])
    try:
        first, cached, _ = say(server, FIRST)
        assert cached == 0
        written(server)
    finally:
        server.stop(signal.SIGKILL)
        server.log.close()
    with Server('--no-prefix-cache', models=[MODEL]) as server:
        plain, cached, prompt = say(server, second_turn(first))
        assert cached == 0
    with Server(*flags, models=[MODEL]) as server:
        text, cached, _ = say(server, second_turn(first))
        assert cached > prompt * 0.9, 'the conversation was not computed again'
        assert text == plain
        assert server.metric('hearth_prefix_cache_disk_tokens_total') == cached
        assert server.metric('hearth_prefix_cache_errors_total') == 0


def test_who_stops_right_after_an_answer_loses_nothing_of_it(tmp_path):
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB')
    long = [{'role': 'user', 'content': ' '.join(f'Fact {n} is {n * 7}.' for n in range(140))}]  # more than may wait to be written
    with Server(*flags, models=[MODEL]) as server:
        first, _, _ = say(server, long)
    with Server(*flags, models=[MODEL]) as server:
        turn = [*long, {'role': 'assistant', 'content': first}, {'role': 'user', 'content': 'Go on.'}]
        _, cached, prompt = say(server, turn)
        assert cached > prompt * 0.9, (cached, prompt)


def test_an_answer_cut_short_by_kill_9_is_not_all_lost(tmp_path):
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB')
    server = Server(*flags, models=[MODEL])
    request = {'prompt': LONG, 'temperature': 0, 'max_tokens': 1500, 'ignore_eos': True, 'stream': True}
    said = ''
    try:
        stream = server.open_stream('/v1/completions', request)
        with stream, stream.makefile('r') as lines:
            for line in lines:
                if line.startswith('data: {'):
                    choices = json.loads(line[6:])['choices']
                    said += choices[0]['text'] if choices else ''
                if len(said) > 2500:
                    break
            server.stop(signal.SIGKILL)  # in the middle of it
    finally:
        server.log.close()
    with Server(*flags, models=[MODEL]) as server:
        body = server.complete(LONG + said, temperature=0, max_tokens=4)
        cached, prompt = body['usage']['prompt_tokens_details']['cached_tokens'], body['usage']['prompt_tokens']
        only_prompt = server.complete(LONG, temperature=0, max_tokens=1)['usage']['prompt_tokens']
        assert cached > only_prompt + (prompt - only_prompt) * 0.2, 'some of the answer is on disk'


def test_two_servers_share_a_folder_and_its_bound(tmp_path):
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB')
    with Server(*flags, models=[MODEL]) as one, Server(*flags, models=[MODEL]) as other:
        first, _, _ = say(one, FIRST)
        written(one)
        assert say(other, FIRST)[0] == first
        for server in (one, other):
            assert server.metric('hearth_prefix_cache_errors_total') == 0
    with Server(*flags, models=[MODEL]) as server:
        text, cached, _ = say(server, FIRST)
        assert text == first and cached > 0


def test_folders_of_models_nobody_uses_are_removed(tmp_path):
    old, folder = tmp_path / ('0' * 32), tmp_path / 'notes'
    for path in (old, folder):
        path.mkdir(mode=0o700)
        (path / f"{'0' * 32}-{'1' * 32}.kv").write_bytes(b'x' * 4096)
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB', '--cache-disk-total')
    with Server(*flags, '1MiB', models=[MODEL]) as server:
        say(server, FIRST)
        assert old.exists(), 'there is room'
    with Server(*flags, '1', models=[MODEL]) as server:
        say(server, FIRST)
        assert not old.exists() and folder.exists()


def test_files_are_the_users_alone_and_damaged_ones_are_not_used(tmp_path):
    flags = ('--cache-dir', str(tmp_path), '--cache-disk', '1GiB')
    with Server(*flags, models=[MODEL]) as server:
        first, _, _ = say(server, FIRST)
        written(server)
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert files and all(path.suffix == '.kv' and path.stat().st_mode & 0o777 == 0o600 for path in files)
    for path in files:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with Server(*flags, models=[MODEL]) as server:
        text, cached, _ = say(server, FIRST)
        assert (text, cached) == (first, 0)
        assert server.metric('hearth_prefix_cache_errors_total') > 0


def test_sealed_files_hold_no_text_and_need_their_key(tmp_path):
    key, other = tmp_path / 'key', tmp_path / 'other'
    for path, digit in ((key, 'a'), (other, 'b')):
        path.write_text(digit * 64)
        path.chmod(0o600)
    folder = tmp_path / 'kv'
    flags = ('--cache-dir', str(folder), '--cache-disk', '1GiB', '--cache-key-file')
    with Server(*flags, str(key), models=[MODEL]) as server:
        first, _, _ = say(server, FIRST)
        written(server)
        arguments = pathlib.Path(f'/proc/{server.workers()[0]}/cmdline').read_text()
        assert 'a' * 64 not in arguments, 'the key is no argument'
    assert {path.suffix for path in folder.rglob('*') if path.is_file()} == {'.kvs'}
    with Server(*flags, str(other), models=[MODEL]) as server:
        assert say(server, FIRST)[1] == 0
    with Server(*flags, str(key), models=[MODEL]) as server:
        text, cached, _ = say(server, FIRST)
        assert text == first and cached > 0


def test_a_folder_that_cannot_be_used_is_said_and_gone_without(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('no folder')
    with Server('--cache-dir', str(blocked), '--cache-disk', '1GiB', models=[MODEL]) as server:
        assert say(server, FIRST)[0]
        assert 'the prefix cache stays in memory' in server.log_text()


def test_a_full_disk_costs_the_cache_and_nothing_else(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'hearth-test', str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'a small disk cannot be mounted here: {mounted.stderr.strip()}')
    try:
        flags = ('--cache-dir', str(disk), '--cache-disk', '1GiB')
        with Server(*flags, models=[MODEL]) as server:
            first, _, _ = say(server, FIRST)
            wait_until(lambda: server.metric('hearth_prefix_cache_errors_total') > 0, 'the disk to be full')
            text, cached, _ = say(server, FIRST)
            assert text == first and cached > 0, 'it goes on from memory'
            assert server.metric('hearth_worker_restarts_total') == 0
            assert server.request('GET', '/health')[0] == 200
        # What was left half written is not used.
        with Server(*flags, models=[MODEL]) as server:
            assert say(server, FIRST)[0] == first
    finally:
        subprocess.run(['umount', str(disk)], check=True)


@pytest.mark.parametrize('flag, value, says', [
    ('--cache-disk', '4 gigs', "got '4 gigs'"),
    ('--cache-memory', '-1', "got '-1'"),
    ('--cache-key-file', '/nowhere/key', '/nowhere/key'),
])
def test_a_wrong_flag_is_named(flag, value, says):
    with pytest.raises(AssertionError) as raised:
        Server(f'{flag}={value}', models=[MODEL])
    assert flag in str(raised.value) and says in str(raised.value)
