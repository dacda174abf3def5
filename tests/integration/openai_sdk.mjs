// Everything that OpenAI's own SDK for node does with the HTTP server. Prints "done" at the end.
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const sdk = new OpenAI({ baseURL: process.env.API_URL, apiKey: process.env.API_KEY, maxRetries: 0 });
const model = "acme/small";
const messages = [{ role: "user", content: "Hello" }];
const line = (number) =>
  JSON.stringify({ custom_id: `n${number}`, method: "POST", url: "/v1/chat/completions", body: { model, messages } });
const content = [0, 1, 2].map(line).join("\n") + "\n";
const upload = async () => sdk.files.create({ file: await toFile(Buffer.from(content), "tickets.jsonl"), purpose: "batch" });
const submit = (file) =>
  sdk.batches.create({ input_file_id: file, endpoint: "/v1/chat/completions", completion_window: "24h" });
const ended = async (id) => {
  for (;;) {
    const batch = await sdk.batches.retrieve(id);
    if (["completed", "failed", "cancelled", "expired"].includes(batch.status)) return batch;
    await new Promise((done) => setTimeout(done, 200));
  }
};
const refused = async (call, kind, status, code, waits) => {
  await assert.rejects(call, (error) => {
    assert(error instanceof kind, `${error.constructor.name}: ${error.message}`);
    assert.equal(error.status, status);
    if (code) assert.equal(error.code, code);
    if (waits) assert(Number(error.headers.get("retry-after")) > 0);
    return true;
  });
};

// Files and batches
const file = await upload();
assert.equal((await sdk.files.retrieve(file.id)).filename, "tickets.jsonl");
assert.equal(await (await sdk.files.content(file.id)).text(), content);
const batch = await submit(file.id);
assert.equal(batch.status, "validating");
const done = await ended(batch.id);
assert.deepEqual(done.request_counts, { total: 3, completed: 3, failed: 0 });
const output = await (await sdk.files.content(done.output_file_id)).text();
assert.equal(output.trim().split("\n").length, 3);
const others = [];
for (let number = 0; number < 3; number++) others.push((await submit(file.id)).id);
const listed = [];
for await (const each of sdk.batches.list({ limit: 2 })) listed.push(each.id);
assert.deepEqual(listed.slice(0, 3), others.reverse());
assert(["cancelling", "cancelled", "completed"].includes((await sdk.batches.cancel(others[0]).catch((error) => {
  assert.equal(error.status, 400); // it had completed
  return { status: "completed" };
})).status));
for (const id of others) await ended(id);
assert.equal((await sdk.files.delete(file.id)).deleted, true);
await refused(() => sdk.files.retrieve(file.id), OpenAI.NotFoundError, 404);

// Live calls
assert((await sdk.chat.completions.create({ model, messages })).choices[0].message.content);
let text = "";
for await (const part of await sdk.chat.completions.create({ model, messages, stream: true }))
  text += part.choices[0]?.delta?.content ?? "";
assert(text);
assert((await sdk.responses.create({ model, input: "Hello" })).output_text);
const events = [];
for await (const event of await sdk.responses.create({ model, input: "Hello", stream: true })) events.push(event.type);
assert.equal(events.at(-1), "response.completed");
assert.equal((await sdk.embeddings.create({ model, input: ["one", "two"], encoding_format: "float" })).data.length, 2);
const models = [];
for await (const each of sdk.models.list()) models.push(each.id);
assert(models.includes(model));

// Errors
const wrong = new OpenAI({ baseURL: process.env.API_URL, apiKey: "sk-wrong", maxRetries: 0 });
await refused(() => wrong.models.list(), OpenAI.AuthenticationError, 401, "invalid_api_key");
await refused(() => sdk.chat.completions.create({ model: "nobody/nothing", messages }), OpenAI.NotFoundError, 404, "model_not_found");
await refused(() => sdk.chat.completions.create({ model, messages: 3 }), OpenAI.BadRequestError, 400);
await refused(() => submit("file-unknown"), OpenAI.NotFoundError, 404);
const other = new OpenAI({ baseURL: process.env.API_URL, apiKey: process.env.OTHER_KEY, maxRetries: 0 });
await refused(() => other.batches.retrieve(batch.id), OpenAI.NotFoundError, 404);
await refused(() => other.files.content(done.output_file_id), OpenAI.NotFoundError, 404);
const wide = { metadata: { key: "x".repeat(513) } };
const made = (more) =>
  sdk.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h", ...more });
for (const more of [{ endpoint: "/v1/images" }, { completion_window: "soon" }, wide])
  await refused(() => made(more), OpenAI.BadRequestError, 400);
const tooLarge = await toFile(Buffer.alloc(1_100_000), "large.jsonl");
await refused(() => sdk.files.create({ file: tooLarge, purpose: "batch" }), OpenAI.APIError, 413, "request_too_large");
await refused(() => other.chat.completions.create({ model, messages }), OpenAI.APIError, 402, "insufficient_quota");
const hurried = { headers: { "X-Overnight-Max-Wait": "0" } };
const tight = () => sdk.chat.completions.create({ model: "acme/tight", messages }, hurried);
await tight();
await refused(tight, OpenAI.RateLimitError, 429, "rate_limit_exceeded", true);
process.kill(Number(process.env.REDIS_PID), "SIGSTOP");
try {
  const live = () => sdk.chat.completions.create({ model, messages }, hurried);
  for (const call of [live, () => sdk.batches.list()])
    await refused(call, OpenAI.InternalServerError, 503, "service_unavailable", true);
} finally {
  process.kill(Number(process.env.REDIS_PID), "SIGCONT");
}
console.log("done");
