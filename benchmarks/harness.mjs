// harness.py for node: `node harness.mjs ORDER`. A peer's module has `producer(options)`, with `push(payload)`,
// `pushMany(payloads)`, `prepareToWait()`, `wait(handle)` and `close()`, and `runWorker(options, task)`.
import fs from "node:fs";

const order = JSON.parse(process.argv[2]);
const peer = await import(`./peers/${order.peer}.mjs`);
const marks = fs.openSync(process.env.BENCHMARK_MARKS, "a+");
const payload = "x".repeat(order.size ?? 0);
const result = "r".repeat(Number(process.env.BENCHMARK_RESULT_BYTES)) || null;
const now = () => process.hrtime.bigint(); // CLOCK_MONOTONIC, ns
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const marked = () => fs.fstatSync(marks).size;

async function task() {
  const time = Buffer.alloc(8);
  time.writeBigInt64LE(now());
  fs.writeSync(marks, time);
  return result;
}

async function timed(chunk, push) {
  const [begin, first] = [performance.now(), Number(now())];
  let count = 0;
  while (count < order.count && performance.now() - begin < order.seconds * 1000) {
    const size = Math.min(chunk, order.count - count);
    await push(size);
    count += size;
  }
  return { count, seconds: (performance.now() - begin) / 1000, first };
}

async function repeat(trip) {
  const [trips, begin] = [[], performance.now()];
  while (trips.length < order.count && performance.now() - begin < order.seconds * 1000) {
    await sleep(5 + 5 * Math.random());
    trips.push(await trip());
  }
  return trips;
}

async function pushAndSee(producer) {
  const [size, begin, time] = [marked(), now(), Buffer.alloc(8)];
  await producer.push(payload);
  while (marked() === size) {
    if (Number(now() - begin) > 30e9) throw new Error("no task ran within 30 s");
    await sleep(0.2);
  }
  fs.readSync(marks, time, 0, 8, size);
  return Number(time.readBigInt64LE() - begin) / 1e6;
}

async function pushAndWait(producer) {
  const begin = now();
  await producer.wait(await producer.push(payload));
  return Number(now() - begin) / 1e6;
}

const many = (producer) => timed(order.chunk, (size) => producer.pushMany(Array(size).fill(payload)));

const actions = {
  many,
  async one(producer) {
    await producer.push(payload);
    return timed(1, () => producer.push(payload));
  },
  async mixed(producer) {
    await pushAndSee(producer);
    return many(producer);
  },
  async roundtrip(producer) {
    await pushAndSee(producer);
    const starts = await repeat(() => pushAndSee(producer));
    await producer.prepareToWait();
    return { starts, results: await repeat(() => pushAndWait(producer)) };
  },
};

if (order.action === "work") {
  peer.runWorker(order.options, task);
} else {
  const producer = peer.producer(order.options);
  console.log("\n" + JSON.stringify(await actions[order.action](producer)));
  await producer.close();
}
