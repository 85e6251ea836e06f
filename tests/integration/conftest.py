import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import support  # noqa: E402


@pytest.fixture(scope='session')
def stories_path():
    if not support.STORIES.exists():
        pytest.skip(f'no test model at {support.STORIES}')
    return support.STORIES


@pytest.fixture(scope='module')
def model(stories_path):
    """The bytes of a small model."""
    return stories_path.read_bytes()


@pytest.fixture
def models(tmp_path):
    """A models folder with nothing in it."""
    folder = tmp_path / 'models'
    folder.mkdir()
    return folder


@pytest.fixture(scope='session')
def smollm2_path():
    if not support.SMOLLM2.exists():
        pytest.skip(f'no test model at {support.SMOLLM2}: `./dev setup` fetches it')
    return support.SMOLLM2


@pytest.fixture(scope='module')
def stories(stories_path):
    with support.Server('--max-seqs', '16', models=[stories_path]) as server:
        yield server


@pytest.fixture(scope='module')
def smollm2(smollm2_path):
    with support.Server('--ctx', '2048', models=[smollm2_path]) as server:
        yield server
