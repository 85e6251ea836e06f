"""A model of 1 GB from a server on the same machine: Hearth's pull against curl, and against curl and sha256sum for processor time.

Hearth's time has in it what curl does not do: the hash, and bytes that are on the disk when the file gets its name.
"""
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import time

from .. import gemma_model, programs
from ..figures import CURL, CURL_AND_HASH, CURL_AND_SYNC, HEARTH
from ..file_server import FileServer
from ..process import MeasureError, warm
from .base import NotAvailable, Scene

PATIENCE_S = 300
AFTER_CURL = {CURL_AND_SYNC: ('sync',), CURL_AND_HASH: ('sha256sum',)}


def source(suite):
    """The file that is fetched, written once for the run."""
    path = suite.folder / 'gemma-shaped-270m-f32.gguf'
    if not path.exists():
        gemma_model.write(path, gemma_model.GGML_F32)
    return path


def timed(argv, environment=None):
    """(seconds, processor seconds) of a program, its children included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
                          env=environment)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise MeasureError(f'{argv[0]} ended with {done.returncode}: {done.stderr[-300:]}')
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def visit_program(visit):
    for tool in ('curl', 'sync', 'sha256sum'):
        if visit.subject != HEARTH and not shutil.which(tool):
            raise NotAvailable(f'{tool} is not installed')
    path = source(visit.suite)
    warm(path)
    # Beside the results, where there is room: a folder for temporary files may lie in memory.
    with FileServer(path) as server, tempfile.TemporaryDirectory(dir=visit.suite.folder) as folder:
        target = pathlib.Path(folder) / path.name
        if visit.subject == HEARTH:
            environment = {**os.environ, 'HEARTH_DATA_DIR': folder, 'HTTPS_PROXY': '', 'https_proxy': ''}
            seconds, cpu = timed(programs.hearth_pull(visit.suite.hearth, server.url, folder), environment)
        else:
            seconds, cpu = timed(['curl', '-sS', '--fail', '-o', target, server.url])
        if target.stat().st_size != path.stat().st_size:
            raise MeasureError(f'{target.stat().st_size} of {path.stat().st_size} bytes came')
        if visit.subject in AFTER_CURL:
            more = timed([*AFTER_CURL[visit.subject], target])
            seconds, cpu = seconds + more[0], cpu + more[1]
    visit.draw({'seconds': seconds, 'cpu_s': cpu, 'bytes': path.stat().st_size})
    return {'pull': path.stat().st_size / 1e6 / seconds, 'pull_cpu': cpu}


def finish(suite):
    (suite.folder / 'gemma-shaped-270m-f32.gguf').unlink(missing_ok=True)


SCENE = Scene('pull', sequences=1, context=1, visit=visit_program, rounds=5, subjects=(HEARTH, CURL, CURL_AND_SYNC, CURL_AND_HASH),
              finish=finish)
