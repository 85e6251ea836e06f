#!/usr/bin/env python3
"""Records what upstream's converter makes of the folders of tests/integration/test_convert.py.

usage: PYTHON tools/record_conversion.py > tests/integration/conversion_expected.json

PYTHON has what the converter imports, in the versions that requirements/requirements-convert_hf_to_gguf.txt of the
pinned llama.cpp names: torch, transformers, sentencepiece, protobuf and numpy, some 3 GB. That is why the tests compare
with digests of its files and do not run it.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests/integration'))
import hf_folder  # noqa: E402
import support  # noqa: E402


def main():
    converter = support.CACHE / 'third_party/llama.cpp/convert_hf_to_gguf.py'
    recorded = {}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for name, kinds in hf_folder.CASES.items():
            folder = hf_folder.make(name, scratch)
            for kind in kinds:
                output = scratch / 'out.gguf'
                subprocess.run([sys.executable, str(converter), str(folder), '--outtype', kind, '--outfile', str(output)],
                               check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                recorded[f'{name} {kind}'] = hf_folder.digest(output)
                output.unlink()
    json.dump(recorded, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == '__main__':
    main()
