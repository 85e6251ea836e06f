#!/usr/bin/env python3
"""Runs clang-tidy over every source of ours and remembers what was clean.

    tools/tidy.py --build BUILD --cache FOLDER [--jobs N] [--quick] [--news] [FILE...]

A file is checked again only when it, a header of ours that it includes (however indirectly), .clang-tidy, its compile
command, third_party.lock or clang-tidy itself has changed. Only clean results are remembered.

Where nothing is remembered, --news saves the most of the time: it leaves out what has not changed since the commit in
tools/tidy-base, at which all files were clean. A finding that only a changed header of others brings is left to a run without it.
"""
import argparse
import concurrent.futures
import hashlib
import json
import pathlib
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIDY = 'clang-tidy-19'
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
CACHED_MAX = 20_000  # entries of a few bytes; past it the oldest half goes
NO_ANALYZER = '-clang-analyzer-*'
# Tests are read for what makes them lie or crash, not for speed and style: the analyzer cannot follow gtest's macros.
IN_TESTS = ('-*,bugprone-use-after-move,bugprone-dangling-handle,bugprone-infinite-loop,misc-unused-parameters,'
            'cppcoreguidelines-avoid-capturing-lambda-coroutines,cppcoreguidelines-no-suspend-with-lock,readability-duplicate-include')
COROUTINE = re.compile(r'\bco_(await|return|yield)\b')


def changes(path, text, analyzer):
    """What is added to the list of .clang-tidy for `path`."""
    if is_test(path):
        return IN_TESTS
    # The analyzer does not model coroutine frames: it finds uninitialised objects in Asio.
    return '' if analyzer and not COROUTINE.search(text) else NO_ANALYZER


def is_test(path):
    return path.name.endswith('_test.cpp') or 'testing' in path.parts or path.is_relative_to(ROOT / 'tests')


class Fingerprints:
    """Digest of a file and, recursively, of our headers it includes."""

    def __init__(self):
        self.texts = {}

    def text(self, path):
        if path not in self.texts:
            self.texts[path] = path.read_text(errors='replace')
        return self.texts[path]

    def closure(self, path):
        seen, waiting = set(), [path]
        while waiting:
            file = waiting.pop()
            if file in seen:
                continue
            seen.add(file)
            for name in INCLUDE.findall(self.text(file)):
                waiting += [c for c in (ROOT / 'src' / name, ROOT / 'tests' / name, file.parent / name) if c.is_file()]
        return sorted(seen)

    def of(self, path, *more):
        digest = hashlib.sha256()
        for part in more:
            digest.update(part.encode() + b'\0')
        for file in self.closure(path):
            digest.update(file.relative_to(ROOT).as_posix().encode() + b'\0' + self.text(file).encode() + b'\0')
        return digest.hexdigest()


def commands(build):
    rows = json.loads((build / 'compile_commands.json').read_text())
    ours = {}
    for row in rows:
        path = pathlib.Path(row['directory'], row['file']).resolve()
        if path.is_relative_to(ROOT / 'src') or path.is_relative_to(ROOT / 'tests'):
            # Paths differ between checkouts, what is compiled does not.
            ours[path] = ' '.join(shlex.split(row.get('command', ''))).replace(str(build), '').replace(str(ROOT), '')
    return ours


def news(base):
    """Files of ours that are not what they were at commit `base`; None: all may be news."""
    known = subprocess.run(['git', 'diff', '--name-only', '-z', base, '--'], cwd=ROOT, capture_output=True, text=True)
    added = subprocess.run(['git', 'ls-files', '--others', '--exclude-standard', '-z'], cwd=ROOT, capture_output=True, text=True)
    if known.returncode or added.returncode:
        return None  # the history does not reach so far back
    names = set((known.stdout + added.stdout).split('\0'))
    return None if names & {'.clang-tidy', 'third_party.lock'} else {ROOT / name for name in names if name}


def check(path, build, changed):
    started = time.monotonic()
    reduced = [f'--checks={changed}'] if changed else []
    result = subprocess.run([TIDY, '-p', build, '--quiet', *reduced, path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, errors='replace')
    # stderr counts suppressed warnings; it matters only when there is nothing else.
    return result.returncode, result.stdout or (result.stderr if result.returncode else ''), time.monotonic() - started


def prune(cache):
    entries = sorted(cache.iterdir(), key=lambda p: p.stat().st_mtime)
    if len(entries) > CACHED_MAX:
        for entry in entries[:len(entries) // 2]:
            entry.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--build', type=pathlib.Path, required=True, help='a configured build folder (compile_commands.json)')
    parser.add_argument('--cache', type=pathlib.Path, required=True, help='folder that remembers clean files')
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--quick', action='store_true', help='without tests and clang-analyzer-*, a fifth of the time')
    parser.add_argument('--news', action='store_true', help='only what changed since the commit in tools/tidy-base')
    parser.add_argument('files', nargs='*', type=pathlib.Path, help='only these')
    options = parser.parse_args()

    build = options.build.resolve()
    ours = commands(build)
    if not ours:
        print(f'tidy: {build}/compile_commands.json names no file of {ROOT}', file=sys.stderr)
        return 1
    if options.files:
        wanted = {f.resolve() for f in options.files}
        if unknown := wanted - set(ours):
            print('tidy: not compiled in this build: ' + ', '.join(map(str, sorted(unknown))), file=sys.stderr)
            return 1
        ours = {path: command for path, command in ours.items() if path in wanted}
    version = subprocess.run([TIDY, '--version'], capture_output=True, text=True, check=True).stdout
    common = [version, (ROOT / '.clang-tidy').read_text(), (ROOT / 'third_party.lock').read_text()]
    options.cache.mkdir(parents=True, exist_ok=True)
    prints = Fingerprints()
    if options.quick:
        ours = {path: command for path, command in ours.items() if not is_test(path)}
    fresh = news((ROOT / 'tools' / 'tidy-base').read_text().strip()) if options.news else None
    if fresh is not None:
        ours = {path: command for path, command in ours.items() if path in fresh or path.with_suffix('.h') in fresh}
    changed = {path: changes(path, prints.text(path), not options.quick) for path in ours}
    keys = {path: options.cache / prints.of(path, command, changed[path], *common) for path, command in ours.items()}
    todo = sorted((path for path in keys if not keys[path].exists()), key=lambda p: -p.stat().st_size)
    print(f'tidy: {len(keys)} files, {len(keys) - len(todo)} known to be clean', flush=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        running = {pool.submit(check, path, build, changed[path]): path for path in todo}
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            path = running[future]
            status, output, seconds = future.result()
            print(f'[{done}/{len(todo)}] {path.relative_to(ROOT)} {seconds:.0f} s{"" if status == 0 else " FAILED"}', flush=True)
            if status == 0:
                keys[path].touch()
            else:
                failed += 1
                print(output, flush=True)
    prune(options.cache)
    print(f'tidy: {failed} of {len(keys)} files have findings' if failed else f'tidy: {len(keys)} files clean')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
