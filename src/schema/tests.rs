use std::time::Instant;

use serde_json::json;

use super::*;

mod trees;

/// A schema with a chain of definitions from `d0`: `level` builds each from a reference to the next, and the last is `leaf`.
fn chain(levels: usize, level: impl Fn(Value) -> Value, leaf: Value) -> Value {
    let next = |n: usize| json!({"$ref": format!("#/$defs/d{}", n + 1)});
    let mut definitions: Vec<_> = (0..levels).map(|n| (format!("d{n}"), level(next(n)))).collect();
    definitions.push((format!("d{levels}"), leaf));
    let definitions: serde_json::Map<_, _> = definitions.into_iter().collect();
    json!({"type": "object", "$defs": definitions, "$ref": "#/$defs/d0"})
}

/// A limit that is reached quickly.
const SOME: WorkLimit = WorkLimit { units: 100_000, ..WorkLimit::HEAVY };

fn message(schema: &Value) -> String {
    match Schema::new(schema) {
        Ok(_) => "taken".to_owned(),
        Err(fault) => fault.message,
    }
}

/// Asserts that `what` takes less than a minute, even on a busy machine, and not hours.
#[track_caller]
fn soon<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = what();
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    done
}

fn check(schema: &Value, params: &Value) -> Result<(), Fault> {
    match Arc::new(Schema::new(schema).unwrap()).check_within(params, Duration::from_secs(60), drop) {
        CheckResult::Fit => Ok(()),
        CheckResult::Unfit(fault) => Err(fault),
        other => panic!("{other:?}"),
    }
}

/// Builds a subschema from the next one.
type Level = fn(Value) -> Value;

#[test]
fn schemas_that_double_at_one_place_are_refused_before_compilation() {
    let too_many = "more than 10000 subschemas apply at one place, with references resolved";
    let doubles: [(&str, Level); 7] = [
        ("allOf", |next| json!({"allOf": [next, next]})),
        ("anyOf", |next| json!({"anyOf": [next, next]})),
        ("oneOf", |next| json!({"oneOf": [next, next]})),
        ("not", |next| json!({"not": {"allOf": [next, next]}})),
        ("if", |next| json!({"if": next, "then": next, "else": next})),
        ("dependent", |next| json!({"dependentSchemas": {"a": next, "b": next}})),
        ("unevaluated", |next| json!({"allOf": [next], "unevaluatedProperties": false})),
    ];
    for (what, level) in doubles {
        for leaf in [json!({}), json!(false), json!({"type": "string"})] {
            assert_eq!(soon(|| message(&chain(40, level, leaf))), too_many, "{what}");
        }
        assert_eq!(message(&chain(5, level, json!({}))), "taken", "{what}");
    }
    // Without references, and with anchors and ids.
    let nested = (0..40).fold(json!({}), |inside, _| json!({"allOf": [inside], "unevaluatedItems": false}));
    assert_eq!(soon(|| message(&json!({"type": "object", "allOf": [nested]}))), too_many);
    let (mut anchors, mut ids) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let to = |reference: String| json!({"$ref": reference});
        let next = to(format!("#a{}", n + 1));
        anchors.push(json!({"$anchor": format!("a{n}"), "allOf": [next, next]}));
        let next = to(format!("i{}", n + 1));
        ids.push(json!({"$id": format!("http://x/i{n}"), "anyOf": [next, next]}));
    }
    anchors.push(json!({"$anchor": "a40"}));
    ids.push(json!({"$id": "http://x/i40"}));
    assert_eq!(
        soon(|| message(&json!({"type": "object", "$ref": "#a0", "$defs": {"all": {"allOf": anchors}}}))),
        too_many
    );
    assert_eq!(soon(|| message(&json!({"type": "object", "$ref": "http://x/i0", "allOf": ids}))), too_many);
}

