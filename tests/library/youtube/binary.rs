//! The handlers through the real binary, with an embedded TaskManager.

use serde_json::{Value, json};

use super::standin::{CHANNEL, KEY, YouTube, access_not_configured, id, quota_exceeded, video};
use crate::support::{Answer, NOBODY, Rig, ScriptedServer, complains};

pub(crate) const VIDEO: &str = "PrismQ.YouTube.Video.Single";
pub(crate) const SEARCH: &str = "PrismQ.YouTube.Video.Search";
const CHANNELS: &str = "PrismQ.YouTube.Channel.Scrape";

const CONFIG: &str = r#"
[[task_type]]
name = "PrismQ.YouTube.Video.Single"
handler = "youtube.video"
[[task_type]]
name = "PrismQ.YouTube.Video.Search"
handler = "youtube.search"
[[task_type]]
name = "PrismQ.YouTube.Channel.Scrape"
handler = "youtube.channel"
"#;

/// A TaskManager, and a sandbox whose `prismq` uses the stand-in.
pub(crate) fn rig(api: &YouTube, config: &str) -> Rig {
    let rig = Rig::empty();
    rig.sandbox.write(".env", format!("YOUTUBE_API_URL={}\nYOUTUBE_API_KEY='{KEY}'\n", api.url()));
    rig.sandbox.write("prismq.toml", config);
    rig
}

/// Creates it with the three well-known types registered.
pub(crate) fn registered(api: &YouTube) -> Rig {
    let rig = rig(api, CONFIG);
    rig.run("register-type --all").exits(0);
    rig
}

#[test]
fn it_is_reached_through_the_proxy_that_the_environment_names() {
    let rig = registered(&YouTube::start());
    let proxy = ScriptedServer::always(Answer::page(502));
    let health = |value: &str| {
        let health = rig.sandbox.prismq(["health", "--external"]).env("http_proxy", value).env("NO_PROXY", "127.0.0.1");
        let output = health.env("YOUTUBE_API_URL", "http://youtube.example/v3").run();
        format!("{}{}", output.stdout, output.stderr)
    };
    health(&format!("http://{}", proxy.address()));
    let requests = proxy.requests();
    assert!(!requests.is_empty(), "it was not asked");
    for request in requests {
        assert!(request.path.starts_with("http://youtube.example/v3/"), "{}", request.path);
        assert_eq!(request.header("X-Goog-Api-Key"), Some(KEY));
    }
    let unreachable = health("127.0.0.1:1");
    assert!(unreachable.contains("(through the proxy http://127.0.0.1:1 of http_proxy)"), "{unreachable}");
    assert!(!unreachable.contains("check YOUTUBE_API_KEY"), "the key is not what is wrong: {unreachable}");
    let unreachable = health("socks5h://127.0.0.1:1");
    assert!(unreachable.contains("(through the proxy socks5h://127.0.0.1:1 of http_proxy)"), "{unreachable}");
    let unusable = health("socks6://127.0.0.1:1");
    assert!(unusable.contains("http_proxy is not the address of a proxy"), "{unusable}");
}

#[test]
fn a_worker_handles_all_types_without_showing_the_key() {
    let api = YouTube::start().with_videos((1..=3).map(video));
    let rig = registered(&api);
    let single = rig.create(VIDEO, &json!({"video_id": id(2)}));
    let search = rig.create(SEARCH, &json!({"search_query": "bees", "max_results": 2}));
    let channel = rig.create(CHANNELS, &json!({"channel_url": "@handle"}));
    let worked = rig.run("work --drain --log-level trace").exits(0);

    let data = |id: u64| rig.task(id)["result"]["data"].clone();
    assert_eq!((&data(single)["title"], &data(single)["view_count"]), (&json!("Video 2"), &json!(1234)));
    assert_eq!(data(search)["ideas"].as_array().unwrap().len(), 2);
    let found = data(channel);
    assert_eq!((&found["channel_id"], found["videos"].as_array().unwrap().len()), (&json!(CHANNEL), 3));
    let results = rig.run("results --json").exits(0);
    assert_eq!(results.json_lines().len(), 3);
    for output in [&worked, &results, &rig.run("config"), &rig.run("health --external --json")] {
        assert!(!output.stdout.contains(KEY) && !output.stderr.contains(KEY), "{output:?}");
    }
}

