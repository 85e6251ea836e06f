"""What is run: how Hearth and llama.cpp's programs are built, found and called. All flags are here and nowhere else."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

from . import process

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT.parent / 'shared' / 'data'  # public data, no part of this repository
PEER_PROGRAMS = ('llama-server', 'llama-bench', 'llama-batched-bench')
PEER_CMAKE = ['-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_C_COMPILER=clang-19', '-DCMAKE_CXX_COMPILER=clang++-19',
              '-DCMAKE_C_COMPILER_LAUNCHER=ccache', '-DCMAKE_CXX_COMPILER_LAUNCHER=ccache', '-DBUILD_SHARED_LIBS=OFF',
              '-DGGML_NATIVE=ON', '-DLLAMA_CURL=OFF', '-DLLAMA_BUILD_TESTS=OFF', '-DLLAMA_BUILD_EXAMPLES=OFF', '-DLLAMA_BUILD_UI=OFF',
              '-DLLAMA_BUILD_WEBUI=OFF', '-DLLAMA_OPENSSL=OFF']
BUILD_TIMEOUT_S = 3600
SWAP_CONTEXT = 2048


def say(text):
    print(f'bench: {text}', file=sys.stderr, flush=True)


def cache_folder():
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (pathlib.Path(base) if base.startswith('/') else pathlib.Path.home() / '.cache') / 'hearth'


# --- the peers' build ---------------------------------------------------------

def source_version(source):
    """A name for the source's content: its stamp, its commit with a digest of what differs, or a digest of the tree's files."""
    stamp = source / '.hearth-stamp'
    if stamp.is_file():
        return stamp.read_text().strip()
    if shutil.which('git'):
        git = subprocess.run(['git', '-C', source, 'describe', '--always', '--abbrev=40', '--dirty'], capture_output=True, text=True)
        if git.returncode == 0 and not git.stdout.strip().endswith('-dirty'):
            return git.stdout.strip()
    digest = hashlib.sha256()
    for path in sorted(source.rglob('*')):
        if path.is_file() and '.git' not in path.parts:
            stat = path.stat()
            digest.update(f'{path.relative_to(source)} {stat.st_size} {stat.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def build_peers(source, folder):
    """llama.cpp's programs from `source`, native and optimised; returns their folder. Nothing is done when they are there."""
    key = json.dumps([source_version(source), str(source), PEER_CMAKE])
    stamp, programs = folder / '.hearth-bench-stamp', folder / 'bin'
    if stamp.is_file() and stamp.read_text() == key and all((programs / p).is_file() for p in PEER_PROGRAMS):
        return programs
    cache = folder / 'CMakeCache.txt'
    if cache.is_file() and f'CMAKE_HOME_DIRECTORY:INTERNAL={source}\n' not in cache.read_text():
        shutil.rmtree(folder)  # configured from another source tree
    say(f'building {", ".join(PEER_PROGRAMS)} from {source} (some minutes, once)')
    folder.mkdir(parents=True, exist_ok=True)
    jobs = os.environ.get('HEARTH_JOBS') or str(os.cpu_count())
    process.run(['cmake', '-S', source, '-B', folder, *PEER_CMAKE], 600, folder / 'hearth-configure.log')
    process.run(['ninja', '-j', jobs, '-C', folder, *PEER_PROGRAMS], BUILD_TIMEOUT_S, folder / 'hearth-build.log')
    stamp.write_text(key)
    return programs


# --- the two servers ----------------------------------------------------------

class Load:
    """A model and the context settings that both servers get."""

    def __init__(self, model, sequences, context):
        self.model, self.sequences, self.context = pathlib.Path(model), sequences, context

    @property
    def cells(self):
        return self.sequences * self.context


# Name of a variant -> flags added to the common ones. The suite tries each once and keeps the best per figure.
LLAMA_VARIANTS = {
    'default': [],
    'fa on': ['-fa', 'on'],
    'fa off': ['-fa', 'off'],
    'kv unified': ['-kvu'],
    'kv unified, fa off': ['-kvu', '-fa', 'off'],
    'poll 100': ['--poll', '100'],
    'poll 0': ['--poll', '0'],
}
LLAMA_SMALL_VARIANTS = {'default': [], '1 thread': ['-t', '1', '-tb', '1'], 'poll 0': ['--poll', '0']}
HEARTH_VARIANTS = {'default': []}
HEARTH_SMALL_VARIANTS = {'default': [], '1 thread': ['--threads', '1']}


def hearth_server(program, load, threads, flags, port):
    """Flags given twice: the variant's replaces the common one."""
    common = {'--model': load.model, '--host': '127.0.0.1', '--port': port, '--threads': threads, '--max-seqs': load.sequences,
              '--ctx': load.context, '--kv-cells': load.cells, '--cache-disk': '0'}  # cold must be cold
    return [program, 'serve', *_merged(common, flags)]


def hearth_flags(program):
    """The flags that this `hearth serve` knows."""
    return frozenset(re.findall(r'--[a-z][a-z-]*', process.run([program, 'serve', '--help'], 30)))


def llama_server(programs, load, threads, flags, port):
    common = {'-m': load.model, '--host': '127.0.0.1', '--port': port, '-t': threads, '-tb': threads, '-np': load.sequences,
              '-c': load.cells}
    return [programs / 'llama-server', '--no-webui', *_merged(common, flags)]