#[test]
fn patterns_that_take_much_memory_are_refused_before_they_are_compiled() {
    let too_many = "its patterns have more than 500000 states, with counted repetitions expanded";
    let classes = (0..1100).map(|n| (format!("p{n}"), json!({"pattern": format!("^[\\p{{L}}\\p{{N}}]{{200}}{n}$")})));
    let names = (0..2700).map(|n| (format!("\\w{{700}}{n}"), json!({})));
    let properties: serde_json::Map<_, _> = classes.collect();
    let pattern_properties: serde_json::Map<_, _> = names.collect();
    for schema in [
        json!({"type": "object", "properties": properties}),
        json!({"type": "object", "patternProperties": pattern_properties}),
        json!({"type": "object", "properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}}),
    ] {
        assert_eq!(soon(|| message(&schema)), too_many);
    }
    let one = json!({"type": "object", "properties": {"a": {"pattern": "^[\\p{L}\\p{N}]{5000}$"}}});
    assert!(message(&one).ends_with("is not a regular expression, or takes too much memory: repeat less"));
    let usual = (0..200).map(|n| (format!("p{n}"), json!({"pattern": "^[A-Za-z0-9_./-]{1,255}$"})));
    let usual: serde_json::Map<_, _> = usual.collect();
    assert_eq!(message(&json!({"type": "object", "properties": usual})), "taken");
}

#[test]
fn ids_of_some_drafts_do_not_hide_doubling() {
    let too_many = "more than 10000 subschemas apply at one place, with references resolved";
    let doubling = |id: &str, to: &str| {
        let mut definitions = serde_json::Map::new();
        for n in 0..40 {
            let next = json!({"$ref": format!("{to}#/$defs/d{}", n + 1)});
            definitions.insert(format!("d{n}"), json!({id: format!("x{n}"), "allOf": [next, next]}));
        }
        definitions.insert("d40".to_owned(), json!({}));
        json!({"type": "object", "$defs": definitions, "allOf": [{"$ref": "#/$defs/d0"}]})
    };
    assert_eq!(soon(|| message(&doubling("id", ""))), too_many);
    for draft in ["http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"] {
        let mut schema = doubling("$id", "");
        schema["$schema"] = json!(draft);
        assert_eq!(soon(|| message(&schema)), too_many, "{draft}");
    }
    for to in ["json-schema:///", ".", "./", "?", "json-schema:///%61/.."] {
        assert_eq!(soon(|| message(&doubling("title", to))), too_many, "{to}");
    }
    let mut schema = doubling("title", "http://x/r%61");
    schema["$id"] = json!("http://x/ra");
    schema["not"] = json!({"not": {"$id": "http://y/ra"}});
    assert_eq!(soon(|| message(&schema)), too_many);
}

#[test]
fn schemas_that_double_through_a_meta_schema_are_not_checked() {
    let params = |levels| (0..levels).fold(json!({}), |inside, _| json!({"not": inside}));
    for (draft, anchor, value) in
        [("2020-12", "$dynamicAnchor", json!("meta")), ("2019-09", "$recursiveAnchor", json!(true))]
    {
        let uri = |name: &str| format!("https://json-schema.org/draft/{draft}/{name}");
        let extended = |rest: Value| {
            let mut schema = json!({"$schema": uri("schema"), "$id": "http://x/y", anchor: value, "type": "object"});
            schema.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            Schema::new(&schema).unwrap()
        };
        let (whole, part) = (json!({"$ref": uri("schema")}), json!({"$ref": uri("meta/applicator")}));
        for rest in [
            json!({"allOf": [whole, whole]}),
            json!({"allOf": [part, part]}),
            json!({"allOf": [whole, part]}),
            json!({"allOf": [whole], "properties": {"not": {"$ref": "#"}}}),
        ] {
            let schema = extended(rest.clone());
            assert!(schema.check_now(&params(60), ErrorDetail::WithValue).is_none(), "{rest}");
            assert_eq!(soon(|| schema.check(&params(60), ErrorDetail::WithValue)), Err(Fault::too_much()), "{rest}");
        }
        // A single extension is checked.
        let schema = extended(json!({"allOf": [whole], "properties": {"x-unit": {"type": "string"}}}));
        assert_eq!(schema.check(&params(60), ErrorDetail::WithValue), Ok(()));
        assert!(schema.check(&json!({"not": {"x-unit": 1}}), ErrorDetail::WithValue).is_err());
        // So is the meta-schema itself.
        let parts = ["meta/core", "meta/applicator", "meta/validation", "meta/content", "meta/meta-data"];
        let parts: Vec<_> = parts.iter().map(|part| json!({"$ref": part})).collect();
        let schema = extended(json!({"$id": uri("schema"), "allOf": parts}));
        assert_eq!(schema.check(&params(60), ErrorDetail::WithValue), Ok(()));
        assert!(schema.check(&json!({"properties": {"a": {"type": 5}}}), ErrorDetail::WithValue).is_err());
    }
}

#[test]
fn long_chains_and_long_schemas_are_refused() {
    let in_chain = "more than 128 subschemas in a chain apply at one place";
    for levels in [200, 1000] {
        assert_eq!(soon(|| message(&chain(levels, |next| next, json!({})))), in_chain, "{levels}");
    }
    assert_eq!(message(&chain(100, |next| next, json!({}))), "taken");
    assert_eq!(soon(|| message(&chain(10_000, |next| next, json!({})))), "longer than 65535 bytes");
    let values = "too large: more than 1000000 values";
    assert_eq!(soon(|| message(&chain(100_000, |next| next, json!({})))), values);
    let children = |next| json!({"properties": {"a": next}});
    assert_eq!(soon(|| message(&chain(1000, children, json!({})))), "taken");
    let entries: Vec<String> = (0..4000).map(|n| format!("entry {n}")).collect();
    assert_eq!(soon(|| message(&json!({"type": "object", "properties": {"a": {"enum": entries}}}))), "taken");
}

#[test]
fn nothing_is_fetched() {
    for uri in ["http://127.0.0.1:9/s.json", "https://127.0.0.1:9/s.json", "file:///etc/passwd", "s.json", "urn:x:y"] {
        for keyword in ["$ref", "$dynamicRef"] {
            assert!(Schema::new(&json!({"type": "object", keyword: uri})).is_err(), "{keyword} {uri}");
        }
    }
    let known =
        json!({"type": "object", "properties": {"s": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}});
    assert_eq!(check(&known, &json!({"s": {"type": "object"}})), Ok(()));
    assert!(check(&known, &json!({"s": {"type": 5}})).is_err());
}

#[test]
fn schemas_that_double_with_each_level_of_the_params_are_not_checked() {
    let params = (0..60).fold(json!({}), |inside, _| json!({"a": inside}));
    let doubling = [
        json!({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}),
        json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["x"]}, {"properties": {"a": {"$ref": "#"}}}]}),
        json!({"properties": {"a": {"$ref": "#"}}, "patternProperties": {"a": {"$ref": "#"}}}),
        json!({"properties": {"a": {"$ref": "#"}}, "unevaluatedProperties": false, "allOf": [{"properties": {"a": {"$ref": "#"}}}]}),
        json!({"$dynamicAnchor": "t", "allOf": [
            {"additionalProperties": {"$dynamicRef": "#t"}}, {"additionalProperties": {"$dynamicRef": "#t"}}]}),
    ];
    for mut schema in doubling {
        schema["type"] = json!("object");
        let plan = Schema::new(&schema).unwrap().plan;
        assert!(!soon(|| plan.work(&params, SOME)), "{schema}");
    }
    let tree = json!({"type": "object", "required": [], "properties": {
        "a": {"$ref": "#"}, "children": {"type": "array", "items": {"$ref": "#"}}}});
    assert_eq!(check(&tree, &params), Ok(()));
}

