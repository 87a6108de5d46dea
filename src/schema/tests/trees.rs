//! Trees: schemas that refer to themselves and apply at each level.

use super::*;

/// The schema of a node of a kind, with children.
fn inner(kind: &str) -> Value {
    let children = json!({"type": "array", "items": {"$ref": "#/$defs/node"}});
    json!({"type": "object", "required": ["kind", "children"], "properties": {"kind": {"const": kind}, "children": children}})
}

/// The schema of a tree of nodes, each of one of these kinds or a leaf.
fn tree_of(kinds: &[&str], keyword: &str) -> Value {
    let leaf = json!({"type": "object", "required": ["kind"], "properties": {"kind": {"const": "leaf"}}});
    let nodes: Vec<_> = kinds.iter().map(|kind| inner(kind)).chain([leaf]).collect();
    json!({"type": "object", "$defs": {"node": {keyword: nodes}}, "properties": {"root": {"$ref": "#/$defs/node"}}})
}

/// A tree with `levels` levels, in which each node has `children` children.
fn tree(levels: usize, children: usize, leaf: &str) -> Value {
    let level = |inside, n: usize| json!({"kind": (["and", "or"][n % 2]), "children": vec![inside; children]});
    json!({"root": (0..levels).fold(json!({"kind": leaf}), level)})
}

#[test]
fn trees_of_several_kinds_of_nodes_are_checked() {
    for keyword in ["oneOf", "anyOf"] {
        let few = tree_of(&["and", "or", "not"], keyword);
        let many = tree_of(&["and", "or", "not", "xor", "nand", "nor"], keyword);
        for (schema, levels, children) in [(&few, 9, 2), (&few, 12, 2), (&few, 40, 1), (&many, 10, 2), (&many, 4, 10)] {
            assert_eq!(soon(|| check(schema, &tree(levels, children, "leaf"))), Ok(()), "{levels} {children}");
            soon(|| check(schema, &tree(levels, children, "nonsense"))).unwrap_err();
        }
    }
}

#[test]
fn trees_whose_nodes_name_no_kind_are_checked() {
    let node = json!({"$ref": "#/$defs/node"});
    let binary = json!({"type": "object", "required": ["l", "r"], "properties": {"l": node, "r": node}});
    let unary = json!({"type": "object", "required": ["neg"], "properties": {"neg": node}});
    let nodes = json!({"oneOf": [binary, unary, {"type": "number"}, {"type": "array", "items": node}]});
    let schema = json!({"type": "object", "$defs": {"node": nodes}, "properties": {"root": node}});
    let tree = (0..12).fold(json!(1), |inside, _| json!({"l": inside, "r": [{"neg": inside}]}));
    assert_eq!(soon(|| check(&schema, &json!({"root": tree}))), Ok(()));
    let tree = (0..90).fold(json!(1), |inside, _| json!({"neg": inside}));
    assert_eq!(soon(|| check(&schema, &json!({"root": tree}))), Ok(()));
}

#[test]
fn circles_at_one_place_end() {
    let all =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({"$ref": format!("#/$defs/{name}")})).collect() };
    let pair = json!({"a": {"allOf": all(&["b", "b"])}, "b": {"allOf": all(&["a", "a"])}});
    let three =
        json!({"a": {"anyOf": all(&["b", "c"])}, "b": {"oneOf": all(&["a", "c"])}, "c": {"not": all(&["a"])[0]}});
    let whole = json!({"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}});
    for definitions in [pair, three, whole] {
        let to_it = json!({"$ref": "#/$defs/a"});
        let schema =
            json!({"type": "object", "$defs": definitions, "allOf": [to_it, to_it], "properties": {"v": to_it}});
        let schema = Schema::new(&schema).unwrap();
        for value in [json!({}), json!("text"), json!([[[[]]]])] {
            // The result is up to the library.
            let _ = soon(|| schema.check_now(&json!({"v": value}), ErrorDetail::WithValue).expect("little work"));
        }
    }
}

#[test]
fn schemas_that_double_along_many_subschemas_are_not_checked() {
    let next = |n: usize| json!({"$ref": format!("#/$defs/d{}", (n + 1) % 40)});
    let level = |n: usize| json!({"properties": {"a": {"anyOf": [next(n), next(n)]}}});
    let ring: serde_json::Map<_, _> = (0..40).map(|n| (format!("d{n}"), level(n))).collect();
    let schema = json!({"type": "object", "$defs": ring, "$ref": "#/$defs/d0"});
    let params = (0..80).fold(json!(1), |inside, _| json!({"a": inside}));
    assert_eq!(soon(|| check(&schema, &params)), Err(Fault::too_much()));
}

#[test]
fn to_reckon_the_work_takes_little_memory() {
    let items = json!({"items": {"type": "array"}});
    let schema = json!({"type": "object", "properties": {"v": {"allOf": vec![items; 2000]}}});
    let schema = Schema::new(&schema).unwrap();
    let params = json!({"v": vec![json!([[]]); 2_000]});
    let reckoned = allocation_counter::measure(|| assert!(schema.plan.work(&params, WorkLimit::HEAVY)));
    assert!(reckoned.bytes_max < 64 << 20, "{} bytes", reckoned.bytes_max);
}
