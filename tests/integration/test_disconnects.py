"""Clients that leave: whatever the moment, nothing may leak.

HEARTH_DISCONNECTS=100000 python -m pytest -q -s tests/integration/test_disconnects.py -k disconnects

runs as many as that and prints what was held before and after.
"""
import os
import pathlib
import random
import socket
import struct
import time

import support

# 10,000 in the optimised build; sanitized ones get fewer.
COUNT = int(os.environ.get('HEARTH_DISCONNECTS', '10000'))
WINDOW = 48
LEAK_MIB = 8  # 110 bytes of each disconnect, were it 75,000 of them


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    stream.close()


def leave(stream, choice):
    if choice == 0:
        reset(stream)
    elif choice == 1:
        stream.close()
    else:
        stream.shutdown(socket.SHUT_RDWR)
        stream.close()


def resident_mib(server):
    """Of the front and its worker."""
    pages = sum(int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]) for pid in [server.process.pid, *server.workers()])
    return pages * os.sysconf('SC_PAGESIZE') / 2**20


def test_disconnects_leak_no_sequence_cell_descriptor_or_memory(stories_path):
    rng = random.Random(20261121)
    with support.Server('--max-seqs', '16', '--queue', '4096', '--cache-memory', '4MiB', models=[stories_path]) as server:
        before = server.complete('Once upon a time', max_tokens=40, temperature=0)['choices'][0]['text']
        fds = len(os.listdir(f'/proc/{server.process.pid}/fd'))
        open_streams = []
        began = time.monotonic()
        for i in range(COUNT):
            if i == COUNT // 4:  # by then caches have their size
                mib = resident_mib(server)
            body = {'prompt': 'Once upon a time there was a ' + 'big ' * rng.randrange(20), 'max_tokens': rng.choice([1, 5, 60]),
                    'n': rng.choice([1, 1, 1, 3])}
            stream = server.open_stream('/v1/completions', body)
            open_streams.append((stream, rng.randrange(4)))
            # Most leave right after they asked, the others after a while: at every stage of a request.
            while len(open_streams) >= WINDOW or (open_streams and rng.randrange(3) > 0):
                stream, reads = open_streams.pop(rng.randrange(len(open_streams)) if len(open_streams) >= WINDOW else -1)
                if reads == 3:  # leaves with bytes unread, after some arrived
                    stream.settimeout(0.05)
                    try:
                        stream.recv(rng.randrange(1, 2000))
                    except TimeoutError:
                        pass
                leave(stream, rng.randrange(3))
        for stream, _ in open_streams:
            reset(stream)

        def idle():
            return (server.metric('hearth_requests_running') == 0 and server.metric('hearth_requests_waiting') == 0 and
                    server.cells_of_requests() == 0)
        support.wait_until(idle, 'no sequence and no cell in use')
        support.wait_until(lambda: len(os.listdir(f'/proc/{server.process.pid}/fd')) <= fds + 2, 'descriptors closed')
        assert server.complete('Once upon a time', max_tokens=40, temperature=0)['choices'][0]['text'] == before
        assert server.metric('hearth_worker_restarts_total') == 0
        fds_after = len(os.listdir(f'/proc/{server.process.pid}/fd'))
        print(f'{COUNT} disconnects in {time.monotonic() - began:.0f} s: descriptors {fds} before, {fds_after} after; '
              f'resident {mib:.1f} MiB after a quarter, {resident_mib(server):.1f} MiB at the end')
        if COUNT >= 10000:  # sanitizers keep freed memory back
            assert resident_mib(server) < mib + LEAK_MIB


def test_a_reader_that_reads_nothing_holds_up_nobody(stories_path):
    # The never-reading stream is paused by its credit; the other gets its answer.
    with support.Server('--max-seqs', '4', models=[stories_path]) as server:
        stuck = server.open_stream('/v1/completions', {'prompt': 'Once', 'max_tokens': 120, 'n': 2, 'ignore_eos': True})
        started = time.monotonic()
        assert server.complete('Once', max_tokens=20)['usage']['completion_tokens'] > 0
        assert time.monotonic() - started < support.PATIENCE_S / 2
        reset(stuck)
        support.wait_until(lambda: server.metric('hearth_requests_running') == 0, 'the stuck stream is gone')
