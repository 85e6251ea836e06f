"""Clients and frameworks that speak Ollama, each as its own documentation has it called, with nothing changed but the address."""
import os
import subprocess

import hf_folder
import pytest
import support
from model_source import ModelSource

CHAT = 'smollm2-135m-instruct.q4_1'
EMBED = 'minilm'
GREEDY = {'temperature': 0, 'num_predict': 12}


@pytest.fixture(scope='module')
def server(smollm2_path, tmp_path_factory):
    if not hf_folder.MINILM.exists():
        pytest.skip(f'no test model at {hf_folder.MINILM}: `./dev setup` fetches it')
    minilm = tmp_path_factory.mktemp('minilm') / 'minilm.gguf'
    converted = support.run_cli('convert', hf_folder.MINILM, '-o', minilm)
    assert converted.returncode == 0, converted.stderr
    with support.Server(models=[smollm2_path, minilm]) as server:
        yield server


def test_ollama_js_makes_every_call(server, stories_path):
    node = support.SOURCE / 'build/node/node_modules'
    script = support.SOURCE / 'tests/integration/node/ollama_js.cjs'
    with ModelSource(layers=[('application/vnd.ollama.image.model', stories_path.read_bytes())]) as registry:
        run = subprocess.run(['node', script, server.url, CHAT, EMBED, f'{registry.authority}/ns/model:tiny'],
                             env={**os.environ, 'NODE_PATH': str(node)}, capture_output=True, text=True,
                             timeout=support.PATIENCE_S, stdin=subprocess.DEVNULL)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count('ok ') == 8, run.stdout
    assert '/v2/ns/mine/manifests/js' in registry.manifests


def test_langchain_chats_streams_and_embeds(server):
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
    chat = ChatOllama(model=CHAT, base_url=server.url, temperature=0, num_predict=12)
    messages = [SystemMessage('You are brief.'), HumanMessage('Name a colour.')]
    answer = chat.invoke(messages)
    assert answer.content and answer.usage_metadata['output_tokens'] <= 12
    assert answer.response_metadata['done_reason'] in ('stop', 'length')
    assert ''.join(part.content for part in chat.stream(messages)) == answer.content
    assert [part.content for part in chat.batch([messages, messages])] == [answer.content] * 2
    text = OllamaLLM(model=CHAT, base_url=server.url, temperature=0, num_predict=12)
    assert ''.join(text.stream('The sky is')) == text.invoke('The sky is') != ''
    embeddings = OllamaEmbeddings(model=EMBED, base_url=server.url)
    assert [len(vector) for vector in embeddings.embed_documents(['a cat', 'a dog'])] == [384, 384]
    assert len(embeddings.embed_query('a cat')) == 384


def test_llama_index_completes_chats_and_embeds(server):
    from llama_index.core.llms import ChatMessage
    from llama_index.embeddings.ollama import OllamaEmbedding
    from llama_index.llms.ollama import Ollama
    llm = Ollama(model=CHAT, base_url=server.url, context_window=2048, request_timeout=support.PATIENCE_S, additional_kwargs=GREEDY)
    assert llm.complete('Name a colour.').text
    messages = [ChatMessage(role='system', content='You are brief.'), ChatMessage(role='user', content='Name a colour.')]
    whole = llm.chat(messages).message.content
    assert whole and [part.message.content for part in llm.stream_chat(messages)][-1] == whole
    embedding = OllamaEmbedding(model_name=EMBED, base_url=server.url)
    assert len(embedding.get_text_embedding('a cat')) == 384
    assert [len(vector) for vector in embedding.get_text_embedding_batch(['a cat', 'a dog', 'a bird'])] == [384] * 3
