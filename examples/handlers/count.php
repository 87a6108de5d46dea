<?php
// Counts the words of a text: a process for each task.

$task = json_decode(stream_get_contents(STDIN), true);
$text = $task["params"]["text"] ?? null;
if (!is_string($text)) {
    fwrite(STDERR, "params.text is missing or not text\n");
    exit(65); // bad params: do not retry
}
$progress = fopen("php://fd/" . getenv("PRISMQ_PROGRESS_FD"), "w");
fwrite($progress, '{"progress":50,"message":"read"}' . "\n");
echo json_encode(["words" => count(preg_split('/\s+/u', $text, -1, PREG_SPLIT_NO_EMPTY))]);
