//! What JSON encoders really print, and what only looks like JSON, from once and persistent handlers.

use std::fs;

use crate::task::Outcome;
use serde_json::{Value, json};

use super::persistent::Warm;
use super::{Bench, failure};

/// Returns the outcome of a handler that prints these bytes.
fn printed(bytes: &[u8]) -> Outcome {
    let bench = Bench::new("cat out");
    fs::write(bench.path("out"), bytes).unwrap();
    bench.run()
}

/// Returns the outcome of a persistent handler that answers its first task with these bytes and a line break.
fn answered(bytes: &[u8]) -> Outcome {
    let warm = Warm::new("next; cat out; echo; next; exit 1");
    fs::write(warm.bench.path("out"), bytes).unwrap();
    warm.give(json!({}))
}

/// Contents of JSON strings, some of them non-standard, and how they are read.
const ODD_TEXTS: [(&[u8], &str); 12] = [
    (br"\ud83d", "\u{fffd}"),
    (br"\uD83D", "\u{fffd}"),
    (br"\ude00", "\u{fffd}"),
    (br"a\ud83db", "a\u{fffd}b"),
    (br"\ud83d\ud83d\ude00", "\u{fffd}😀"),
    (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
    (br"\ud83d\u0041", "\u{fffd}A"),
    (br"\ud83d\n", "\u{fffd}\n"),
    (br"\ud83d\ude00", "😀"),
    (br"\\ud83d", r"\ud83d"),
    (b"a\xffb", "a\u{fffd}b"),
    (b"\xed\xa0\xbd", "\u{fffd}\u{fffd}\u{fffd}"),
];

#[test]
fn unusual_texts_in_json_are_read() {
    for (inside, text) in ODD_TEXTS {
        let quoted = [b"\"", inside, b"\""].concat();
        assert_eq!(printed(&quoted), Outcome::success(json!(text)));
        let object = [b"{", &quoted[..], b": [", &quoted, b"]}"].concat();
        assert_eq!(printed(&object), Outcome::success(json!({ text: [text] })));
    }
}

#[test]
fn a_failure_is_one_however_it_is_encoded() {
    for (inside, text) in ODD_TEXTS {
        let before = r#""success":false,"error_type":"not_found","data":{"ideas":[1]},"error":""#.as_bytes();
        let fields = [before, inside, b"\"}"].concat();
        let outcomes = [
            printed(&[b"{", &fields[..]].concat()),
            printed(&[b"\xef\xbb\xbf{", &fields[..], b"\r\n"].concat()),
            answered(&[br#"{"id":1,"#, &fields[..]].concat()),
            answered(&[br#" {"id":1,"#, &fields[..], b"\r"].concat()),
            answered(&[b"\xef\xbb\xbf", &br#"{"id":1,"#[..], &fields[..]].concat()),
        ];
        for outcome in outcomes {
            assert_eq!((failure(&outcome, "not_found").error.as_str(), outcome.data), (text, json!({"ideas": [1]})));
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    for (rest, data) in
        [("{\"a\":1}", json!({"a": 1})), ("", Value::Null), ("\n", Value::Null), ("text\n", json!({"output": "text"}))]
    {
        assert_eq!(printed(format!("\u{feff}{rest}").as_bytes()), Outcome::success(data));
    }
}

#[test]
fn of_keys_that_are_there_twice_the_last_one_counts() {
    let twice = br#"{"success":true,"success":false,"error":"a","error":"b"}"#;
    assert_eq!(failure(&printed(twice), "handler").error, "b");
}

/// Invalid JSON, with a part of the error message.
fn unreadable() -> Vec<(Vec<u8>, String)> {
    let deep = |depth: usize| format!("{{\"success\":false,\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let utf_16 = |unit: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
        format!("{mark}{{\"success\":false}}").encode_utf16().flat_map(unit).collect()
    };
    [
        (&br#"{"success":false,"data":NaN}"#[..], "expected a JSON value at line 1 column 25: NaN is not a JSON value"),
        (br#"{"success":false,"data":[1,Infinity]}"#, "column 28: Infinity is not a JSON value"),
        (br#"{"success":false,"data":-Infinity}"#, "Infinity is not a JSON value"),
        (br#"{"success":false,"data":nan}"#, "at line 1 column 26"),
        (br#"{"success":false,"error":"cut o"#, "at line 1 column 31"),
        (b"{", "at line 1 column 1"),
        (br#"{"success":false} done"#, "unexpected text after the end at line 1 column 19"),
        (b"{\"success\":false}\n{\"success\":true}", "unexpected text after the end at line 2 column 1"),
        (b"{\"success\":false}\0", "unexpected text after the end at line 1 column 18"),
        (b"\0{\"success\":false}", "UTF-16"),
        (b"{\"success\":false,\"error\":\"a\nb\"}", "control character"),
        (b"{\"success\":false,\"error\":\"a\0b\"}", "control character"),
        (br"{'success': False}", "at line 1 column 2"),
        (br#"{"success": False}"#, "at line 1 column 13"),
        (br#"{"success":false,}"#, "at line 1 column 18"),
        (br#"{"success":false} // well"#, "at line 1 column 19"),
        (br#"{"success":false,"error":"\x41"}"#, "invalid escape"),
        (br#"{"success":false,"error":"\ud83"}"#, "invalid escape"),
        (br#"[{"score":NaN}]"#, "NaN is not a JSON value"),
        (b" \n [ {\"score\":NaN}]", "at line 2 column 13: NaN"),
    ]
    .map(|(bytes, error)| (bytes.to_vec(), error.to_owned()))
    .into_iter()
    .chain([
        (utf_16(u16::to_le_bytes, "\u{feff}"), "UTF-16".to_owned()),
        (utf_16(u16::to_be_bytes, "\u{feff}"), "UTF-16".to_owned()),
        (utf_16(u16::to_le_bytes, ""), "UTF-16".to_owned()),
        (utf_16(u16::to_be_bytes, ""), "UTF-16".to_owned()),
        (deep(96).into_bytes(), "nested deeper than 96 levels at line 1 column 120".to_owned()),
        (deep(127).into_bytes(), "nested deeper than 96 levels".to_owned()),
        (deep(100_000).into_bytes(), "nested deeper than 96 levels".to_owned()),
        (["[".repeat(97), "]".repeat(97)].concat().into_bytes(), "nested deeper than 96 levels".to_owned()),
        (["[".repeat(100_000), "]".repeat(100_000)].concat().into_bytes(), "nested deeper than 96 levels".to_owned()),
        (
            format!("{{\"n\":{}}}", "1".repeat(1001)).into_bytes(),
            "more than 1000 characters at line 1 column 6".to_owned(),
        ),
    ])
    .collect()
}

#[test]
fn output_that_starts_like_json_and_cannot_be_read_is_a_failure() {
    for (bytes, part) in unreadable() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        let outcome = printed(&bytes);
        let failure = failure(&outcome, "handler");
        assert!(failure.error.starts_with("output is ") && failure.error.contains(&part), "{shown}: {failure:?}");
        assert!(!failure.error.contains('\n') && !failure.retryable, "{failure:?}");
        let kept = String::from_utf8_lossy(&bytes).trim_end_matches('\n').trim_start_matches('\u{feff}').to_owned();
        assert_eq!(outcome.data, json!({"output": kept}), "nothing of it is lost");
    }
}

/// PHP prints one for each included file that has one, with white space between them.
#[test]
fn byte_order_marks_before_it_make_no_difference() {
    for mark in ["\u{feff}", "\u{feff}\u{feff}", "\n \u{feff}", "\u{feff}\n\u{feff} "] {
        let marked = |bytes: &[u8]| [mark.as_bytes(), bytes].concat();
        let said = printed(&marked(br#"{"success":false,"error":"no","error_type":"odd"}"#));
        assert_eq!(failure(&said, "odd").error, "no", "{mark:?}");
        for (bytes, _) in unreadable() {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
            let error = failure(&printed(&marked(&bytes)), "handler").error;
            assert!(error.starts_with("output is "), "{mark:?} {shown}: {error}");
        }
    }
}

#[test]
fn a_line_that_cannot_be_read_is_a_failure() {
    for (bytes, part) in unreadable() {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
        let failure = failure(&answered(&bytes), "handler");
        assert!(failure.error.contains("printed a line "), "{shown}: {failure:?}");
        // If a line of it is valid JSON, the error is the missing `id`.
        if !bytes.contains(&b'\n') && !part.starts_with("UTF-16") && !bytes.contains(&0) {
            assert!(failure.error.contains(&part), "{shown}: {failure:?}");
        }
    }
}

#[test]
fn the_exit_code_says_what_failed_where_the_output_cannot_be_read() {
    let bench = Bench::new("echo reason >&2; echo '{\"success\":false,'; exit 75");
    let outcome = bench.run();
    let failure = failure(&outcome, "temporary");
    assert_eq!((failure.error.as_str(), failure.retryable), ("reason", true));
    assert_eq!(outcome.data, json!({"output": "{\"success\":false,"}));
}

#[test]
fn the_last_words_are_told_with_what_cannot_be_read() {
    let failure = failure(&Bench::new("echo warning >&2; echo '{\"a\":NaN}'").run(), "handler");
    assert!(failure.error.ends_with("; stderr:\nwarning"), "{failure:?}");
}

#[test]
fn text_before_an_envelope_is_a_failure() {
    for (text, line) in [
        ("loading\n{\"success\":false,\"error\":\"no\"}", 2),
        ("[INFO] loading\n\n{\"success\":true}\nbye", 3),
        ("loading\n{\n  \"success\": false\n}\n", 2),
        ("loading 9 %\rloading 99 %\r{\"success\":false}\n", 1),
        ("loading\n\t {\"success\":false}\r\n", 2),
        ("loading\n{\"success\":false,\"error\":\"\\ud83d\"}", 2),
        ("x\n{\"step\":1}\n{\"success\":false}", 3),
        ("x\n{\"step\":\n{\"success\":false}", 3),
        ("x\n{\"success\":false,\"score\":NaN}", 2),
        ("x\n{ \"success\":false,\"error\":\"cut o", 2),
        ("x\n\u{feff}{\"success\":false}", 2),
    ] {
        let error = failure(&printed(text.as_bytes()), "handler").error;
        assert_eq!(error, format!("output has text before the envelope at line {line}"), "{text:?}");
    }
}

#[test]
fn other_text_stays_text() {
    for text in [
        "[INFO] well",
        "[1] a footnote",
        "[[link]]",
        "NaN",
        "1 2",
        "two\nlines",
        "a {\"success\":false} in the middle",
        "line\n{\"words\":3}",
        "line\n{broken",
        "\"half",
        "truely",
        "{'a': 1}",
        "[{'a': 1}, {'b': None}]",
        "{'status': 'success', 'n': 1}",
        "{success} of {total}: success",
        "{{ title }}\n{\"words\":3}",
        "{% if x %}",
        "{\\bf x} = 3",
        "{\\rtf1\\ansi text}",
        "{ color: red; }",
        "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
        "{1, 2}",
        "{a: 1, b: 2}",
        "[{name}](link)",
        " \n{ soft } light",
    ] {
        assert_eq!(printed(text.as_bytes()), Outcome::success(json!({"output": text})));
    }
    let ruler = format!("[INFO] {}", "-".repeat(2000));
    assert_eq!(printed(ruler.as_bytes()), Outcome::success(json!({"output": ruler})));
}

#[test]
fn progress_is_read_as_answers_are() {
    let bench = Bench::new("cat lines >&3");
    let long = format!("{{\"progress\":60,\"message\":\"{}\"}}", "x".repeat(9000));
    let lines = [
        b"\xef\xbb\xbf{\"progress\":10}\n".to_vec(),
        br#"{"progress":20,"message":"\ud83d"}"#.to_vec(),
        b"\n{\"progress\":30,\"message\":\"a\xffb\"}\n".to_vec(),
        b"{\"progress\":NaN}\n{\"progress\":1e400}\n".to_vec(),
        format!("{long}\n{{\"progress\":40.0}}").into_bytes(),
    ];
    fs::write(bench.path("lines"), lines.concat()).unwrap();
    bench.run();
    let progress = bench.listener.progress.lock().unwrap().clone();
    let expected = [(10, None), (20, Some("\u{fffd}")), (30, Some("a\u{fffd}b")), (40, None)];
    assert_eq!(progress, expected.map(|(percent, message)| (percent, message.map(str::to_owned))));
    let [warning] = &bench.stderr()[..] else { panic!("{:?}", bench.stderr()) };
    assert!(warning.contains("NaN is not a JSON value") && warning.contains("expected {\"progress\""), "{warning}");
}

#[test]
fn a_report_of_progress_that_is_too_long_is_said_to_be() {
    let bench = Bench::new("cat lines >&3");
    fs::write(bench.path("lines"), format!("{{\"progress\":60,\"message\":\"{}\"}}", "x".repeat(9000))).unwrap();
    bench.run();
    assert!(bench.stderr()[0].contains("longer than 8 KiB"), "{:?}", bench.stderr());
}

#[test]
fn an_envelope_that_is_not_alone_is_a_failure() {
    let late = "output has text before the envelope at line ";
    let repr = "as a Python repr";
    for (text, error) in [
        ("loading {\"success\":false,\"error\":\"no\"}", late),
        ("[INFO] loading {\"success\": true, \"data\": {\"a\": {}}}\nbye", late),
        ("result: { \"success\" : false }\r\n", late),
        ("9 %\r99 % {\"success\":false}\n", late),
        ("INFO {\n  \"success\": false\n}", late),
        ("x {\"success\":false,\"score\":NaN}", late),
        ("x\n\u{1b}[31m{\"success\":false}\u{1b}[0m", late),
        ("x \u{1b}[31m{\"success\":false}\u{1b}[0m\n", late),
        ("\u{1b}[31mx\u{1b}[0m {\"success\":false}", late),
        ("x\n{ success: false, error: 'no' }", late),
        ("x {\"success\"=>false}", late),
        ("<pre>{\"success\":false,\"error\":\"no\"}</pre>", late),
        ("<td><b>{success: false}</b> </td>\n", late),
        ("x {:success=>false}", late),
        ("b'{\"success\": false}'", repr),
        ("x\nb'{\"success\": false}'\n", repr),
        ("x {'success': False, 'error': 'no'}", repr),
        ("x\n{'success': True}", repr),
        ("(b\"{'success': False}\")", repr),
    ] {
        let outcome = printed(text.as_bytes());
        assert!(failure(&outcome, "handler").error.contains(error), "{text:?}: {outcome:?}");
    }
    for (text, error) in [
        ("{'success': False}", "keys must be in double quotes"),
        ("{'error': 'no', 'success': False}", "keys must be in double quotes"),
        ("[{'error': 'no', 'success': False}]", "keys must be in double quotes"),
        ("{error: 'no', success: false}", "keys must be in double quotes"),
        ("{ error = 'no', success = false }", "keys must be in double quotes"),
        ("{:error=>\"no\", :success=>false}", "keys must be in double quotes"),
        ("{'error': 'no', 'success': Fal", "keys must be in double quotes"),
        ("{\u{1b}[34m\"success\"\u{1b}[0m\u{1b}[1;39m:false}", "keys must be in double quotes"),
        ("{{\"error\": \"no\", \"success\": false}}", "keys must be in double quotes"),
        ("{\\\"success\\\": false}", "keys must be in double quotes"),
        ("{ // why\n\"success\": false}", "keys must be in double quotes"),
        ("{{ title }}\n{\"success\":false}", "keys must be in double quotes"),
        ("{\"a\":1}\n{\"a\":2}", "unexpected text after the end at line 2"),
        ("{} done", "unexpected text after the end"),
        ("{\"success\": False}", "False is not a JSON value"),
        ("{\"success\":true,\"data\":None}", "None is not a JSON value"),
    ] {
        assert!(failure(&printed(text.as_bytes()), "handler").error.contains(error), "{text}");
    }
}

#[test]
fn colours_around_an_object_make_no_difference() {
    for (before, after) in
        [("\u{1b}[31m", "\u{1b}[0m"), ("\u{1b}[?25l\n", "\n\u{1b}[?25h"), ("\u{1b}[1m \u{1b}[32m", "")]
    {
        let said = printed(format!("{before}{{\"success\":false,\"error\":\"no\"}}{after}\n").as_bytes());
        assert_eq!(failure(&said, "handler").error, "no", "{before:?}");
        let said = printed(format!("{before}{{\"success\":false,\"score\":NaN}}{after}\n").as_bytes());
        assert!(failure(&said, "handler").error.contains("NaN is not a JSON value"), "{said:?}");
    }
    for (before, after) in [("\u{1b}[31m", "\u{1b}[0m"), ("\u{1b}[1m \u{1b}[32m", "")] {
        let said = answered(format!("{before}{{\"id\":1,\"success\":false,\"error\":\"no\"}}{after}").as_bytes());
        assert_eq!(failure(&said, "handler").error, "no", "{before:?}");
    }
    let text = "\u{1b}[31mred\u{1b}[0m";
    assert_eq!(printed(text.as_bytes()), Outcome::success(json!({"output": text})));
}

#[test]
fn output_in_wide_characters_is_a_failure_whatever_it_holds() {
    for text in ["[1,2]", "\"text\"", "5", "text", "{}", "\u{feff}[1,2]", "\u{feff}text"] {
        let wide = |bytes: fn(u32) -> [u8; 4]| text.chars().flat_map(|it| bytes(it as u32)).collect::<Vec<u8>>();
        let encoded = [
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            wide(u32::to_le_bytes),
            wide(u32::to_be_bytes),
        ];
        for bytes in encoded {
            assert!(failure(&printed(&bytes), "handler").error.contains("UTF-16 or UTF-32"), "{text:?} {bytes:?}");
        }
    }
    for text in ["a\0b", "ab\0", "\0\0\0\0", "text\0text"] {
        assert_eq!(printed(text.as_bytes()), Outcome::success(json!({"output": text})));
    }
}
