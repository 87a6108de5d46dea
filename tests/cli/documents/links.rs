//! Checks links within the repository.

use std::path::Path;

use super::{DOCUMENTS, markdown, read, repository};

#[test]
fn every_link_leads_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        for (line, link) in markdown::links(&text).into_iter().filter(|(_, link)| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = Path::new(document).parent().unwrap().join(file);
            let path = if file.is_empty() { Path::new(document) } else { &path };
            let path = path.to_str().unwrap();
            assert!(repository(path).exists(), "{document}, line {line}: there is no {link}");
            let found = anchor.is_empty() || markdown::anchors(&read(path)).iter().any(|it| it == anchor);
            assert!(found, "{document}, line {line}: there is no heading for {link}");
        }
    }
}

#[test]
fn every_source_file_that_the_architecture_names_exists() {
    let text = read("docs/architecture.md");
    let is_source = |part: &&str| Path::new(part).extension().is_some_and(|it| it == "rs") && !part.contains(' ');
    let files: Vec<&str> = text.split('`').filter(is_source).collect();
    assert!(files.len() > 30, "{files:?}");
    for file in files {
        assert!([file, &format!("src/{file}")].iter().any(|path| repository(path).exists()), "there is no {file}");
    }
}
