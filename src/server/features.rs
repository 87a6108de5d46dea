//! The extensions of the API that the server offers, as `GET /health` lists them.

/// Extensions of the API; all of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferedFeatures {
    /// Claims, reports and creations of several tasks by one call; reports that name their attempt.
    pub batch: bool,
    /// Renewals of claims.
    pub renew: bool,
}

impl Default for OfferedFeatures {
    fn default() -> Self {
        Self { batch: true, renew: true }
    }
}

impl OfferedFeatures {
    /// The API as documented, without extensions.
    pub const NONE: Self = Self { batch: false, renew: false };

    /// Returns the names of the extensions that are on.
    pub(super) fn names(self) -> Vec<&'static str> {
        let all = [("batch", self.batch), ("renew", self.renew)];
        all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect()
    }

    /// Returns the extensions with these names. The error is the first name that is unknown.
    pub(crate) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut features = Self::NONE;
        for name in names {
            match name {
                "batch" => features.batch = true,
                "renew" => features.renew = true,
                unknown => return Err(unknown),
            }
        }
        Ok(features)
    }
}
