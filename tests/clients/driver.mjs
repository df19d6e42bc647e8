// Does with OpenAI's JavaScript SDK what it is told, one line of JSON at a time: see tests/clients/sdk.py.
// Arguments: the folder that holds node_modules, and the name of the SDK in it.
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [folder, name] = process.argv.slice(2);
const OpenAI = createRequire(join(folder, "package.json"))(name);

const encoded = (content) => Buffer.from(content).toString("base64");

const actions = {
  async create(client, wanted) {
    const reply = await client.audio.speech.create(wanted);
    return { audio: encoded(await reply.arrayBuffer()), headers: Object.fromEntries(reply.headers) };
  },

  async stream(client, wanted) {
    const { data: reply, request_id } = await client.audio.speech.create(wanted).withResponse();
    const pieces = [];
    for await (const piece of reply.body) pieces.push(piece);
    return { audio: encoded(Buffer.concat(pieces)), pieces: pieces.length, request_id };
  },

  async sse(client, wanted) {
    const events = [];
    const body = { ...wanted, stream_format: "sse" };
    for await (const event of await client.post("/audio/speech", { body, stream: true })) events.push(event);
    return { events };
  },

  async models(client) {
    const models = [];
    for await (const model of client.models.list()) models.push(model);
    return { models };
  },

  async model(client, wanted) {
    const { data, request_id } = await client.models.retrieve(wanted.model).withResponse();
    return { model: data, request_id };
  },

  async together(client, wanted) {
    const calls = Array.from({ length: wanted.times }, () => actions.create(client, wanted.request));
    const replies = await Promise.allSettled(calls);
    return { replies: replies.map((reply) => reply.value?.audio ?? reply.reason.constructor.name) };
  },
};

const described = (error) => ({
  class: error.constructor.name,
  status_code: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  type: error.type ?? null,
  request_id: error.requestID ?? error.request_id ?? null,
  message: error.message,
});

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  const { base_url: baseURL, max_retries: maxRetries } = asked.client;
  const client = new OpenAI({ apiKey: "none", timeout: 60_000, baseURL, maxRetries });
  try {
    console.log(JSON.stringify({ value: await actions[asked.do](client, asked.with) }));
  } catch (error) {
    console.log(JSON.stringify({ error: described(error) }));
  }
}