/// For each item or field, each subschema is evaluated to find out if it leaves it over.
#[test]
fn unevaluated_items_of_many_subschemas_are_not_checked() {
    let of = |of_each: Value, keyword: &str| {
        let all: Vec<Value> = vec![of_each; 1000];
        json!({"type": "object", "properties": {"v": {"allOf": all, keyword: false}}})
    };
    let items = json!({"v": vec![1; 2000]});
    let fields = json!({"v": (0..2000).map(|n| (n.to_string(), n.into())).collect::<serde_json::Map<_, _>>()});
    let cases = [
        (of(json!({"prefixItems": [true]}), "unevaluatedItems"), &items),
        (of(json!({"contains": {"const": 2}, "minContains": 0}), "unevaluatedItems"), &items),
        (of(json!({"if": {"maxItems": 1}, "then": {}}), "unevaluatedItems"), &items),
        (of(json!({"properties": {"a": true}}), "unevaluatedProperties"), &fields),
        (of(json!({"patternProperties": {"^a": true}}), "unevaluatedProperties"), &fields),
        (of(json!({"dependentSchemas": {"1": {"properties": {"a": true}}}}), "unevaluatedProperties"), &fields),
    ];
    for (schema, params) in cases {
        let plan = Schema::new(&schema).unwrap().plan;
        assert!(!soon(|| plan.work(params, SOME)), "{:.120}", schema.to_string());
    }
    let twice = json!({"type": "object", "allOf": [{"unevaluatedProperties": {"$ref": "#"}}], "unevaluatedProperties": {"$ref": "#"}});
    let deep = (0..60).fold(json!({}), |inside, _| json!({"a": inside}));
    assert!(!soon(|| Schema::new(&twice).unwrap().plan.work(&deep, SOME)));
    // Usual schemas take little work.
    let usual = json!({"type": "object", "allOf": [{"properties": {"a": true}}, {"properties": {"v": {"type": "object"}}}],
        "unevaluatedProperties": false});
    assert!(Schema::new(&usual).unwrap().plan.work(&fields, WorkLimit::LIGHT));
}

