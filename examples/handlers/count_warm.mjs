// Counts the words of texts: one process runs many tasks.
import { createInterface } from "node:readline";

const answer = ({ id }, fields) => console.log(JSON.stringify({ id, ...fields }));

for await (const line of createInterface({ input: process.stdin })) {
  const task = JSON.parse(line);
  const { text } = task.params;
  if (typeof text !== "string") {
    answer(task, { success: false, error: "params.text is missing or not text", error_type: "validation" });
    continue;
  }
  answer(task, { progress: 50, message: "read" });
  answer(task, { success: true, data: { words: text.split(/\s+/).filter(Boolean).length } });
}
