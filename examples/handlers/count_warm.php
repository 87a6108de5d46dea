<?php
// Counts the words of texts: one process runs many tasks.

function answer(array $task, array $fields): void
{
    fwrite(STDOUT, json_encode(["id" => $task["id"]] + $fields) . "\n");
}

while (($line = fgets(STDIN)) !== false) {
    $task = json_decode($line, true);
    $text = $task["params"]["text"] ?? null;
    if (!is_string($text)) {
        answer($task, ["success" => false, "error" => "params.text is missing or not text", "error_type" => "validation"]);
        continue;
    }
    answer($task, ["progress" => 50, "message" => "read"]);
    $words = count(preg_split('/\s+/u', $text, -1, PREG_SPLIT_NO_EMPTY));
    answer($task, ["success" => true, "data" => ["words" => $words]]);
}
