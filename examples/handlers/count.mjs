// Counts the words of a text: a process for each task.
import { readFileSync, writeSync } from "node:fs";

const { text } = JSON.parse(readFileSync(0, "utf8")).params;
if (typeof text !== "string") {
  console.error("params.text is missing or not text");
  process.exit(65); // bad params: do not retry
}
writeSync(Number(process.env.PRISMQ_PROGRESS_FD), '{"progress":50,"message":"read"}\n');
console.log(JSON.stringify({ words: text.split(/\s+/).filter(Boolean).length }));