def hearth_swapping(program, models, port):
    """Room in memory for the larger of the models, too little for both."""
    def bytes_of(model):
        return json.loads(process.run([program, 'estimate', model, '--json', '--kv-cells', SWAP_CONTEXT], 60))['total_bytes']
    sizes = [bytes_of(model) for model in models]
    return [program, 'serve', '--host', '127.0.0.1', '--port', port, '--lazy', '--memory', int(max(sizes) * 1.02 + 4e6), '--ctx',
            SWAP_CONTEXT, '--kv-cells', SWAP_CONTEXT, '--cache-disk', '0', '--cache-memory', '0',
            *(part for model in models for part in ('--model', model))]


def llama_router(programs, folder, port, flags):
    return [programs / 'llama-server', '--models-dir', folder, '--models-max', '1', '--host', '127.0.0.1', '--port', port, '-c',
            SWAP_CONTEXT, '-np', '1', '--no-webui', *flags]


def shown(argv):
    """A command as the reports show it."""
    return ' '.join(pathlib.Path(str(a)).name if str(a).startswith('/') else str(a) for a in argv)


def _merged(common, flags):
    merged, rest = dict(common), list(flags)
    extra = []
    while rest:
        flag = rest.pop(0)
        if flag in merged:
            merged[flag] = rest.pop(0)
        else:
            extra.append(flag)
    return [str(part) for pair in merged.items() for part in pair] + extra


# --- llama.cpp's own benchmarks: the bound of the kernels ---------------------

FLASH = {'default': [], 'fa on': ['-fa', 'on'], 'fa off': ['-fa', 'off']}
BATCHED_VARIANTS = {'default': [], 'fa off': ['-fa', 'off'], 'kv unified': ['-kvu'], 'kv unified, fa off': ['-kvu', '-fa', 'off']}


def llama_bench(programs, model, threads, prompt_tokens, output_tokens, flags, raw):
    """({'pp512': tokens/s, 'tg128': tokens/s, ...}, parameters of the model), one repetition after its own warm-up."""
    out = process.run([programs / 'llama-bench', '-m', model, '-t', threads, '-p', ','.join(map(str, prompt_tokens)), '-n',
                       output_tokens, '-r', 1, '-o', 'json', *flags], 900, raw)
    rows = json.loads(out)
    rates = {f'pp{row["n_prompt"]}' if row['n_prompt'] else f'tg{row["n_gen"]}': row['avg_ts'] for row in rows}
    return rates, rows[0]['model_n_params']


def batched_bench(programs, load, threads, prompt_tokens, output_tokens, sequences, flags, raw):
    """Aggregate decode tokens/s by number of sequences."""
    out = process.run([programs / 'llama-batched-bench', '-m', load.model, '-t', threads, '-tb', threads, '-c', load.cells, '-npp',
                       prompt_tokens, '-ntg', output_tokens, '-npl', ','.join(map(str, sequences)), '--output-format', 'jsonl', *flags],
                      900, raw)
    rows = [json.loads(line) for line in out.splitlines() if line.startswith('{')]
    return {row['pl']: row['speed_tg'] for row in rows}


# --- hearth's own tools -------------------------------------------------------

def bench_serve_argv(program, server, options, raw):
    argv = [program, 'bench', 'serve', '--url', server.url, '--server-pid', server.pid, '--output', raw]
    for name, value in options.items():
        argv += [f'--{name}'] if value is True else [f'--{name}', value]
    return [str(a) for a in argv]


def bench_serve(program, server, options, raw, timeout_s=900):
    """`hearth bench serve` against a running server; its JSON report."""
    process.run(bench_serve_argv(program, server, options, raw), timeout_s)
    return json.loads(pathlib.Path(raw).read_text())


def hearth_pull(program, url, folder):
    return [program, 'pull', url, '--models-dir', folder]


def convert(program, folder, output, kind='f16'):
    """A folder of safetensors as one file of that type."""
    process.run([program, 'quantize', folder, kind, '-o', output], 300)


def bench_machine(program, raw):
    process.run([program, 'bench', 'machine', '--output', raw], 120)
    return json.loads(pathlib.Path(raw).read_text())


def knows(program, *command):
    """Whether this hearth has the command."""
    try:
        process.run([program, *command, '--help'], 30)
        return True
    except process.MeasureError:
        return False


def knows_flag(program, flag, *command):
    return flag in re.findall(r'--[a-z][a-z-]*', process.run([program, *command, '--help'], 30))


def bench_tree(program, raw):
    process.run([program, 'bench', 'tree', '--output', raw], 120)
    return json.loads(pathlib.Path(raw).read_text())


def sim(program, arguments, raw):
    """`hearth sim` with JSON for an answer, which is kept."""
    out = process.run([program, 'sim', *arguments], 300, raw)
    return json.loads(out)


def stripped_bytes(program, scratch):
    """Size of the binary without symbols."""
    copy = pathlib.Path(scratch) / 'stripped'
    tool = shutil.which('strip') or shutil.which('llvm-strip-19')
    if not tool:
        raise process.MeasureError('neither strip nor llvm-strip-19 is installed')
    process.run([tool, '-o', copy, program], 60)
    size = copy.stat().st_size
    copy.unlink()
    return size
