// BullMQ.
import { createRequire } from "node:module";

const { Queue, QueueEvents, Worker } = createRequire(process.env.BENCHMARK_MODULES)("bullmq");

export function producer({ url }) {
  const connection = { url };
  const queue = new Queue("benchmark", { connection });
  let events;
  return {
    push: (payload) => queue.add("task", { payload }),
    pushMany: (payloads) => queue.addBulk(payloads.map((payload) => ({ name: "task", data: { payload } }))),
    async prepareToWait() {
      events = new QueueEvents("benchmark", { connection });
      await events.waitUntilReady();
    },
    wait: (job) => job.waitUntilFinished(events, 30_000),
    async close() {
      await events?.close();
      await queue.close();
    },
  };
}

export function runWorker({ url, concurrency }, task) {
  const worker = new Worker("benchmark", task, { connection: { url }, concurrency });
  worker.on("error", (error) => console.error(error));
}
