//! The alerts and the dashboard in `deploy/` fit what a worker shows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{EmbeddedTaskManager, Rig, StatusWorker, promtool};

const ALERTS: &str = include_str!("../../../deploy/alerts.yml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana.json");

/// What starts with `prismq_` in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("prismq_")).collect()
}

#[test]
fn alerts_are_raised_when_they_should_be() {
    promtool(&["test", "rules", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/alerts.test.yml")], "");
}

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let rig = Rig::of(EmbeddedTaskManager::with(|settings| settings.max_attempts = 1), &[("case", "")]);
    let worker = StatusWorker::start(&rig, []);
    rig.case("bad", "exit 65");
    worker.wait_for_metric("prismq_tasks_failed_total{error_type=\"validation\",type=\"case\"} 1");
    let shown = worker.get("/metrics").1;
    let shown = names(&shown);

    for text in [ALERTS, DASHBOARD] {
        let used = names(text);
        assert!(used.len() > 4, "{used:?}");
        assert!(used.is_subset(&shown), "{:?}", used.difference(&shown));
    }
}

#[test]
fn every_metric_is_documented() {
    let documented = names(include_str!("../../../docs/status.md"));
    let rig = Rig::start();
    let text = StatusWorker::start(&rig, []).get("/metrics").1;
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> =
        described.filter(|name| name.starts_with("prismq_") && !documented.contains(name)).collect();
    assert!(missing.is_empty(), "not in docs/status.md: {missing:?}");
}

#[test]
fn prometheus_understands_the_dashboard() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<Value> = targets
        .map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"))
        .enumerate()
        .map(|(number, expr)| json!({"record": format!("panel:{number}"), "expr": expr}))
        .collect();
    assert!(rules.len() >= panels.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML too.
    std::fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}

#[test]
fn the_dashboard_counts_no_workers_while_the_only_one_is_away() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let shows_nought = |title: &str| {
        let panel = dashboard["panels"].as_array().unwrap().iter().find(|panel| panel["title"] == title).unwrap();
        let expr = panel["targets"][0]["expr"].as_str().unwrap();
        let expr = expr.replace("$instance", ".*").replace("$type", ".*");
        json!({"expr": expr, "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": 0}]})
    };
    let counts =
        ["Healthy workers", "Workers that cannot reach the TaskManager", "Open circuit breakers"].map(shows_nought);
    let series = json!([{"series": "up{job=\"prismq\",instance=\"a:9090\"}", "values": "0x4"}]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let test = json!({"tests": [{"interval": "30s", "input_series": series, "promql_expr_test": counts}]});
    std::fs::write(file.path(), test.to_string()).unwrap();
    promtool(&["test", "rules", file.path().to_str().unwrap()], "");
}
