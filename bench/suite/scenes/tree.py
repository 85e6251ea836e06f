"""Look-ups in the prefix tree alone: `hearth bench tree`."""
from .. import programs
from ..figures import HEARTH
from .base import NotAvailable, Scene

WHOLE = 'whole prompt'


def visit_program(visit):
    program = visit.suite.loadgen
    if not programs.knows(program, 'bench', 'tree'):
        raise NotAvailable('this hearth has no `bench tree`')
    report = programs.bench_tree(program, visit.suite.raw_path('tree'))
    visit.draw(report)
    return {'tree': next(kind['us_p99'] for kind in report['lookups'] if kind['name'] == WHOLE)}


SCENE = Scene('tree', sequences=1, context=1, visit=visit_program, rounds=3, subjects=(HEARTH,))
