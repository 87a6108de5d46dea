//! The page that `stats --html` writes.

use serde_json::json;

use crate::browser::Browser;
use crate::support::Rig;

/// Makes 20,000 results of one, of types with long names, that took up to 17 minutes.
const MANY: &str = "
    WITH RECURSIVE numbers (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)
    INSERT INTO results (task_id, task_type, attempt, worker_id, api_url, status, params, claimed_at, started_at,
        finished_at, duration_ms, reported_at)
    SELECT n + 1, iif(n % 3, 'PrismQ.Script.Generate.From.Idea.Inspiration', 'ANameWithoutAPlaceToWrapItAnywhere'),
        attempt, worker_id, api_url, iif(n % 2, 'completed', 'failed'), params, claimed_at, started_at, finished_at,
        n * 50, reported_at FROM results, numbers";

#[test]
fn a_table_scrolls_on_a_phone_only() {
    let rig = Rig::start();
    rig.case("good", "echo 1");
    rig.drain();
    rusqlite::Connection::open(rig.sandbox.path("results.db")).unwrap().execute(MANY, []).unwrap();
    let Some(browser) = Browser::start() else { return };
    // How far the page, and the table in it, can be pushed to the side.
    let hidden = || {
        let boxes = "[document.documentElement, document.querySelector('.wide')]";
        browser.run(&format!("return {boxes}.map((it) => it.scrollWidth - it.clientWidth)"))
    };
    let name = || browser.run("return document.querySelector('.name').getBoundingClientRect().x");
    for by in ["type", "worker", "hour"] {
        rig.sandbox.prismq(["stats", "--by", by, "--html", "report.html"]).run().exits(0);
        browser.open(&format!("file://{}", rig.sandbox.path("report.html").display()));
        for width in [1280, 900] {
            browser.become_a_window(width);
            assert_eq!(hidden(), json!([0, 0]), "by {by}, {width} wide");
        }
        browser.become_a_phone();
        let pushed = hidden();
        assert!(pushed[0] == 0 && pushed[1].as_u64() > Some(100), "by {by}: {pushed}");
        let before = name();
        browser.run("document.querySelector('.wide').scrollLeft = 100");
        assert_eq!(name(), before, "by {by}: names stay");
    }
}
