"""Fails when an #include crosses modules in a way CMake did not declare."""
import pathlib, re, sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def load(path):
    modules, rows = {}, pathlib.Path(path).read_text().strip()
    # Entries are joined by ';', as are the lists inside them; a name| starts one.
    for row in re.split(r';(?=[a-z_]+\|\d+\|)', rows):
        name, layer, public, private, headers, tests = row.split('|')
        split = lambda s: {x for x in s.split(';') if x}
        modules[name] = dict(layer=int(layer), public=split(public), private=split(private), headers=split(headers), tests=split(tests))
    return modules


def check(modules, src):
    problems = []
    for name, m in modules.items():
        for dep in m['public'] | m['private'] | m['tests']:
            if dep not in modules:
                problems.append(f'{name} depends on {dep}, which is no module')
                continue
            if modules[dep]['layer'] >= m['layer']:
                problems.append(f'{name} (layer {m["layer"]}) may not depend on {dep} (layer {modules[dep]["layer"]})')
        for file in sorted((src / name).rglob('*')):
            if file.suffix not in {'.h', '.cpp'}:
                continue
            own = file.relative_to(src / name).as_posix()
            allowed = m['public'] if own in m['headers'] else m['public'] | m['private']
            for_tests = own.endswith('_test.cpp') or own.startswith('testing/')
            if for_tests:
                allowed = allowed | m['tests']
            for include in INCLUDE.findall(file.read_text()):
                target, _, header = include.partition('/')
                if target == name or (target == 'testing' and for_tests):
                    continue
                where = f'{file.relative_to(src)}: "{include}"'
                if target not in modules:
                    problems.append(f'{where}: not of the form "module/header.h"')
                elif target not in allowed:
                    problems.append(f'{where}: {name} does not declare {target}')
                elif header not in modules[target]['headers']:
                    problems.append(f'{where}: private to {target}')
    return problems


def main():
    problems = check(load(sys.argv[1]), pathlib.Path(sys.argv[2]))
    print(*problems, sep='\n')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
