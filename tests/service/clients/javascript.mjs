// Asks a service as these clients come, but for its address. Prints a line for each that did.

import assert from "node:assert/strict";

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { DallEAPIWrapper } from "@langchain/openai";
import { generateImage } from "ai";
import OpenAI, { toFile } from "openai";

const baseURL = `${process.argv[2]}/v1`;
const apiKey = "unused";
const PNG = Buffer.from("iVBORw0KGgo", "base64");
const isPng = (bytes) => assert.deepEqual(Buffer.from(bytes).subarray(0, 8), PNG);
const fetched = async (url) => isPng(await (await fetch(url)).arrayBuffer());

async function openai() {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const body = { model: "gpt-image-1", prompt: "red apple", n: 2, size: "32x32" };
  const { data } = await client.images.generate(body);
  assert.equal(data.length, 2);
  const file = Buffer.from(data[0].b64_json, "base64");
  isPng(file);
  const styled = await client.images.generate({ model: "dall-e-3", prompt: "red apple", style: "vivid" });
  await fetched(styled.data[0].url);
  const names = [];
  const stream = await client.images.generate({ ...body, n: 1, stream: true, partial_images: 1 });
  for await (const event of stream) names.push(event.type);
  assert.equal(names.pop(), "image_generation.completed");
  assert(names.every((name) => name === "image_generation.partial_image")); // none where it is drawn at once
  const image = await toFile(file, "apple.png", { type: "image/png" });
  const edited = await client.images.edit({ model: "gpt-image-1", image: [image, image], prompt: "green" });
  isPng(Buffer.from(edited.data[0].b64_json, "base64"));
  await assert.rejects(client.images.generate({ ...body, size: "0x0" }), OpenAI.BadRequestError);
}

async function langchain() {
  isPng(await (await fetch(await new DallEAPIWrapper({ apiKey, baseUrl: baseURL }).invoke("red apple"))).arrayBuffer());
  const several = await new DallEAPIWrapper({ apiKey, baseUrl: baseURL, n: 2 }).invoke("red apple");
  assert.equal(several.length, 2);
  await fetched(several[1].image_url);
  const whole = new DallEAPIWrapper({ apiKey, baseUrl: baseURL, dallEResponseFormat: "b64_json" });
  isPng(Buffer.from(await whole.invoke("red apple"), "base64"));
}

async function vercel() {
  const compatible = createOpenAICompatible({ name: "tessera", baseURL, apiKey });
  const official = createOpenAI({ baseURL, apiKey });
  const models = [compatible.imageModel("gpt-image-1"), official.image("gpt-image-1"), official.image("dall-e-3")];
  for (const model of models) {
    const { image, images } = await generateImage({ model, prompt: "red apple", size: "32x32", n: 1, maxRetries: 0 });
    assert.equal(images.length, 1);
    isPng(image.uint8Array);
  }
  const seeded = { tessera: { seed: 7 } };
  const [one, again] = await Promise.all(
    [0, 1].map(() => generateImage({ model: models[0], prompt: "red apple", providerOptions: seeded })),
  );
  assert.equal(one.image.base64, again.image.base64);
}

for (const client of [openai, langchain, vercel]) {
  await client();
  console.log(client.name);
}
