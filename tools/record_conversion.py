#!/usr/bin/env python3
"""Records what upstream's converter makes of the folders of tests/integration/test_convert.py, and how the texts of
its corpus are tokenised by SentencePiece and by huggingface/tokenizers.

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


def reference_ids(folder):
    texts = hf_folder.corpus()
    if (folder / 'tokenizer.model').exists():
        import sentencepiece
        return sentencepiece.SentencePieceProcessor(model_file=str(folder / 'tokenizer.model')).encode(texts)
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


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
                recorded[f'{name} {kind}'] = hf_folder.digest(output, name not in hf_folder.WITHOUT_SCORES)
                output.unlink()
            if name in hf_folder.TOKENIZED:
                recorded[f'{name} tokens'] = hf_folder.ids_digest(reference_ids(folder))
    json.dump(recorded, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == '__main__':
    main()
