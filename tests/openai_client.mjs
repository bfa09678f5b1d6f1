// The official `openai` package of npm against our server (offline).
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const require = createRequire(process.env.OXIOS_NODE_MODULES + "/");
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

const settings = { baseURL: process.env.OXIOS_URL + "/v1", apiKey: process.env.OXIOS_KEY, maxRetries: 0 };
const client = new OpenAI(settings);
const messages = [{ role: "user", content: "Hello there" }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.deepEqual(models, ["oxios", "offline"]);
for (const model of models) assert.equal((await client.models.retrieve(model)).id, model);

for (const model of models) {
  const whole = await client.chat.completions.create({ model, messages });
  const text = whole.choices[0].message.content;
  assert.ok(text && whole.choices[0].finish_reason === "stop" && whole.usage.total_tokens > 0);
  let streamed = "", usage;
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } })) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(streamed, text);
  assert.ok(usage.total_tokens > 0);
}

const first = await client.chat.completions.create({ model: "oxios", messages });
const again = await client.chat.completions.create({ model: "oxios", messages, metadata: first.metadata });
assert.equal(again.metadata.session_id, first.metadata.session_id);

// A conversation that was held elsewhere is the new session's own, and a retry finds that session.
const talk = [{ role: "system", content: "Be brief." }, { role: "user", content: "I am Ada." }, { role: "assistant", content: "Noted." }, ...messages];
const begin = () => client.chat.completions.create({ model: "oxios", messages: talk }, { headers: { "Idempotency-Key": "node-1" } });
const [begun, retried] = [await begin(), await begin()];
assert.deepEqual([retried.id, retried.metadata], [begun.id, begun.metadata]);
const answer = await fetch(`${process.env.OXIOS_URL}/api/sessions/${begun.metadata.session_id}`, { headers: { authorization: `Bearer ${settings.apiKey}` } });
const kept = await answer.json();
assert.deepEqual(kept.user_messages.map((said) => said.content), ["I am Ada.", "Hello there"]);
assert.deepEqual(kept.agent_responses.map((said) => said.content), ["Noted.", begun.choices[0].message.content]);

await assert.rejects(client.models.retrieve("openai/none"), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(client.chat.completions.create({ model: "gpt-9", messages }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(new OpenAI({ ...settings, apiKey: "wrong" }).chat.completions.create({ model: "oxios", messages }), OpenAI.AuthenticationError);
console.log("the openai package of npm is content");
