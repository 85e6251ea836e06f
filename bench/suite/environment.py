"""The machine a run was made on, and whether it was quiet."""
import contextlib
import os
import pathlib
import platform
import subprocess
import time


def _field(path, key, separator=':'):
    """What follows `separator` in the first line that begins with `key`; empty if there is none."""
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            name, found, value = line.partition(separator)
            if found and name.strip() == key:
                return value.strip().strip('"')
    except OSError:
        pass
    return ''


def busy_share(seconds=1.0):
    """Share of all cores that was not idle during `seconds`."""
    def totals():
        fields = [int(f) for f in pathlib.Path('/proc/stat').read_text().split('\n', 1)[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]
    all_before, idle_before = totals()
    time.sleep(seconds)
    all_after, idle_after = totals()
    spent = all_after - all_before
    return 1 - (idle_after - idle_before) / spent if spent else 0.0


def cores():
    """Those this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def ahead(nice=-10):
    """Whoever measures goes before the server on the cores they share, as a client on another machine would; what it starts inside does
    too. Yields whether the system allows it."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, own)


def describe(root):
    def version(*argv):
        try:
            return subprocess.run(argv, capture_output=True, text=True, cwd=root, timeout=10).stdout.strip().splitlines()[0]
        except (OSError, IndexError, subprocess.TimeoutExpired):
            return ''
    return {'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), 'cpu': _field('/proc/cpuinfo', 'model name'),
            'cores': cores(), 'memory': _field('/proc/meminfo', 'MemTotal'), 'kernel': platform.release(),
            'distribution': _field('/etc/os-release', 'PRETTY_NAME', '='), 'compiler': version('clang++-19', '--version'),
            'commit': version('git', 'describe', '--always', '--dirty', '--abbrev=12'), 'load_average': os.getloadavg()[0],
            'busy_share': busy_share()}
