"""What clients and operators see of the scheduler, on the real binary."""
import json
import threading

import support
import tenant_probe


def test_a_cancel_by_id_ends_the_stream_and_frees_its_cells(stories_path):
    with support.Server(models=[stories_path]) as server:
        stream = server.open_stream('/v1/completions', {'prompt': 'Once upon a time', 'max_tokens': 100000, 'ignore_eos': True,
                                                        'temperature': 0, 'context_overflow': 'error', 'stream': True})
        seen = support.events(stream)
        first = json.loads(next(seen))
        status, _, body = server.request('GET', '/api/v1/requests')
        assert status == 200 and [entry['id'] for entry in body['requests']] in ([first['id']], [])
        server.request('DELETE', f'/api/v1/requests/{first["id"]}')
        last = None
        for data in seen:
            last = data
        assert last == '[DONE]' or json.loads(last)['error']['code'] == 'request_cancelled'
        support.wait_until(lambda: server.cells_of_requests() == 0, 'no cell in use')
        assert server.request('DELETE', f'/api/v1/requests/{first["id"]}')[0] == 404


def test_slots_and_engine_answer_while_requests_run(stories_path):
    with support.Server('--max-seqs', '4', models=[stories_path]) as server:
        done = threading.Event()

        def load():
            while not done.is_set():
                server.complete('Once upon a time', max_tokens=200, temperature=0)

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(50):
                status, _, slots = server.request('GET', '/slots')
                assert status == 200 and len(slots) >= 4
                status, _, body = server.request('GET', '/api/v1/engine')
                engine = body['models'][0]['engine']
                assert status == 200 and engine['kv']['used'] <= engine['kv']['cells']
        finally:
            done.set()
            for thread in threads:
                thread.join()


def test_tenants_share_nothing(stories_path):
    with support.Server('--tenant-header', 'x-tenant', '--tenant-weight', 'acme=2', models=[stories_path]) as server:
        def cached(tenant):
            body = {'prompt': 'Once upon a time there was a fox', 'max_tokens': 1, 'temperature': 0}
            status, _, answer = server.request('POST', '/v1/completions', body, {'x-tenant': tenant})
            assert status == 200, answer
            return answer['usage']['prompt_tokens_details']['cached_tokens']
        assert cached('acme') == 0
        assert cached('rival') == 0
        assert cached('acme') > 0


def test_neither_tokens_nor_steps_tell_what_another_tenant_computed(stories_path):
    # Time is no test: `python tests/integration/tenant_probe.py` prints what it says.
    with support.Server('--tenant-header', tenant_probe.TENANT, models=[stories_path]) as server:
        for warmed, fresh in tenant_probe.probe(server, 25, 60, 400):
            assert warmed[:2] == fresh[:2] and warmed[0] == 60
        own = [tenant_probe.cost_of(server, [7] * 60, 'prober') for _ in range(2)]
        assert own[0][0] == 60 and own[1][0] == 1, 'the probe sees what is its own'
