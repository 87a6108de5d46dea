//! The parts of Markdown that the documents use.

/// A fenced block.
pub(crate) struct Block {
    /// The line of the first fence, from 1.
    pub(crate) line: usize,
    /// The first word after the fence, as highlighters read it.
    pub(crate) language: String,
    /// The rest of that line, which readers of the page do not see.
    pub(crate) mark: String,
    pub(crate) text: String,
}

/// The blocks of a document.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
        let language = language.split(',').next().unwrap_or_default();
        let text = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim_start() != "```");
        blocks.push(Block {
            line: number + 1,
            language: language.to_owned(),
            mark: mark.to_owned(),
            text: text.flat_map(|line| [line, "\n"]).collect(),
        });
    }
    blocks
}

/// The document without its blocks; every line is where it was.
pub(crate) fn prose(document: &str) -> String {
    let mut within = false;
    let mut prose = String::new();
    for line in document.lines() {
        let fence = line.trim_start().starts_with("```");
        prose += if fence || within { "" } else { line };
        prose.push('\n');
        within ^= fence;
    }
    prose
}

/// Text between backticks in the prose, with its line. It may contain a line break.
pub(crate) fn spans(document: &str) -> Vec<(usize, String)> {
    let prose = prose(document);
    let mut line = 1;
    let mut spans = Vec::new();
    for (number, piece) in prose.split('`').enumerate() {
        if number % 2 == 1 {
            spans.push((line, piece.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        line += piece.matches('\n').count();
    }
    spans
}

/// Targets of the document's links, with their lines.
pub(crate) fn links(document: &str) -> Vec<(usize, String)> {
    let target = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
    let prose = prose(document);
    let lines = prose.lines().enumerate();
    lines.flat_map(|(number, line)| line.split("](").skip(1).map(move |rest| (number + 1, target(rest)))).collect()
}

/// Anchors of the document's headings.
pub(crate) fn anchors(document: &str) -> Vec<String> {
    let prose = prose(document);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}
