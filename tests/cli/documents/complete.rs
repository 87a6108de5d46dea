//! Checks that everything is documented.

use super::read;
use crate::support::Sandbox;

#[test]
fn every_setting_is_described() {
    let document = read("docs/configuration.md");
    for setting in Sandbox::new().prismq(["config", "--json"]).run().json().as_array().unwrap() {
        let name = setting["name"].as_str().unwrap();
        let told = document.contains(&format!("`{name}`")) || name.ends_with("api_key") || name == "config";
        assert!(told, "docs/configuration.md does not describe {name}");
    }
    for line in read(".env.example").lines() {
        let Some((name, _)) = line.trim_start_matches('#').split_once('=').filter(|(name, _)| !name.contains(' '))
        else {
            continue;
        };
        assert!(document.contains(name), "docs/configuration.md does not describe {name}");
    }
}

#[test]
fn every_command_is_in_the_readme() {
    let help = Sandbox::new().prismq(["--help"]).run().exits(0).stdout;
    let commands = help.split("\n\n").find_map(|part| part.strip_prefix("Commands:\n")).unwrap();
    let readme = read("README.md");
    let names =
        commands.lines().filter(|line| !line.starts_with("    ")).map(|line| line.split_whitespace().next().unwrap());
    let mut missing = names.filter(|name| *name != "help" && !readme.contains(&format!("`{name}")));
    assert_eq!(missing.next(), None);
}

#[test]
fn every_alert_is_documented() {
    let document = read("docs/operations.md");
    for line in read("deploy/alerts.yml").lines() {
        if let Some((_, alert)) = line.split_once("alert: ") {
            assert!(document.contains(&format!("| `{alert}` |")), "docs/operations.md does not know {alert}");
        }
    }
}
