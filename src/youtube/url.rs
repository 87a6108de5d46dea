//! Parses the URLs of videos and channels, in the forms that people copy.

use percent_encoding::percent_decode_str;

/// Hosts with pages of videos and channels.
const HOSTS: [&str; 4] = ["youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com"];
/// Hosts of embedded players.
const PLAYERS: [&str; 2] = ["youtube-nocookie.com", "www.youtube-nocookie.com"];
/// Host of short links, whose path is a video id.
const SHORT: &str = "youtu.be";
/// Path segments that precede a video id.
const BEFORE_ID: [&str; 4] = ["shorts", "embed", "live", "v"];
/// Maximum length of a handle or a user name, in characters.
const MAX_NAME: usize = 100;

/// An identifier of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Channel {
    /// `UC…`
    Id(String),
    /// `@handle`, with the `@`.
    Handle(String),
    /// A legacy user name.
    User(String),
}

impl Channel {
    /// Returns the identifier.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Id(name) | Self::Handle(name) | Self::User(name) => name,
        }
    }
}

/// Whether `text` is the id of a video.
pub(super) fn is_video_id(text: &str) -> bool {
    text.len() == 11 && text.bytes().all(is_id_byte)
}

/// Returns the video id in a URL.
pub(super) fn video(address: &str) -> Result<String, String> {
    let id = Url::read(address).and_then(|url| url.video());
    id.map(str::to_owned).ok_or_else(|| {
        format!(
            "{} is not the URL of a YouTube video: use one such as https://www.youtube.com/watch?v=… or https://youtu.be/…",
            quoted(address)
        )
    })
}

/// Parses the URL, handle or id of a channel.
pub(super) fn channel(address: &str) -> Result<Channel, String> {
    let address = address.trim();
    if let Some(channel) = bare_channel(address) {
        return Ok(channel);
    }
    let url = Url::read(address).filter(|url| url.is_on(&HOSTS));
    if url.as_ref().is_some_and(|url| url.path.split('/').next() == Some("c")) {
        return Err(format!(
            "{}: channels cannot be looked up by the names after /c/: give the channel's @handle instead",
            quoted(address)
        ));
    }
    url.and_then(|url| url.channel()).ok_or_else(|| {
        format!(
            "{} is not a YouTube channel: use its @handle, its ID (UC…), or a URL such as https://www.youtube.com/@handle",
            quoted(address)
        )
    })
}

/// A parsed URL.
struct Url<'a> {
    /// In lower case.
    host: String,
    /// Without the leading slash.
    path: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    /// Parses a URL with or without a scheme. Returns `None` for schemes other than http and https.
    fn read(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => rest,
            // A later `://` is part of the query.
            Some((before, _)) if !before.contains(['/', '?', '#']) => return None,
            _ => text,
        };
        let rest = rest.split('#').next()?;
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        Some(Self { host: host.to_ascii_lowercase(), path, query })
    }

    fn is_on(&self, hosts: &[&str]) -> bool {
        hosts.contains(&self.host.as_str())
    }

    fn video(&self) -> Option<&'a str> {
        let path = self.path.strip_suffix('/').unwrap_or(self.path);
        let id = if self.is_on(&[SHORT]) {
            path
        } else if !self.is_on(&HOSTS) && !self.is_on(&PLAYERS) {
            return None;
        } else if path == "watch" {
            self.query.split('&').find_map(|pair| pair.strip_prefix("v="))?
        } else {
            path.split_once('/').filter(|(before, _)| BEFORE_ID.contains(before))?.1
        };
        is_video_id(id).then_some(id)
    }

    fn channel(&self) -> Option<Channel> {
        // Browsers percent-encode characters outside of ASCII.
        let mut parts = self.path.split('/').map(|part| percent_decode_str(part).decode_utf8_lossy());
        let first = parts.next()?;
        match first.as_ref() {
            "channel" => parts.next().filter(|id| is_channel_id(id)).map(|id| Channel::Id(id.into_owned())),
            "user" => parts.next().filter(|name| is_name(name)).map(|name| Channel::User(name.into_owned())),
            first => handle(first),
        }
    }
}

fn bare_channel(text: &str) -> Option<Channel> {
    if is_channel_id(text) { Some(Channel::Id(text.to_owned())) } else { handle(text) }
}

fn handle(text: &str) -> Option<Channel> {
    text.strip_prefix('@').is_some_and(is_name).then(|| Channel::Handle(text.to_owned()))
}

/// Whether `text` is a valid handle or user name: letters and digits of any script, dots, hyphens and underscores.
fn is_name(text: &str) -> bool {
    let fits = |c: char| match c {
        '.' | '_' | '-' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => !(c.is_whitespace() || c.is_control() || c == char::REPLACEMENT_CHARACTER),
    };
    (1..=MAX_NAME).contains(&text.chars().count()) && text.chars().all(fits)
}

