//! What a server can do beyond the documented API. `GET /health` tells; nothing is found out by trying.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Client, Error, Retries};

/// What a server can do beyond the documented API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// One call claims, reports or creates several tasks, and reports are idempotent.
    pub batch: bool,
    /// Claims can be renewed.
    pub renew: bool,
}

impl Features {
    /// Reads the names that the server lists.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        names.fold(Self::default(), |it, name| match name {
            "batch" => Self { batch: true, ..it },
            "renew" => Self { renew: true, ..it },
            _ => it,
        })
    }
}

/// When the features have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Fresh,
    /// Calls fail: another server may answer the next one.
    InOutage,
    Stale,
}

/// The features of the server, shared by all clones of a client.
#[derive(Clone)]
pub(super) struct KnownFeatures(Arc<Mutex<(Features, Freshness)>>);

impl KnownFeatures {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new((Features::default(), Freshness::Stale))))
    }

    /// Notes how a call ended: after an outage, or an unexpected 404, another server may have taken its place.
    pub(super) fn note<T>(&self, answer: &Result<T, Error>) {
        let mut known = self.0.lock();
        known.1 = match (answer, known.1) {
            (Err(Error::Unreachable { .. } | Error::Unavailable { status: 502..=504, .. }), _) => Freshness::InOutage,
            (Err(Error::NotATaskManager { .. }), _) | (Ok(_), Freshness::InOutage) => Freshness::Stale,
            (_, freshness) => freshness,
        };
    }

    /// Notes that the server does not do what it once listed.
    pub(super) fn expire(&self) {
        self.0.lock().1 = Freshness::Stale;
    }
}

impl Client {
    /// Returns the server's features. Asks for them at first, and again after an outage or an unexpected 404.
    #[must_use]
    pub fn features(&self) -> Features {
        self.update_features();
        self.known_features()
    }

    /// Asks for the server's features if they are not known, or may have changed.
    pub fn update_features(&self) {
        {
            let mut known = self.features.0.lock();
            if known.1 != Freshness::Stale {
                return;
            }
            // Other threads do not ask meanwhile.
            known.1 = Freshness::Fresh;
        }
        match self.with_retries(Retries::NONE).health() {
            Ok(health) => self.features.0.lock().0 = health.features,
            // They are asked for once another call is answered.
            Err(error) if error.is_retryable() => self.features.0.lock().1 = Freshness::InOutage,
            Err(_) => *self.features.0.lock() = (Features::default(), Freshness::Fresh),
        }
    }

    /// Returns the server's features as far as they are known, without a call.
    #[must_use]
    pub fn known_features(&self) -> Features {
        self.features.0.lock().0
    }
}