#[test]
fn patterns_and_arrays_that_take_for_ever_are_not_checked() {
    let of = |schema: Value| json!({"type": "object", "properties": {"v": schema}});
    let long = "a".repeat(4 << 20);
    let too_much = [
        (of(json!({"pattern": "^(?=(a+)+b)"})), json!({"v": long})),
        (of(json!({"pattern": "^(?:(?=.*a)a)+(?=b)b$"})), json!({"v": "a".repeat(20_000)})),
        (of(json!({"pattern": "^(?:(?=(?:(?=.*a)a)*)a)+b$"})), json!({"v": "a".repeat(4_000)})),
        (of(json!({"pattern": "(a{1,1000}){1,5}c"})), json!({"v": long})),
        (of(json!({"items": {"pattern": "(?!x)a{1,1000}$"}})), json!({"v": vec!["a".repeat(1000); 2_000]})),
        (of(json!({"uniqueItems": true})), json!({"v": (0..10_000).map(nested).collect::<Vec<_>>()})),
        (of(json!({"items": {"enum": vec![0; 30_000]}})), json!({"v": vec![5; 600_000]})),
    ];
    for (schema, params) in too_much {
        let plan = Schema::new(&schema).unwrap().plan;
        assert!(!soon(|| plan.work(&params, WorkLimit::HEAVY)), "{:.80}", schema.to_string());
    }
    // After the maximum number of backtracking steps, the pattern counts as not matching.
    let breach = soon(|| check(&of(json!({"pattern": "^(?=x|a)((a|aa)+)+\\2?b$"})), &json!({"v": "a".repeat(60)})));
    assert!(breach.is_err(), "{breach:?}");
    let fine = [
        (of(json!({"pattern": "^a+$"})), json!({"v": "a".repeat(1 << 18)})),
        (of(json!({"uniqueItems": true, "items": {"type": "integer"}})), json!({"v": (0..50_000).collect::<Vec<_>>()})),
        (of(json!({"pattern": "^(?!admin)[a-z]{1,20}$"})), json!({"v": "somebody"})),
        (of(json!({"pattern": "^(?!\\s*$)[\\s\\S]+$"})), json!({"v": "some text ".repeat(10_000)})),
        (of(json!({"items": {"pattern": HOST_NAME}})), json!({"v": (0..1000).map(host_name).collect::<Vec<_>>()})),
    ];
    for (schema, params) in fine {
        assert_eq!(soon(|| check(&schema, &params)), Ok(()), "{:.80}", schema.to_string());
    }
    let late = json!({"v": (0..50_000).map(|n| if n == 40_000 { json!("x") } else { json!(n) }).collect::<Vec<_>>()});
    let fault = check(&of(json!({"items": {"type": "integer"}})), &late).unwrap_err();
    assert_eq!(fault.path, "/v/40000");
}

/// A pattern from real schemas.
const HOST_NAME: &str = r"^(?=.{1,253}$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*$";

fn host_name(number: usize) -> String {
    format!("node-{number}.rack-{}.example-data-centre.prismq.internal", number % 40)
}

/// Nested arrays that differ for each number.
fn nested(number: usize) -> Value {
    (0..17)
        .rev()
        .fold(json!([]), |inside, bit| if number >> bit & 1 == 1 { json!([inside, []]) } else { json!([[], inside]) })
}

