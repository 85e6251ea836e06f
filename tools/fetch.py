#!/usr/bin/env python3
"""Fetches what third_party.lock pins into the user's cache folder.

    tools/fetch.py [NAME...]           fetch what is missing (all artifacts without a NAME), print each path
    tools/fetch.py --verify [NAME...]  check what is there again, byte for byte; fetch nothing
    tools/fetch.py --remove [NAME...]  delete it, and with it the downloaded file

Only the standard library is used; pip or npm does the download. A file is used only when its SHA-256 is the pinned
one, and pip itself is told the hash, so that an sdist's code never runs before its bytes were checked; npm runs none. What is extracted
appears in one rename, beside a stamp that names version and hash: a second call only reads the stamps. Concurrent
calls wait for one another.

The cache folder is $XDG_CACHE_HOME/hearth, else ~/.cache/hearth. An artifact with an `override` variable that is
set in the environment is not fetched; the folder it names is used as it is.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIRED = {'name', 'about', 'licence', 'registry', 'package', 'version', 'kind', 'file', 'bytes', 'sha256', 'extract', 'into'}
OPTIONAL = {'extracted_bytes', 'extracted_sha256', 'override', 'override_file'}
KINDS = {'pypi': ('sdist', 'wheel'), 'npm': ('tarball',)}  # of a registry; all but a wheel are tar files
LOCK_WAIT_S = 1800  # longer than any download worth waiting for


class FetchError(Exception):
    """Its text says what failed and how to go on."""


def say(text):
    print(f'fetch: {text}', file=sys.stderr, flush=True)


def default_cache():
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (pathlib.Path(base) if base.startswith('/') else pathlib.Path.home() / '.cache') / 'hearth'


def read_lock(path):
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise FetchError(f'{path}: {error}') from None
    for artifact in data.get('artifact', []):
        keys, name = set(artifact), artifact.get('name', '?')
        if missing := REQUIRED - keys:
            raise FetchError(f'{path}: artifact {name} lacks {", ".join(sorted(missing))}')
        if unknown := keys - REQUIRED - OPTIONAL:
            raise FetchError(f'{path}: artifact {name} has unknown {", ".join(sorted(unknown))}')
        if artifact['kind'] not in KINDS.get(artifact['registry'], ()):
            raise FetchError(f'{path}: artifact {name}: only sdist and wheel from pypi and tarball from npm are known')
        for part in (artifact['file'], artifact['into'], artifact['extract']):
            if part.startswith('/') or '..' in part.split('/'):
                raise FetchError(f'{path}: artifact {name}: "{part}" must be a relative path without ".."')
    return data.get('artifact', []), data.get('tool', [])


def sha256_of(path):
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


# --- what is there already ---------------------------------------------------

def stamp_path(target, artifact):
    return target.parent / f'.{target.name}.stamp' if 'extracted_sha256' in artifact else target / '.hearth-stamp'


def stamp_text(target, artifact):
    """What the stamp of `target` must say; size and time tell a file that was changed since it was checked."""
    stamp = {key: artifact[key] for key in ('package', 'version', 'sha256', 'extract')}
    if 'extracted_sha256' in artifact:
        stat = target.stat()
        stamp |= {'extracted_sha256': artifact['extracted_sha256'], 'bytes': stat.st_size, 'mtime_ns': stat.st_mtime_ns}
    return json.dumps(stamp, sort_keys=True)


def is_current(target, artifact):
    try:
        return stamp_path(target, artifact).read_text() == stamp_text(target, artifact)
    except OSError:
        return False


def write_stamp(target, artifact):
    path = stamp_path(target, artifact)
    fresh = path.with_name(f'{path.name}.{os.getpid()}')
    fresh.write_text(stamp_text(target, artifact))
    fresh.rename(path)


def check_extracted(path, artifact):
    got = sha256_of(path)
    if got != artifact['extracted_sha256']:
        raise FetchError(f'{path}: SHA-256 is {got}, third_party.lock pins {artifact["extracted_sha256"]}. '
                         'Delete the file and run again.')


def override_of(artifact):
    """The folder the user named instead of the pinned source, checked, or None."""
    variable = artifact.get('override')
    value = os.environ.get(variable, '') if variable else ''
    if not value:
        return None
    path, needed = pathlib.Path(value), artifact.get('override_file', 'CMakeLists.txt')
    if not path.is_absolute() or not (path / needed).is_file():
        raise FetchError(f'{variable}={value} is not an absolute path of a source tree (no {needed} in it). '
                         f'Correct it, or unset it to use the pinned {artifact["name"]}.')
    return path


@contextlib.contextmanager
def exclusive(cache):
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / 'fetch.lock').open('a') as lock:
        deadline = time.monotonic() + LOCK_WAIT_S
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say(f'another fetch holds {lock.name}; waiting')
                waiting = True
                if time.monotonic() > deadline:
                    raise FetchError(f'{lock.name} is still held after {LOCK_WAIT_S} s; end the other fetch and run again') from None
                time.sleep(0.2)
        yield


# --- download ----------------------------------------------------------------

def run(command, what, hint):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors='replace')
    if result.returncode != 0:
        tail = '\n'.join('    ' + line for line in result.stdout.strip().splitlines()[-12:])
        raise FetchError(f'{what} failed ({" ".join(map(str, command[:4]))} ... exited {result.returncode}):\n{tail}\n{hint}')


def requirements(rows):
    return ''.join(f'{row["package"]}=={row["version"]} --hash=sha256:{row["sha256"]}\n' for row in rows)


def pip_environment(cache, tools):
    """Python of a private environment with pip and the pinned tools."""
    wanted = requirements(tools)
    folder = cache / 'tools' / f'pip-{hashlib.sha256((sys.version + wanted).encode()).hexdigest()[:16]}'
    python = folder / 'bin' / 'python'
    if (folder / '.complete').exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        venv.create(folder, with_pip=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise FetchError(f'cannot make a Python environment in {folder}: {error}. Install python3-venv and python3-pip.') from None
    listing = folder / 'requirements.txt'
    listing.write_text(wanted)
    run([python, '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet', '--no-deps', '--only-binary', ':all:',
         '--require-hashes', '-r', listing], 'installing the pinned download tools', NETWORK_HINT)
    (folder / '.complete').touch()
    return python


NETWORK_HINT = ('Is there a network? pip and npm use their own configuration (pip.conf, PIP_INDEX_URL, .npmrc, HTTPS_PROXY); '
                'mend that and run again, what is done already is kept.')


def pip_download(artifact, cache, tools, scratch, hint):
    listing = scratch / 'requirements.txt'
    listing.write_text(requirements([artifact]))
    kind = ['--no-binary', ':all:', '--no-build-isolation'] if artifact['kind'] == 'sdist' else ['--only-binary', ':all:']
    run([pip_environment(cache, tools), '-m', 'pip', '--disable-pip-version-check', 'download', '--quiet', '--no-deps', '--no-cache-dir',
         *kind, '--require-hashes', '-r', listing, '--dest', scratch], f'downloading {artifact["package"]} {artifact["version"]}', hint)
    listing.unlink()


def npm_download(artifact, scratch, hint):
    if shutil.which('npm') is None:
        raise FetchError(f'npm is needed to download {artifact["package"]} and is not installed.\n{hint}')
    run(['npm', 'pack', '--ignore-scripts', '--pack-destination', scratch, f'{artifact["package"]}@{artifact["version"]}'],
        f'downloading {artifact["package"]} {artifact["version"]}', hint)


def download(artifact, cache, tools):
    """The artifact's file in the cache, with the pinned hash."""
    folder = cache / 'downloads'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / artifact['file']
    if path.exists():
        got = sha256_of(path)
        if got == artifact['sha256']:
            return path
        say(f'{path} has SHA-256 {got}, pinned is {artifact["sha256"]}: downloading it again')
    say(f'downloading {artifact["package"]} {artifact["version"]} ({artifact["bytes"] / 1e6:.0f} MB) for {artifact["name"]}')
    hint = f'{NETWORK_HINT}\nWithout one: put {artifact["file"]} (SHA-256 {artifact["sha256"]}) into {folder} by hand.'
    if artifact.get('override'):
        hint += f'\nOr set {artifact["override"]} to a source tree of your own.'
    with tempfile.TemporaryDirectory(dir=folder, prefix='.fetch-') as name:
        scratch = pathlib.Path(name)
        if artifact['registry'] == 'npm':
            npm_download(artifact, scratch, hint)
        else:
            pip_download(artifact, cache, tools, scratch, hint)
        fresh = scratch / artifact['file']
        if not fresh.exists():
            there = ', '.join(sorted(p.name for p in scratch.iterdir()))
            raise FetchError(f'{artifact["registry"]} gave {there or "nothing"} where third_party.lock names {artifact["file"]}')
        got = sha256_of(fresh)
        if got != artifact['sha256']:
            raise FetchError(f'{artifact["file"]}: SHA-256 is {got}, third_party.lock pins {artifact["sha256"]}. Refused.')
        fresh.replace(path)
    return path


