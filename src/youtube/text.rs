//! Converts HTML and `WebVTT` to plain text.

/// Removes HTML tags and decodes common entities.
pub(super) fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        // An unclosed `<` is not a tag.
        let Some((_, after)) = tag.split_once('>') else {
            plain.push('<');
            rest = tag;
            break;
        };
        rest = after;
    }
    plain.push_str(rest);
    // `&amp;` comes last, so that `&amp;lt;` becomes `&lt;`.
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&lrm;", ""), ("&rlm;", "")]
        .into_iter()
        .fold(plain, |plain, (entity, character)| plain.replace(entity, character))
        .replace("&amp;", "&")
}

/// Returns the text of `WebVTT` subtitles without times, tags and settings, and without the repeated lines of rolling
/// captions.
pub(super) fn from_webvtt(vtt: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let blocks = vtt.split("\n\n").map(|block| block.trim_start_matches('\n'));
    for block in blocks {
        // A block without times is the head of the file, a style or a note.
        let Some((_, cue)) = block.split_once("-->") else { continue };
        for line in cue.lines().skip(1) {
            let line = without_markup(line).split_whitespace().collect::<Vec<_>>().join(" ");
            if !line.is_empty() && lines.last() != Some(&line) {
                lines.push(line);
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        for (text, plain) in [
            ("exceeded your <a href=\"/x\">quota</a>.", "exceeded your quota."),
            ("1 &lt; 2 &amp;&amp; &quot;x&quot; &#39;y&#39;&nbsp;z", "1 < 2 && \"x\" 'y' z"),
            ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
            ("1 < 2", "1 < 2"),
            ("", ""),
        ] {
            assert_eq!(without_markup(text), plain);
        }
    }

    #[test]
    fn rolling_subtitles_become_plain_text() {
        let vtt = "WEBVTT\nKind: captions\nLanguage: en\n\nNOTE made by hand\n\nSTYLE\n::cue { color: red }\n\n\
            00:00:00.080 --> 00:00:02.470 align:start position:0%\n \nwe&#39;re<00:00:00.320><c> no</c><00:00:00.640><c> strangers</c>\n\n\
            00:00:02.470 --> 00:00:02.480 align:start position:0%\nwe&#39;re no strangers\n \n\n\
            00:00:02.480 --> 00:00:05.000 align:start position:0%\nwe&#39;re no strangers\nto<00:00:03.000><c> love</c>\n\n\
            00:00:05.000 --> 00:00:05.010\nto love\n \n\n\
            cue-7\n00:00:05.010 --> 00:00:06.000\nto love\n[Music]\n";
        assert_eq!(from_webvtt(vtt), "we're no strangers\nto love\n[Music]");
        assert_eq!(from_webvtt(&vtt.replace('\n', "\r\n").replace("\r\n", "\n")), from_webvtt(vtt));
    }

    #[test]
    fn invalid_subtitles_have_no_text() {
        for text in ["", "WEBVTT\n\n", "<html>\n\n<p>no</p>", "00:00 --> 00:01"] {
            assert_eq!(from_webvtt(text), "", "{text:?}");
        }
    }
}
