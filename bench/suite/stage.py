"""Runs the scenes: the peer's flags tried first, then every scene in turn with both servers; who is first changes from round to round."""
import time

from . import figures, scenes
from .figures import SERVER
from .scenes import SEED_TUNING, NotAvailable, Visit

# Shares of the run's time at which no more flags are tried, and no more rounds begun.
TUNING_SHARE, ROUNDS_SHARE = 0.45, 0.95


class Stage:
    """The scenes of one run; what they give goes to the suite's results."""

    def __init__(self, suite):
        self.suite = suite
        wanted = {figures.BY_NAME[name].scene for name in suite.wanted}
        self.scenes = [scene for scene in scenes.SCENES if scene.name in wanted]
        self.chosen = {}  # scene -> variant of llama-server
        self.rounds_s = {}  # scene -> seconds of its rounds

    def tune(self):
        """Tries llama-server's flags for each scene once. Samples and plots of this pass do not count."""
        for scene in self.scenes:
            names = list(scene.peer_variants)
            self.chosen[scene.name] = names[0]
            if self.suite.options.quick or len(names) == 1:
                continue
            if not self.suite.has_time(0, TUNING_SHARE, f'trying {SERVER}\'s flags for {scene.name}'):
                continue
            results, table = self.suite.results, {}
            kept, start = (results['plots'], results['unavailable']), time.monotonic()
            results['plots'], results['unavailable'] = {}, {}
            for variant in names:
                self.suite.note(f'trying {SERVER}, {variant}, for {scene.name}')
                values = self.visit(scene, SERVER, variant, SEED_TUNING)
                table[variant] = {name: value for name, value in values.items() if name in self.suite.wanted}
            results['plots'], results['unavailable'] = kept
            self.spent(scene, start)
            results['tuning'][f'{SERVER}, {scene.name}'] = table
            first = next(f.name for f in figures.SCHEDULING if f.scene == scene.name and f.name in self.suite.wanted)
            self.chosen[scene.name] = figures.choose_variants(table).get(first, names[0])
        for scene in self.scenes:
            self.suite.results['variants'].setdefault(SERVER, {})[scene.name] = self.chosen[scene.name]
        self.suite.save()

    def round(self, repetition):
        for scene in self.scenes:
            if repetition >= scene.rounds:
                continue
            # Only the two servers change places: what others count may need what they gave.
            what = f'round {repetition + 1} of {scene.name}'
            if repetition and not self.suite.has_time(self.expected(scene, repetition), ROUNDS_SHARE, what):
                continue
            pair, others = scene.subjects[:2], scene.subjects[2:]
            start = time.monotonic()
            for subject in [*(pair if repetition % 2 == 0 else pair[::-1]), *others]:
                self.suite.note(f'round {repetition + 1}: {scene.name}: {subject}')
                for name, value in self.visit(scene, subject, self.chosen[scene.name], 1000 * (repetition + 1)).items():
                    if name in self.suite.wanted:
                        self.suite.add(name, subject, value)
            self.spent(scene, start)
            self.rounds_s[scene.name] = self.rounds_s.get(scene.name, 0) + time.monotonic() - start
            self.suite.save()

    def expected(self, scene, rounds):
        """Seconds of a round, by those before it."""
        return self.rounds_s.get(scene.name, 0) / rounds

    def finish(self):
        for scene in self.scenes:
            if scene.finish:
                start = time.monotonic()
                self.suite.attempt(f'what all rounds of {scene.name} give together', lambda s=scene: s.finish(self.suite))
                self.spent(scene, start)
        for name, seconds in self.suite.results['seconds'].items():
            self.suite.note(f'{name} took {seconds:.0f} s')

    def spent(self, scene, start):
        """Books the time since `start`, flags that were tried included."""
        seconds = self.suite.results['seconds']
        seconds[scene.name] = seconds.get(scene.name, 0) + time.monotonic() - start

    def visit(self, scene, subject, variant, seed):
        """{figure: value}; empty when it failed or the subject cannot do it, which the results then say."""
        what = f'{scene.name} of {subject}, {variant}'
        visit = Visit(self.suite, scene, subject, scene.peer_variants[variant] if subject.startswith(SERVER) else [], seed)
        try:
            return self.suite.attempt(what, lambda: scene.visit(visit)) or {}
        except NotAvailable as reason:
            self.suite.note(f'not available: {what}: {reason}')
            for figure in figures.SCHEDULING:
                if figure.scene == scene.name and figure.name in self.suite.wanted and subject in figure.subjects:
                    visit.lacks(figure.name, str(reason))
            return {}
