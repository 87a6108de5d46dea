//! A browser, as far as the page can tell.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::Api;
use crate::support::{Exchange, exchange};

/// What it knows and sends.
pub(crate) struct Browser {
    pub(crate) address: SocketAddr,
    /// The name that it calls the server by.
    pub(crate) host: String,
    /// What it sends with every request, and what it sends with a form.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) form_headers: Vec<(String, String)>,
}

/// What it is shown.
impl Exchange {
    /// Asserts that it is a page that holds all of this.
    #[track_caller]
    pub(crate) fn has(self, texts: &[&str]) -> Self {
        for text in texts {
            let main = self.body.split("<main").nth(1).unwrap_or(&self.body);
            assert!(self.body.contains(text), "no {text:?} in <main{main}");
        }
        self
    }

    /// Asserts that it leads there.
    #[track_caller]
    pub(crate) fn leads_to(&self, path: &str) {
        assert_eq!((self.status, self.header("location")), (303, Some(path)), "{}", self.body);
    }
}

impl Browser {
    /// One that looks at this server.
    pub(crate) fn at(api: &Api) -> Self {
        Self::of(api.server.address())
    }

    /// One that looks at the server of this address.
    pub(crate) fn of(address: SocketAddr) -> Self {
        let form_headers = vec![("Origin".to_owned(), format!("http://{address}"))];
        Self { address, host: address.to_string(), headers: Vec::new(), form_headers }
    }

    /// The same that has shown the key.
    #[track_caller]
    pub(crate) fn signed_in(mut self, key: &str) -> Self {
        let answer = self.post("/sign-in", &[("key", key), ("next", "/")]);
        answer.leads_to("/");
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        self.headers.push(("Cookie".to_owned(), cookie));
        self
    }

    /// The same whose forms say this of themselves instead.
    pub(crate) fn with_form_header(mut self, name: &str, value: &str) -> Self {
        self.form_headers = vec![(name.to_owned(), value.to_owned())];
        self
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Exchange {
        self.send("GET", path, &[], "")
    }

    /// Sends a form.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Exchange {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<_> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.send("POST", path, &self.form_headers, &pairs.join("&"))
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &str) -> Exchange {
        let own =
            [("Host", &*self.host), ("Connection", "close"), ("Content-Type", "application/x-www-form-urlencoded")];
        let more = self.headers.iter().chain(headers).map(|(name, value)| (name.as_str(), value.as_str()));
        let headers: Vec<_> = own.into_iter().chain(more).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {length}\r\n\r\n{body}", headers.concat());
        exchange(self.address, &request).unwrap()
    }
}
