// BullMQ: the same orders as benchmarks/harness.py, in node. `node bullmq.mjs ORDER`.
import fs from "node:fs";
import { createRequire } from "node:module";

const { Queue, QueueEvents, Worker } = createRequire(process.env.BENCHMARK_MODULES)("bullmq");
const order = JSON.parse(process.argv[2]);
const connection = { url: order.options.url };
const payload = "x".repeat(order.size ?? 0);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, ns

function work() {
  const file = fs.openSync(process.env.BENCHMARK_MARKS, "a");
  const result = "r".repeat(Number(process.env.BENCHMARK_RESULT_BYTES)) || null;
  const run = async () => {
    const time = Buffer.alloc(8);
    time.writeBigInt64LE(now());
    fs.writeSync(file, time);
    return result;
  };
  const worker = new Worker("benchmark", run, { connection, concurrency: order.options.concurrency });
  worker.on("error", (error) => console.error(error));
}

async function timed(push, step) {
  const [begin, first] = [performance.now(), now()];
  let count = 0;
  while (count < order.count && performance.now() - begin < order.seconds * 1000) {
    const size = Math.min(step, order.count - count);
    await push(size);
    count += size;
  }
  return { count, seconds: (performance.now() - begin) / 1000, first: Number(first) };
}

async function seen(queue) {
  const marks = process.env.BENCHMARK_MARKS;
  const [size, begin] = [fs.statSync(marks).size, now()];
  await queue.add("task", { payload });
  while (fs.statSync(marks).size === size) {
    if (Number(now() - begin) > 30e9) throw new Error("no task ran within 30 s");
    await sleep(0.2);
  }
  return Number(fs.readFileSync(marks).readBigInt64LE(size) - begin) / 1e6;
}

async function waited(queue, events) {
  const begin = now();
  await (await queue.add("task", { payload })).waitUntilFinished(events, 30_000);
  return Number(now() - begin) / 1e6;
}

async function repeat(trip) {
  const [trips, begin] = [[], performance.now()];
  while (trips.length < order.count && performance.now() - begin < order.seconds * 1000) {
    await sleep(5 + 5 * Math.random());
    trips.push(await trip());
  }
  return trips;
}

async function roundtrip(queue) {
  await seen(queue);
  const starts = await repeat(() => seen(queue));
  const events = new QueueEvents("benchmark", { connection });
  await events.waitUntilReady();
  const results = await repeat(() => waited(queue, events));
  await events.close();
  return { starts, results };
}

async function produce() {
  const queue = new Queue("benchmark", { connection });
  const many = (size) => queue.addBulk(Array(size).fill({ name: "task", data: { payload } }));
  const one = () => queue.add("task", { payload });
  const actions = {
    one: async () => (await one(), timed(one, 1)),
    many: () => timed(many, order.chunk),
    mixed: async () => (await seen(queue), timed(many, order.chunk)),
    roundtrip: () => roundtrip(queue),
  };
  console.log("\n" + JSON.stringify(await actions[order.action]()));
  await queue.close();
}

if (order.action === "work") work();
else await produce();