#[test]
fn a_claim_by_hand_shows_the_outcome() {
    let api = YouTube::start().with_videos([video(1)]);
    let rig = registered(&api);
    rig.create(VIDEO, &json!({"video_url": "https://youtu.be/video000001"}));
    let shown = rig.run(&format!("claim {VIDEO} --once --run --json")).exits(0).json();
    assert_eq!((&shown["success"], &shown["data"]["video_id"]), (&json!(true), &json!(id(1))));
    rig.create(VIDEO, &json!({"video_id": "none-of-them"[..11]}));
    let shown = rig.run(&format!("claim {VIDEO} --once --run --json")).exits(1).json();
    assert_eq!((&shown["error_type"], &shown["retryable"]), (&json!("not_found"), &json!(false)));
}

#[test]
fn without_a_key_no_task_is_claimed() {
    let api = YouTube::start();
    let rig = registered(&api);
    rig.sandbox.write(".env", "");
    rig.create(VIDEO, &json!({"video_id": id(1)}));
    complains(&rig.run(&format!("claim {VIDEO} --once --run")), 2, &["no YouTube API key", "YOUTUBE_API_KEY_FILE"]);
    let worker = rig.run("work --drain").exits(2);
    assert!(worker.stderr.contains(VIDEO) && worker.stderr.contains("no YouTube API key"), "{}", worker.stderr);
    assert_eq!(rig.task(1)["status"], "pending");
}

fn schema_of(rig: &Rig, name: &str) -> Value {
    let types = rig.run("list-types --json").exits(0).json_lines();
    types.into_iter().find(|it| it["name"] == name).unwrap()["param_schema"].clone()
}

fn read_schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_usual_types_need_no_schema_and_no_configuration() {
    let rig = Rig::empty();
    for (name, schema) in [
        (VIDEO, read_schema(include_str!("../../../schemas/youtube.video.json"))),
        (SEARCH, read_schema(include_str!("../../../schemas/youtube.search.json"))),
        (CHANNELS, read_schema(include_str!("../../../schemas/youtube.channel.json"))),
    ] {
        assert!(
            rig.run(&format!("register-type {name}")).exits(0).stdout.starts_with(&format!("registered {name} 1.0.0"))
        );
        assert_eq!(schema_of(&rig, name), schema, "{name}");
    }
    complains(&rig.run("register-type PrismQ.YouTube.Other"), 2, &["--schema is required"]);
    // A machine that only creates tasks may configure the type without a handler.
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = \"{SEARCH}\"\nversion = \"2.0.0\"\n"));
    rig.run(&format!("register-type {SEARCH}")).exits(0);
    assert_eq!(schema_of(&rig, SEARCH)["required"], json!(["search_query"]));
}

#[test]
fn a_type_of_any_name_gets_the_schema_of_its_handler() {
    let api = YouTube::start();
    let rig = rig(&api, "[[task_type]]\nname = \"our.search\"\nhandler = \"youtube.search\"\n");
    rig.run("register-type our.search").exits(0);
    assert_eq!(schema_of(&rig, "our.search")["properties"]["max_results"]["maximum"], 50);
    for params in
        [json!({}), json!({"search_query": "x", "max_results": 51}), json!({"search_query": "x", "order": "y"})]
    {
        let created = rig.sandbox.prismq(["create-task", "our.search", "--params", &params.to_string()]).run();
        assert_eq!(created.code(), 1, "{params}");
    }
}

/// The published server has its own validator: it rejects whole numbers for "number", and knows few keywords.
#[test]
fn the_schemas_ask_for_nothing_that_the_published_server_gets_wrong() {
    for text in [
        include_str!("../../../schemas/youtube.video.json"),
        include_str!("../../../schemas/youtube.search.json"),
        include_str!("../../../schemas/youtube.channel.json"),
    ] {
        let schema = read_schema(text);
        assert_eq!(schema["type"], "object");
        jsonschema::validator_for(&schema).unwrap();
        let known = ["type", "description", "properties", "required"];
        assert!(schema.as_object().unwrap().keys().all(|keyword| known.contains(&keyword.as_str())), "{schema}");
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(["string", "integer"].contains(&property["type"].as_str().unwrap()), "{name}");
            // It ignores defaults, which the handler applies.
            let known = ["type", "description", "minimum", "maximum", "minLength", "pattern", "enum", "default"];
            assert!(property.as_object().unwrap().keys().all(|keyword| known.contains(&keyword.as_str())), "{name}");
            // A slash would end a pattern in PHP.
            assert!(!property["pattern"].as_str().unwrap_or_default().contains('/'), "{name}");
        }
    }
}

