import pathlib
import sys
import tempfile
import time
import unittest
import unittest.mock

from suite import environment, process, programs

# Answers /health, first with 503, and has a child that ignores SIGTERM.
SERVER = '''
import http.server, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c",
    "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('child', flush=True); time.sleep(600)"],
    stdout=subprocess.PIPE)
child.stdout.readline()
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        self.send_response(200 if asked > 2 else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''


def alive(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


class Servers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.log = pathlib.Path(self.folder.name) / 'log'

    def server(self, code):
        port = process.free_port()
        return process.Server([sys.executable, '-c', code, port], port, self.log)

    def test_ready_is_the_first_200_and_leaving_ends_the_whole_tree(self):
        with self.server(SERVER) as server:
            self.assertGreater(server.ready_ms, 0)
            members = process.tree(server.pid)
            self.assertEqual(len(members), 2)
            rows = process.memory(server.pid)
            self.assertEqual([r['pid'] for r in rows], members)
            for row in rows:
                self.assertGreater(row['rss_kib'], 1000)
                self.assertLessEqual(row['pss_kib'], row['rss_kib'])
        deadline = time.monotonic() + 10
        while any(alive(p) for p in members) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual([p for p in members if alive(p)], [])

    def test_the_tree_ends_also_when_the_measurement_fails(self):
        with self.assertRaises(ZeroDivisionError):
            with self.server(SERVER) as server:
                pid = server.pid
                raise ZeroDivisionError
        self.assertFalse(alive(pid))

    def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(self):
        with self.assertRaisesRegex(process.MeasureError, 'ended with 3 before it was ready: no such model'):
            with self.server('import sys; print("no such model"); sys.exit(3)'):
                pass

    def test_a_program_that_is_missing_is_an_error(self):
        with self.assertRaises(OSError):
            with process.Server(['/nonexistent/server'], 1, self.log):
                pass
        with self.assertRaisesRegex(process.MeasureError, 'nonexistent'):
            process.run(['/nonexistent/program'], 5)

    def test_run_reports_failure_and_timeout(self):
        self.assertEqual(process.run([sys.executable, '-c', 'print(7)'], 30), '7\n')
        with self.assertRaisesRegex(process.MeasureError, 'ended with 1: .*boom'):
            process.run([sys.executable, '-c', 'raise SystemExit("boom")'], 30)
        with self.assertRaisesRegex(process.MeasureError, 'did not end within 0.2 s'):
            process.run([sys.executable, '-c', 'import time; time.sleep(60)'], 0.2)


class Environment(unittest.TestCase):
    def test_the_machine_is_described(self):
        found = environment.describe(programs.ROOT)
        self.assertGreaterEqual(found['cores'], 1)
        self.assertTrue(0 <= found['busy_share'] <= 1)
        self.assertRegex(found['memory'], r'^\d+ kB$')
        self.assertRegex(found['date'], r'^\d{4}-\d\d-\d\dT')

    def test_a_field_is_found_by_its_whole_name(self):
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name) / 'f'
            path.write_text('NAME_LONG="x"\nno separator\nNAME="Some OS 12"\n')
            self.assertEqual(environment._field(path, 'NAME', '='), 'Some OS 12')
            self.assertEqual(environment._field(path, 'OTHER', '='), '')
            self.assertEqual(environment._field(path / 'missing', 'NAME'), '')


class Programs(unittest.TestCase):
    def test_a_variants_flag_replaces_the_common_one(self):
        load = programs.Load('/m.gguf', 4, 100)
        argv = programs.hearth_server('/h', load, 2, ['--threads', '1', '--debug'], 8)
        self.assertEqual(argv, ['/h', 'serve', '--model', '/m.gguf', '--host', '127.0.0.1', '--port', '8', '--threads', '1', '--max-seqs',
                                '4', '--ctx', '100', '--kv-cells', '400', '--cache-disk', '0', '--debug'])
        argv = programs.llama_server(pathlib.Path('/p'), load, 2, ['-kvu', '-t', '1'], 8)
        self.assertEqual(' '.join(str(a) for a in argv),
                         '/p/llama-server --no-webui -m /m.gguf --host 127.0.0.1 --port 8 -t 1 -tb 2 -np 4 -c 400 -kvu')

    def test_peers_that_are_built_are_not_built_again(self):
        with tempfile.TemporaryDirectory() as name:
            source, folder = pathlib.Path(name) / 'source', pathlib.Path(name) / 'build'
            (folder / 'bin').mkdir(parents=True)
            source.mkdir()
            (source / '.hearth-stamp').write_text('llama 1\n')
            for program in programs.PEER_PROGRAMS:
                (folder / 'bin' / program).write_text('')
            calls = []
            original, process.run = process.run, lambda argv, *_: calls.append(argv[0])
            try:
                self.assertEqual(programs.build_peers(source, folder), folder / 'bin')
                self.assertEqual(calls, ['cmake', 'ninja'])
                programs.build_peers(source, folder)
                self.assertEqual(calls, ['cmake', 'ninja'])
                (source / '.hearth-stamp').write_text('llama 2\n')
                programs.build_peers(source, folder)
                self.assertEqual(calls, ['cmake', 'ninja'] * 2)
            finally:
                process.run = original

    def test_the_version_of_a_plain_folder_follows_its_files(self):
        with tempfile.TemporaryDirectory() as name:
            source = pathlib.Path(name)
            (source / 'a.c').write_text('1')
            before = programs.source_version(source)
            self.assertEqual(before, programs.source_version(source))
            (source / 'a.c').write_text('22')
            self.assertNotEqual(before, programs.source_version(source))

    def test_the_version_of_a_folder_needs_no_git(self):
        with tempfile.TemporaryDirectory() as name, unittest.mock.patch.dict('os.environ', {'PATH': '/nowhere'}):
            self.assertTrue(programs.source_version(pathlib.Path(name)))


if __name__ == '__main__':
    unittest.main()