#[test]
fn an_abandoned_check_blocks_further_checks() {
    let schema = Arc::new(Schema::new(&json!({"type": "object"})).unwrap());
    let (go_on, held) = mpsc::channel::<()>();
    let (sender, result) = mpsc::channel();
    let long = move |_: &Schema| held.recv().map_err(|error| Fault::at_root(error.to_string()));
    let waiting = schema.start(long, move |checked| sender.send(checked).unwrap()).unwrap();
    let short = || {
        let (sender, result) = mpsc::channel();
        let _waiting = schema.start(|_| Ok(()), move |checked| sender.send(checked).unwrap())?;
        result.recv().unwrap().map_err(|fault| fault.message)
    };
    assert_eq!(short(), Ok(()));
    drop(waiting);
    assert_eq!(short(), Err("an earlier check against the same schema takes too long".to_owned()));
    go_on.send(()).unwrap();
    result.recv().unwrap().unwrap();
    assert_eq!(short(), Ok(()));
}

/// A pattern that reaches the maximum number of backtracking steps for each of many texts: minutes of work.
fn minutes_of_work() -> (Value, Value) {
    let schema =
        json!({"type": "object", "properties": {"v": {"items": {"not": {"pattern": "^(?=x|a)((a|aa)+)+\\2?b$"}}}}});
    (schema, json!({"v": vec!["a".repeat(60); 4_000]}))
}

#[test]
fn an_abandoned_check_stops() {
    let (schema, long) = minutes_of_work();
    let schema = Arc::new(Schema::new(&schema).unwrap());
    let late = schema.check_within(&long, Duration::from_millis(20), drop);
    assert!(matches!(late, CheckResult::Unknown(_)), "{late:?}");
    let start = Instant::now();
    while schema.abandoned.load(std::sync::atomic::Ordering::SeqCst) > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_work_limit_does_not_change_what_a_schema_accepts() {
    let data = json!({"properties": {"a": {"x": 1}}, "items": [{}]});
    let schema = json!({"type": "object", "properties": {
        "enum": {"enum": [data, 1]}, "const": {"const": data}, "a": {"$ref": "#/properties/const"},
        "$prismq-look": {"type": "integer"}, "default": {"default": data, "properties": {"a": {"type": "string"}}}}});
    for fits in [
        json!({"enum": data}),
        json!({"const": data, "a": data}),
        json!({"$prismq-look": 5}),
        json!({"default": {"a": "x"}}),
    ] {
        assert_eq!(check(&schema, &fits), Ok(()), "{fits}");
    }
    for breaks in [
        json!({"enum": {}}),
        json!({"const": {}}),
        json!({"a": 1}),
        json!({"$prismq-look": "5"}),
        json!({"default": {"a": 1}}),
    ] {
        assert!(check(&schema, &breaks).is_err(), "{breaks}");
    }
}

#[test]
fn messages_show_the_schema_as_it_was_written() {
    for wrong in [json!({"pattern": "a"}), json!({"properties": {"a": {"pattern": "a"}}})] {
        let schema = json!({"type": "object", "properties": {"v": {"not": wrong}}});
        let fault = check(&schema, &json!({"v": {"a": "a"}})).or(check(&schema, &json!({"v": "a"}))).unwrap_err();
        assert!(fault.message.starts_with(&wrong.to_string()), "{}", fault.message);
    }
}

#[test]
fn a_check_that_panics_is_over() {
    let schema = Arc::new(Schema::new(&json!({"type": "object"})).unwrap());
    for _ in 0..2 {
        let (sender, result) = mpsc::channel();
        let _waiting =
            schema.start(|_| panic!("as a check must not"), move |checked| sender.send(checked).unwrap()).unwrap();
        result.recv().unwrap().unwrap_err();
    }
}

#[test]
fn a_wait_for_a_check_can_be_interrupted() {
    let schema = Arc::new(Schema::new(&json!({"type": "object", "properties": {"v": {"uniqueItems": true}}})).unwrap());
    let params = json!({"v": vec![0; 30_000]});
    let verdict = |limit, interrupt: fn(Box<dyn Fn() + Send>)| schema.check_within(&params, limit, interrupt);
    let CheckResult::Unfit(fault) = verdict(Duration::from_secs(60), drop) else { panic!("not checked") };
    assert_eq!(fault.path, "/v");
    assert_eq!(verdict(Duration::from_secs(60), |interrupt| interrupt()), CheckResult::Interrupted);
    assert!(matches!(verdict(Duration::ZERO, drop), CheckResult::Unknown(_)));
}