#[test]
fn health_tells_of_the_key() {
    let api = YouTube::start().with_videos([video(1)]);
    let rig = registered(&api);
    let youtube = |line: &str, code: i32| {
        let mut found = rig.run(line).exits(code).json()["youtube_api"].take();
        // The quota is tested in day.rs.
        found.as_object_mut().unwrap().retain(|name, _| ["key_set", "key_accepted", "error"].contains(&name.as_str()));
        found
    };
    assert_eq!(youtube("health --json", 0), json!({"key_set": true}));
    assert_eq!(api.requests().len(), 0, "nothing is asked without --external");
    assert_eq!(youtube("health --json --external", 0), json!({"key_set": true, "key_accepted": true}));
    assert_eq!(api.called(), ["videos"]);
    api.answer_with([quota_exceeded()]);
    assert_eq!(youtube("health --json --external", 0)["key_accepted"], true);
    api.answer_with([access_not_configured()]);
    assert_eq!(youtube("health --json --external", 1)["key_accepted"], false);

    rig.sandbox.write(".env", format!("YOUTUBE_API_URL={}\nYOUTUBE_API_KEY=another\n", api.url()));
    let refused = youtube("health --json --external", 1);
    assert_eq!(refused["key_accepted"], false);
    assert!(refused["error"].as_str().unwrap().contains("API key not valid"), "{refused}");
    assert!(rig.run("health --external").exits(1).stdout.contains("check YOUTUBE_API_KEY"));
    rig.sandbox.write(".env", format!("YOUTUBE_API_URL={NOBODY}\nYOUTUBE_API_KEY=another\n"));
    let unknown = youtube("health --json --external", 1);
    assert!(unknown.get("key_accepted").is_none() && unknown["error"].is_string(), "{unknown}");
    rig.sandbox.write(".env", "");
    assert_eq!(youtube("health --json --external", 1), json!({"key_set": false}));

    let plain = Rig::new();
    plain.sandbox.write("prismq.toml", "[[task_type]]\nname = \"example.any\"\nexec = [\"cat\"]\n");
    assert!(plain.run("health --json --external").exits(0).json().get("youtube_api").is_none());
}

#[test]
fn no_other_handler_gets_the_key() {
    let api = YouTube::start();
    let config = "[[task_type]]\nname = \"example.env\"\nexec = \"env | sort; cat .env\"\n";
    let rig = rig(&api, config);
    rig.run("register-type example.env").exits(0);
    rig.create("example.env", &json!({"n": 1}));
    let line = "claim example.env --once --run --json";
    let worked = rig.prismq(line).env("YOUTUBE_API_KEY", KEY).run().exits(0);
    let printed = worked.json()["data"]["output"].as_str().unwrap().to_owned();
    assert!(printed.contains("PRISMQ_TASK_ID=1") && !printed.contains(KEY), "{printed}");
    let keys: Vec<&str> = printed.lines().filter(|line| line.starts_with("YOUTUBE_API_KEY")).collect();
    assert_eq!(keys, ["YOUTUBE_API_KEY='***'"], "only the file tells of it");
}

#[test]
fn a_large_channel_is_reported_with_the_ids_of_its_ideas() {
    let wordy = |n: usize| {
        let mut video = video(n);
        video["snippet"]["description"] = json!("Všechno o včelách. ".repeat(200));
        video
    };
    let api = YouTube::start().with_videos((0..100).map(wordy));
    let rig = registered(&api);
    let channel = rig.create(CHANNELS, &json!({"channel_url": "@handle", "max_videos": 100}));
    rig.run("work --drain").exits(0);
    let reported = rig.task(channel)["result"].clone();
    let whole = rig.run("results --json").exits(0).json_lines()[0]["data"].clone();
    assert_eq!((reported.get("data_omitted"), &reported["data"]["videos"]), (None, &whole["videos"]));
    let ideas = whole["ideas"].as_array().unwrap();
    assert!(ideas.len() == 100 && ideas.iter().all(|idea| idea["description"].as_str().unwrap().len() > 3_000));
    let ids: Vec<Value> = ideas.iter().map(|idea| json!({"id": idea["id"]})).collect();
    assert_eq!(reported["data"]["ideas"], json!(ids));
}