# --- extraction --------------------------------------------------------------

def unpack_tree(archive, prefix, folder):
    """The files below `prefix` of a tar file. Links and devices are refused. Times are those of now: a newer version
    with old times would look built already."""
    count = 0
    with tarfile.open(archive, 'r:*') as tar:
        for member in tar:
            if not member.name.startswith(prefix + '/'):
                continue
            relative = member.name[len(prefix) + 1:]
            if '..' in relative.split('/') or not (member.isfile() or member.isdir()):
                raise FetchError(f'{archive}: {member.name} is not a plain file or folder below {prefix}. Refused.')
            target = folder / relative
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, target.open('wb') as out:
                shutil.copyfileobj(source, out, 1 << 20)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
            count += 1
    if count == 0:
        raise FetchError(f'{archive}: nothing below {prefix}; third_party.lock and the file do not belong together')


def unpack_file(archive, name, target):
    with zipfile.ZipFile(archive) as wheel:
        try:
            member = wheel.open(name)
        except KeyError:
            raise FetchError(f'{archive}: no {name} inside; third_party.lock and the file do not belong together') from None
        with member as source, target.open('wb') as out:
            shutil.copyfileobj(source, out, 1 << 20)


def unpack_wheel_tree(archive, prefix, folder):
    """The files below `prefix` of a wheel."""
    count = 0
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            if not name.startswith(prefix + '/') or name.endswith('/'):
                continue
            relative = name[len(prefix) + 1:]
            if '..' in relative.split('/'):
                raise FetchError(f'{archive}: {name} is not a plain file below {prefix}. Refused.')
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(name) as source, target.open('wb') as out:
                shutil.copyfileobj(source, out, 1 << 20)
            count += 1
    if count == 0:
        raise FetchError(f'{archive}: nothing below {prefix}; third_party.lock and the file do not belong together')


