//! What is shown of the day's YouTube units.

use serde_json::json;

use crate::support::{Answer, EmbeddedTaskManager, Prismq, Rig, ScriptedServer, StatusWorker, wait_for};

const TYPE: &str = "PrismQ.YouTube.Video.Single";

/// An API without videos. To hear that costs a unit.
fn api() -> ScriptedServer {
    ScriptedServer::always(Answer::json(200, &json!({"kind": "youtube#videoListResponse", "items": []})))
}

/// With two units a day.
fn with_youtube(prismq: Prismq, api: &ScriptedServer) -> Prismq {
    let url = format!("http://{}/youtube/v3", api.address());
    prismq.env("YOUTUBE_API_URL", &url).env("YOUTUBE_API_KEY", "a-key").env("YOUTUBE_DAILY_QUOTA_LIMIT", "2")
}

#[test]
fn the_day_s_units_are_shown_without_a_call() {
    let rig = Rig::of(EmbeddedTaskManager::start(), &[]);
    rig.taskmanager.register(TYPE);
    rig.sandbox.write("prismq.toml", format!("[[task_type]]\nname = '{TYPE}'\nhandler = 'youtube.video'\n"));
    let api = api();
    let worker = StatusWorker::of(with_youtube(rig.work([]), &api));
    let units = |used: u64| {
        let found = || Some(worker.health()["youtube_api"].take()).filter(|it| it["used"] == json!(used));
        wait_for(&format!("{used} used units"), found)
    };
    let shown = units(0);
    assert_eq!((&shown["key_set"], &shown["limit"], &shown["left"]), (&json!(true), &json!(2), &json!(2)));
    assert_eq!(api.requests().len(), 0);
    let asked = with_youtube(rig.sandbox.prismq(["health", "--json"]), &api).run().exits(0).json();
    assert_eq!(shown, asked["youtube_api"], "it is what `prismq health` says");

    for id in ["video000001", "video000002"] {
        rig.taskmanager.create(TYPE, json!({"video_id": id}));
    }
    assert_eq!(units(2)["left"], 0);
    worker.wait_for_metric(&format!("prismq_type_held{{type=\"{TYPE}\"}} 1"));
    let page = wait_for("the page", || Some(worker.get("/").1).filter(|it| it.contains("units left of 2")));
    for words in ["YouTube today</h2><strong>0</strong>", "Snoozed by its handler; claiming resumes in "] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn a_worker_that_reads_no_youtube_says_nothing_of_it() {
    let rig = Rig::start();
    let worker = StatusWorker::start(&rig, []);
    wait_for("the first answer", || (worker.get("/ready").0 == 200).then_some(()));
    assert!(worker.health().get("youtube_api").is_none() && !worker.get("/").1.contains("YouTube"));
}