fn is_channel_id(text: &str) -> bool {
    text.len() == 24 && text.starts_with("UC") && text.bytes().all(is_id_byte)
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Returns the start of `text`, quoted and escaped.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 100;
    let start: String = text.chars().take(SHOWN).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const ID: &str = "dQw4w9WgXcQ";
    const CHANNEL: &str = "UC38IQsAvIsxxjztdMZQtwHA";

    #[test]
    fn every_form_of_a_videos_address_is_read() {
        for address in [
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "https://www.youtube.com/watch?list=PL123&v=dQw4w9WgXcQ&t=42s",
            "http://youtube.com/watch?app=desktop&v=dQw4w9WgXcQ#comments",
            "m.youtube.com/watch?v=dQw4w9WgXcQ",
            "https://music.youtube.com/watch?v=dQw4w9WgXcQ&si=x",
            "HTTPS://WWW.YouTube.com/watch?v=dQw4w9WgXcQ",
            "https://youtu.be/dQw4w9WgXcQ?si=abc&t=1",
            "youtu.be/dQw4w9WgXcQ/",
            "https://www.youtube.com/shorts/dQw4w9WgXcQ",
            "https://www.youtube.com/embed/dQw4w9WgXcQ?start=1",
            "https://www.youtube-nocookie.com/embed/dQw4w9WgXcQ",
            "youtube-nocookie.com/embed/dQw4w9WgXcQ",
            "https://www.youtube.com/live/dQw4w9WgXcQ?feature=share",
            "https://www.youtube.com/v/dQw4w9WgXcQ?version=3",
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ&u=https://example.com/",
            "www.youtube.com/watch?v=dQw4w9WgXcQ&u=https://example.com/",
            " https://youtu.be/dQw4w9WgXcQ\n",
        ] {
            assert_eq!(video(address).as_deref(), Ok(ID), "{address}");
        }
    }

    #[test]
    fn invalid_video_urls_are_refused() {
        for address in [
            "",
            ID,
            "https://www.youtube.com/",
            "https://www.youtube.com/watch",
            "https://www.youtube.com/watch?v=",
            "https://www.youtube.com/watch?v=tooshort",
            "https://www.youtube.com/watch?v=dQw4w9WgXcQQ",
            "https://www.youtube.com/watch?v=dQw4w9WgXc%51",
            "https://www.youtube.com/watch?x=v=dQw4w9WgXcQ",
            "https://www.youtube.com/watch?V=dQw4w9WgXcQ",
            "https://www.youtube.com/watch?v=tooshort&v=dQw4w9WgXcQ",
            "https://www.youtube.com/watch#v=dQw4w9WgXcQ",
            "https://www.youtube.com/playlist?list=dQw4w9WgXcQ",
            "https://www.youtube.com/dQw4w9WgXcQ",
            "https://www.youtube.com/shorts/dQw4w9WgXcQ/more",
            "https://www.youtube.com/e/dQw4w9WgXcQ",
            "https://youtu.be/watch?v=dQw4w9WgXcQ",
            "https://vimeo.com/watch?v=dQw4w9WgXcQ",
            "https://youtube.com.example.com/watch?v=dQw4w9WgXcQ",
            "https://notyoutube.com/watch?v=dQw4w9WgXcQ",
            "https://youtube.com@example.com/watch?v=dQw4w9WgXcQ",
            "https://www.youtube.com:8443/watch?v=dQw4w9WgXcQ",
            "ftp://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "//www.youtube.com/watch?v=dQw4w9WgXcQ",
            "https://example.com/?u=https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        ] {
            let error = video(address).unwrap_err();
            assert!(error.contains("is not the URL of a YouTube video") && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn every_form_of_a_channels_address_is_read() {
        let id = Channel::Id(CHANNEL.into());
        let handle = |name: &str| Channel::Handle(name.into());
        for (address, channel_there) in [
            (CHANNEL.to_owned(), id.clone()),
            (format!("https://www.youtube.com/channel/{CHANNEL}"), id.clone()),
            (format!("m.youtube.com/channel/{CHANNEL}/videos?view=0#top"), id.clone()),
            (format!("https://music.youtube.com/channel/{CHANNEL}?x"), id),
            ("@GoogleDevelopers".into(), handle("@GoogleDevelopers")),
            ("https://www.youtube.com/@a.b-c_1/shorts".into(), handle("@a.b-c_1")),
            ("youtube.com/@name?si=x".into(), handle("@name")),
            ("https://www.youtube.com/%40name".into(), handle("@name")),
            ("https://www.youtube.com/@%E6%97%A5%E6%9C%AC".into(), handle("@日本")),
            ("@日本".into(), handle("@日本")),
            ("https://www.youtube.com/user/Google/about".into(), Channel::User("Google".into())),
        ] {
            assert_eq!(channel(&address), Ok(channel_there), "{address}");
        }
    }

    #[test]
    fn invalid_channels_are_refused() {
        for address in [
            "",
            "@",
            "name",
            "@two words",
            "@a/b",
            "@a&b",
            &format!("@{}", "x".repeat(101)),
            &CHANNEL[1..],
            &format!("{CHANNEL}x"),
            "UC38IQsAvIsxxjztdMZQtw A",
            "https://www.youtube.com/",
            "https://www.youtube.com/name",
            "https://www.youtube.com/channel/",
            "https://www.youtube.com/channel/UCshort",
            "https://www.youtube.com/user/",
            "https://www.youtube.com/@%FF",
            "https://www.youtube.com/@a%2Fb",
            "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            "https://www.youtube-nocookie.com/@name",
            "https://youtu.be/@name",
            "https://example.com/@name",
            "https://www.youtube.com@example.com/@name",
        ] {
            let error = channel(address).unwrap_err();
            assert!(error.contains("is not a YouTube channel") && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn the_names_after_c_are_refused_with_what_to_give_instead() {
        for address in ["https://www.youtube.com/c/GoogleDevelopers/videos", "youtube.com/c/x"] {
            let error = channel(address).unwrap_err();
            assert!(error.contains("/c/") && error.contains("@handle instead"), "{error}");
        }
    }

    #[test]
    fn a_long_address_is_not_repeated_whole() {
        assert!(video(&"ž".repeat(5000)).unwrap_err().len() < 500);
    }

    fn scheme() -> impl Strategy<Value = &'static str> {
        select(vec!["", "http://", "https://", "HTTPS://"])
    }

    proptest! {
        #[test]
        fn any_id_is_found_in_any_form(
            id in "[A-Za-z0-9_-]{11}",
            scheme in scheme(),
            host in select([HOSTS, [PLAYERS[0], PLAYERS[1], "M.YouTube.com", "WWW.YOUTUBE.COM"]].concat()),
            form in 0..5_usize,
            query in "([a-u]{1,5}=[a-z0-9:/.]{0,8}&){0,3}",
            after in "([&#][a-z]{1,5}=[A-Za-z0-9%:/.]{0,8}){0,2}",
        ) {
            let address = match form {
                0 => format!("{scheme}{host}/watch?{query}v={id}{after}"),
                n => format!("{scheme}{host}/{}/{id}?{query}{after}", BEFORE_ID[n - 1]),
            };
            prop_assert_eq!(video(&address), Ok(id.clone()), "{}", address);
            prop_assert_eq!(video(&format!("{scheme}youtu.be/{id}?{query}{after}")), Ok(id));
        }

        #[test]
        fn no_other_host_is_taken(id in "[A-Za-z0-9_-]{11}", scheme in scheme(), host in "[a-z0-9.@:-]{0,20}(youtube\\.com|youtu\\.be)?[a-z.:]{0,5}") {
            let ours = HOSTS.contains(&host.as_str()) || PLAYERS.contains(&host.as_str()) || host == SHORT;
            prop_assume!(!ours);
            let watch = format!("{scheme}{host}/watch?v={id}");
            let short = format!("{scheme}{host}/{id}");
            let handle = format!("{scheme}{host}/@name");
            prop_assert!(video(&watch).is_err(), "{}", watch);
            prop_assert!(video(&short).is_err(), "{}", short);
            prop_assert!(handle.starts_with('@') || channel(&handle).is_err(), "{}", handle);
        }

        #[test]
        fn any_text_is_read_or_refused_in_one_line(text in ".{0,200}") {
            match video(&text) {
                Ok(id) => prop_assert!(is_video_id(&id)),
                Err(error) => prop_assert_eq!(error.lines().count(), 1),
            }
            if let Err(error) = channel(&text) {
                prop_assert_eq!(error.lines().count(), 1);
            }
        }

        #[test]
        fn any_channel_id_is_found(rest in "[A-Za-z0-9_-]{22}", scheme in scheme(), host in select(HOSTS.to_vec()), after in "([/?#][a-z0-9=]{0,9}){0,3}") {
            let id = format!("UC{rest}");
            let address = format!("{scheme}{host}/channel/{id}{after}");
            prop_assert_eq!(channel(&address), Ok(Channel::Id(id.clone())), "{}", address);
            prop_assert_eq!(channel(&id), Ok(Channel::Id(id)));
        }
    }
}
