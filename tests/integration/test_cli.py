"""The command line as scripts and people use it."""
import json
import signal
import subprocess

import support


def test_run_answers_on_stdout_and_nothing_else(smollm2_path):
    first = support.run_cli('run', smollm2_path, 'Name a colour.', '--temperature', '0', '-n', '12')
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() and first.stderr == ''
    assert support.run_cli('run', smollm2_path, 'Name a colour.', '--temperature', '0', '-n', '12').stdout == first.stdout


def test_run_composes_stdin_and_speaks_json(smollm2_path):
    result = support.run_cli('run', smollm2_path, 'Repeat:', '--json', '-n', '5', '-t', '0', stdin='hearth')
    answer = json.loads(result.stdout)
    assert answer['completion_tokens'] <= 5 and answer['finish_reason'] in ('stop', 'length')
    longer = json.loads(support.run_cli('run', smollm2_path, 'Repeat:', '--json', '-n', '5', stdin='hearth ' * 50).stdout)
    assert longer['prompt_tokens'] > answer['prompt_tokens']


def test_run_raw_continues_text_without_a_template(stories_path):
    result = support.run_cli('run', stories_path, 'Once upon a time', '--raw', '-n', '8', '-t', '0')
    assert result.returncode == 0 and result.stdout.strip()
    refused = support.run_cli('run', stories_path, 'Hello')
    assert refused.returncode == 1 and 'template' in refused.stderr


def test_ctrl_c_keeps_what_was_said(smollm2_path):
    process = subprocess.Popen([support.BINARY, 'run', str(smollm2_path), '1, 2, 3, 4, 5, 6,', '-n', '4000', '-t', '0', '--raw'],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    first = process.stdout.read(10)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=support.PATIENCE_S)
    assert process.returncode == 130 and first and rest.endswith('\n')


def test_a_reader_that_leaves_ends_the_answer(smollm2_path):
    process = subprocess.Popen([support.BINARY, 'run', str(smollm2_path), '1, 2, 3, 4, 5, 6,', '-n', '4000', '-t', '0', '--raw'],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(support.PATIENCE_S) == 0
    process.stderr.close()


def test_exit_codes_tell_what_is_wrong(stories_path, tmp_path):
    missing = support.run_cli('run', 'no-such-model', 'Hello')
    assert missing.returncode == 3 and 'no-such-model' in missing.stderr
    for arguments, word in [(['serve', '--modle', 'x'], '--model'), (['srve'], 'serve'), (['serve', '--port', 'x'], '--port'),
                            ([], 'subcommand'), (['run', stories_path], 'prompt'),
                            (['run', stories_path, 'x', '-t', '-1'], '--temperature'),
                            (['run', stories_path, 'x', '--raw', '--system', 'y'], '--system')]:
        result = support.run_cli(*arguments)
        assert result.returncode == 2, (arguments, result.stderr)
        assert word in result.stderr and result.stdout == ''


def test_a_result_that_cannot_be_written_is_an_error(stories_path):
    for arguments in (['check', stories_path], ['version'], ['completion', 'bash'],
                      ['run', stories_path, 'Once upon a time', '--raw', '-n', '4']):
        with open('/dev/full', 'w') as full:
            result = subprocess.run([support.BINARY, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE,
                                    stdin=subprocess.DEVNULL, text=True, timeout=support.PATIENCE_S)
        assert result.returncode == 1 and 'No space left' in result.stderr, (arguments, result)


def test_check_reports_good_and_bad_files(stories_path, tmp_path):
    good = support.run_cli('check', stories_path)
    assert good.returncode == 0 and 'llama' in good.stdout
    cut = tmp_path / 'cut.gguf'
    cut.write_bytes(stories_path.read_bytes()[:-1000])
    bad = support.run_cli('check', '--json', stories_path, cut)
    reports = json.loads(bad.stdout)
    assert bad.returncode == 1
    assert [r['valid'] for r in reports] == [True, False] and reports[1]['problems']
    assert reports[0]['parameters'] > 200_000 and reports[0]['tensors'] == 48


def test_help_version_and_completion_exist(tmp_path):
    for arguments in (['--help'], ['serve', '--help'], ['run', '--help'], ['check', '--help'], ['bench', 'serve', '--help'], ['version'],
                      ['completion', 'bash'], ['completion', 'zsh'], ['completion', 'fish']):
        result = support.run_cli(*arguments)
        assert result.returncode == 0 and result.stdout, arguments
    script = support.run_cli('completion', 'bash').stdout
    ask = script + '\nCOMP_WORDS=(hearth serve --po); COMP_CWORD=2; _hearth; echo "${COMPREPLY[@]}"\n'
    ask += 'COMP_WORDS=(hearth se); COMP_CWORD=1; _hearth; echo "${COMPREPLY[@]}"\n'
    completed = subprocess.run(['bash', '-c', ask], capture_output=True, text=True, cwd=tmp_path)
    assert completed.stdout.split() == ['--port', 'serve'], completed


def test_a_worker_started_by_hand_says_who_starts_it():
    result = support.run_cli('worker')
    assert result.returncode == 2 and 'hearth serve' in result.stderr
