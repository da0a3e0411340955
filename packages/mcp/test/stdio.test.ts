import { PassThrough } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { createStdioTransport } from "@formation-mcp/mcp/stdio";
import fc from "fast-check";
import { expect, test } from "vitest";

const ping = (id: number | string) => ({ jsonrpc: "2.0" as const, id, method: "ping" });

/** What arrives and what is answered when these bytes come in these pieces. */
async function given(pieces: (string | Uint8Array)[], maxLineBytes = 1000) {
  const input = new PassThrough();
  const output = new PassThrough();
  const refused: string[] = [];
  const transport = createStdioTransport({
    input,
    output,
    maxLineBytes,
    onRefused: (why) => refused.push(why),
  });
  const arrived: unknown[] = [];
  transport.onmessage = (message) => arrived.push(message);
  await transport.start();
  for (const piece of pieces) {
    input.write(piece);
    await turn();
  }
  await turn();
  const answers = (output.read()?.toString() ?? "").split("\n").filter((line: string) => line !== "");
  return {
    transport,
    input,
    output,
    arrived,
    refused,
    answers: answers.map((line: string) => JSON.parse(line)),
  };
}

test("messages arrive one by one, however their bytes are cut", async () => {
  const text = [1, 2, 3]
    .map((id) => `${JSON.stringify({ ...ping(id), params: { text: "grün €" } })}\r\n`)
    .join("");
  const bytes = Buffer.from(text);
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.nat({ max: bytes.length }), { maxLength: 8 }), async (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      const { arrived, answers } = await given(at.slice(1).map((end, i) => bytes.subarray(at[i], end)));
      expect(arrived.map((message) => (message as { id: number }).id)).toEqual([1, 2, 3]);
      expect(answers).toEqual([]);
    }),
    { numRuns: 50 },
  );
});

const LONG = "x".repeat(2000);
test.each([
  ["text", "hello\n", null, -32700],
  ["half a message", '{"jsonrpc":"2.0","id":1,\n', null, -32700],
  [
    "bytes that are not UTF-8",
    Buffer.from('{"jsonrpc":"2.0","id":1,"method":"\xff"}\n', "latin1"),
    null,
    -32700,
  ],
  ["a batch", `[${JSON.stringify(ping(1))}]\n`, null, -32600],
  ["no method", '{"jsonrpc":"2.0","id":"a"}\n', "a", -32600],
  ["an id that is none", '{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}\n', null, -32600],
  ["another version", '{"jsonrpc":"1.0","id":7,"method":"ping"}\n', 7, -32600],
  ["too long, its id first", `${JSON.stringify({ ...ping(8), params: { LONG } })}\n`, 8, -32600],
  [
    "too long, its id last",
    `${JSON.stringify({ method: "m", params: { LONG }, jsonrpc: "2.0", id: "b" })}\n`,
    "b",
    -32600,
  ],
  ["too long, without an id", `${JSON.stringify({ LONG, a: { id: 4 } })}\n`, null, -32600],
] as const)("%s is answered, told without its words, and what follows arrives", async (_, line, id, code) => {
  const { arrived, answers, refused } = await given([line, `${JSON.stringify(ping(99))}\n`]);
  expect(answers).toMatchObject([{ jsonrpc: "2.0", id, error: { code } }]);
  expect(arrived).toEqual([ping(99)]);
  expect(refused).toHaveLength(1);
  expect(refused.join()).not.toMatch(/xxx|hello/);
});

test("empty lines are nothing", async () => {
  expect(await given(["\n \r\n\n"])).toMatchObject({ arrived: [], answers: [] });
});

test("it closes at the end of the input, and when nobody reads the output", async () => {
  const ended = await given([]);
  ended.input.end();
  await ended.transport.closed;
  const broken = await given([]);
  broken.output.destroy(new Error("EPIPE"));
  await broken.transport.closed;
});
