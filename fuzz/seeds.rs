//! Writes the recorded answers into the corpus of `answers`, once for every call.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// As many as `answers` makes.
const CALLS: u8 = 13;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recordings = fs::read_to_string(root.join("../tests/fixtures/recordings.json")).unwrap();
    let recordings: Vec<Value> = serde_json::from_str(&recordings).unwrap();
    let corpus = root.join("corpus/answers");
    fs::create_dir_all(&corpus).unwrap();
    for (number, recording) in recordings.iter().enumerate() {
        let response = &recording["response"];
        let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap() - 200;
        let body = response["body"].as_str().unwrap();
        for call in 0..CALLS {
            let input = [&[call], &status.to_be_bytes()[..], body.as_bytes()].concat();
            fs::write(corpus.join(format!("recording-{number}-{call}")), input).unwrap();
        }
    }
}