def unpack(archive, artifact, fresh):
    """A single file if its hash is pinned, else a folder."""
    if 'extracted_sha256' in artifact:
        unpack_file(archive, artifact['extract'], fresh)
    elif artifact['kind'] == 'wheel':
        unpack_wheel_tree(archive, artifact['extract'], fresh)
    else:
        unpack_tree(archive, artifact['extract'], fresh)


def replace(fresh, target):
    """Puts `fresh` where `target` is. A folder that is there moves aside first, so nobody ever sees half of one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        aside = fresh.parent / 'replaced'
        target.rename(aside)
    fresh.rename(target)


def extract(archive, artifact, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix='.unpack-') as scratch:
        fresh = pathlib.Path(scratch) / 'fresh'
        unpack(archive, artifact, fresh)
        if 'extracted_sha256' in artifact:
            check_extracted(fresh, artifact)
        replace(fresh, target)


# --- commands ----------------------------------------------------------------

def fetch(artifact, cache, tools):
    if path := override_of(artifact):
        return path
    target = cache / artifact['into']
    if is_current(target, artifact):
        return target
    with exclusive(cache):
        if is_current(target, artifact):  # somebody else fetched it while we waited
            return target
        if 'extracted_sha256' in artifact and target.is_file() and sha256_of(target) == artifact['extracted_sha256']:
            write_stamp(target, artifact)
            return target
        archive = download(artifact, cache, tools)
        say(f'unpacking {artifact["name"]} into {target}')
        extract(archive, artifact, target)
        write_stamp(target, artifact)
    return target


def verify(artifact, cache):
    if path := override_of(artifact):
        say(f'{artifact["name"]}: {path} was chosen by hand, nothing is pinned')
        return path
    target = cache / artifact['into']
    if not is_current(target, artifact):
        raise FetchError(f'{target} is missing, changed or of another version. Run tools/fetch.py {artifact["name"]}.')
    if 'extracted_sha256' in artifact:
        check_extracted(target, artifact)
        return target
    archive = cache / 'downloads' / artifact['file']
    if not archive.exists() or sha256_of(archive) != artifact['sha256']:
        raise FetchError(f'{archive} is missing or changed, so {target} cannot be compared with it. Delete both and fetch again.')
    with tempfile.TemporaryDirectory(prefix='hearth-verify-') as scratch:
        unpack(archive, artifact, pathlib.Path(scratch))
        differing = compare(pathlib.Path(scratch), target)
    if differing:
        raise FetchError(f'{target} differs from {archive.name}: {", ".join(differing[:5])}'
                         f'{" and more" if len(differing) > 5 else ""}. Delete the folder and fetch again.')
    return target


def remove(artifact, cache):
    target = cache / artifact['into']
    with exclusive(cache):
        for path in (stamp_path(target, artifact), cache / 'downloads' / artifact['file'], target):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return target


def compare(expected, actual):
    files = {p.relative_to(expected).as_posix() for p in expected.rglob('*') if p.is_file()}
    there = {p.relative_to(actual).as_posix() for p in actual.rglob('*') if p.is_file()} - {'.hearth-stamp'}
    same = {name for name in files & there if (expected / name).read_bytes() == (actual / name).read_bytes()}
    return sorted((files | there) - same)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', metavar='NAME', help='artifact of the lock file; all without one')
    parser.add_argument('--lock', type=pathlib.Path, default=ROOT / 'third_party.lock', metavar='FILE')
    parser.add_argument('--cache', type=pathlib.Path, default=None, metavar='DIR', help='instead of the user\'s cache folder')
    parser.add_argument('--verify', action='store_true', help='check what is there byte for byte, fetch nothing')
    parser.add_argument('--remove', action='store_true', help='delete what was fetched, download included')
    options = parser.parse_args(arguments)
    command = verify if options.verify else remove if options.remove else lambda artifact, where: fetch(artifact, where, tools)
    try:
        artifacts, tools = read_lock(options.lock)
        known = [a['name'] for a in artifacts]
        if unknown := [n for n in options.names if n not in known]:
            raise FetchError(f'no artifact {", ".join(unknown)} in {options.lock}; there are: {", ".join(known)}')
        cache = (options.cache or default_cache()).absolute()
        for artifact in artifacts:
            if not options.names or artifact['name'] in options.names:
                print(command(artifact, cache))
    except FetchError as error:
        say(f'error: {error}')
        return 1
    except OSError as error:
        say(f'error: {error}. Is the disk full, or the cache folder not yours?')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
