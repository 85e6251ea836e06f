// Every call of ollama-js against a server: node ollama_js.cjs URL CHAT-MODEL EMBEDDING-MODEL REGISTRY-MODEL
// Each failed expectation ends it with status 1 and its name; test_ollama_clients.py runs it.
const assert = require('node:assert/strict')
const { Ollama } = require('ollama')

const [url, model, embedder, remote] = process.argv.slice(2)
const client = new Ollama({ host: url })
const options = { temperature: 0, num_predict: 8 }
const messages = [{ role: 'user', content: 'Name a colour.' }]

async function collect(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return parts
}

const cases = {
  async 'a streamed chat says what the whole one does'() {
    const whole = await client.chat({ model, messages, options })
    const parts = await collect(await client.chat({ model, messages, options, stream: true }))
    assert.ok(whole.message.content.length > 0 && whole.eval_count > 0 && whole.total_duration > 0)
    assert.equal(parts.map((part) => part.message.content).join(''), whole.message.content)
    assert.deepEqual([parts.at(-1).done, parts[0].done], [true, false])
  },
  async 'generate goes on from its context'() {
    const first = await client.generate({ model, prompt: 'Hi', options })
    assert.equal(first.context.length, first.prompt_eval_count + first.eval_count)
    const second = await client.generate({ model, prompt: 'Hi', context: first.context, options })
    assert.deepEqual(second.context.slice(0, first.context.length), first.context)
  },
  async 'a stream can be aborted'() {
    const other = new Ollama({ host: url })
    const stream = await other.generate({ model, prompt: 'Once', raw: true, stream: true, options: { num_predict: 1000 } })
    await assert.rejects(async () => {
      for await (const _ of stream) other.abort()
    }, { name: 'AbortError' })
  },
  async 'texts become vectors'() {
    const { embeddings } = await client.embed({ model: embedder, input: ['a cat', 'a dog'] })
    assert.equal(embeddings.length, 2)
    assert.ok(Math.abs(embeddings[0].reduce((sum, x) => sum + x * x, 0) - 1) < 1e-4)
    assert.equal((await client.embeddings({ model: embedder, prompt: 'a cat' })).embedding.length, embeddings[0].length)
  },
  async 'models are listed and shown'() {
    assert.ok((await client.list()).models.some((entry) => entry.name.toLowerCase().startsWith(model)))
    assert.ok((await client.ps()).models.some((entry) => entry.name.toLowerCase().startsWith(model)))
    assert.match((await client.show({ model })).modelfile, /^FROM /m)
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+/)
  },
  async 'a model is pulled, made into another, copied and deleted'() {
    const steps = await collect(await client.pull({ model: remote, stream: true }))
    assert.equal(steps.at(-1).status, 'success')
    // A small file may be there before any of it was told.
    assert.ok(steps.every((step) => !step.total || (step.completed ?? 0) <= step.total))
    const made = await client.create({ model: 'made', from: model, system: 'Be kind.', parameters: { temperature: 0.1 } })
    assert.equal(made.status, 'success')
    assert.equal((await client.show({ model: 'made' })).system, 'Be kind.')
    assert.equal((await client.copy({ source: 'made', destination: 'copied' })).status, 'success')
    for (const name of ['copied', 'made']) assert.equal((await client.delete({ model: name })).status, 'success')
  },
  async 'a model is pushed'() {
    const name = `${remote.split('/')[0]}/ns/mine:js`
    await client.create({ model: 'mine', from: remote, system: 'Be brief.' })
    await client.copy({ source: 'mine', destination: name })
    const steps = await collect(await client.push({ model: name, stream: true }))
    assert.equal(steps.at(-1).status, 'success')
    assert.ok(steps.some((step) => step.total && step.completed === step.total))
    assert.equal((await client.push({ model: name, stream: false })).status, 'success')
    for (const left of [name, 'mine']) await client.delete({ model: left })
  },
  async 'errors have a status and a text'() {
    await assert.rejects(client.chat({ model: 'nobody', messages }), { status_code: 404, message: "model 'nobody' not found" })
    await assert.rejects(client.chat({ model, messages, options: { temperature: 1000 } }), /temperature/)
  },
}

async function main() {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run()
      console.log(`ok ${name}`)
    } catch (error) {
      console.log(`failed ${name}: ${error.stack}`)
      process.exitCode = 1
    }
  }
}

main()
