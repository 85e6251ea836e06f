#!/usr/bin/env python3
"""Makes a Python environment with pinned packages and prints its interpreter.

    tools/python_env.py REQUIREMENTS FOLDER

Nothing is done when FOLDER was already made from the same requirements and interpreter. Its stamp is written last, so
that what an interrupted call left behind is made anew.
"""
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys
import venv


def say(text):
    print(f'venv: {text}', file=sys.stderr, flush=True)


def make(requirements, folder, key):
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = subprocess.run([folder / 'bin' / 'python', '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet',
                              '--only-binary', ':all:', '-r', requirements],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if install.returncode != 0:
        print(install.stdout, file=sys.stderr)
        say(f'error: pip could not install {requirements}. Is there a network? pip uses its own configuration (pip.conf, '
            'PIP_INDEX_URL, PIP_CERT, HTTPS_PROXY); mend that and run again.')
        return False
    (folder / '.made-from').write_text(key)
    return True


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    requirements, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute()
    try:
        # Scripts and interpreter links inside name the folder and the interpreter: another one of either needs a new one.
        key = hashlib.sha256(f'{sys.version}\n{sys.executable}\n{folder}\n{requirements.read_text()}'.encode()).hexdigest()
        stamp = folder / '.made-from'
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f'{folder}.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (stamp.exists() and stamp.read_text() == key):
                say(f'making {folder} from {requirements}')
                if not make(requirements, folder, key):
                    return 1
    except (OSError, subprocess.CalledProcessError) as error:
        say(f'error: {error}. The packages python3-venv and python3-pip are needed.')
        return 1
    print(folder / 'bin' / 'python')
    return 0


if __name__ == '__main__':
    sys.exit(main())
