//! Parses `--fault`.

use std::time::Duration;

use crate::config::{did_you_mean, parse_duration};
use crate::exit::UserError;
use crate::server::{Faults, OfferedFeatures};

const KINDS: [&str; 10] =
    ["drop", "reset", "deadlock", "html", "ratelimit", "claims", "latency", "published", "features", "seed"];

const FEATURES: &str = "write features=batch, features=renew, features=batch+renew or features=none";

/// Parses items such as `KIND=RATE`. Without a seed, a random one is used.
pub(super) fn parse(items: &[String]) -> Result<Faults, UserError> {
    let mut faults = Faults { seed: fastrand::u32(..).into(), ..Faults::default() };
    let mut named = Vec::new();
    for item in items {
        let (kind, value) = item.split_once('=').map_or((item.as_str(), None), |(kind, value)| (kind, Some(value)));
        if !KINDS.contains(&kind) {
            let error = UserError::usage(format!("--fault {item}: no such fault"));
            return Err(error.hint(did_you_mean(kind, &KINDS)));
        }
        if named.contains(&kind) {
            return Err(UserError::usage(format!("--fault {item}: {kind} is given twice")));
        }
        named.push(kind);
        set(&mut faults, kind, value).map_err(|problem| UserError::usage(format!("--fault {item}: {problem}")))?;
    }
    // 70%, 20% and 10% may add up to slightly more than 1.
    if faults.failing() > 1.0 + 1e-9 {
        return Err(UserError::usage("--fault: drop, reset, deadlock, html and ratelimit add up to more than 100%"));
    }
    Ok(faults)
}

fn set(faults: &mut Faults, kind: &str, value: Option<&str>) -> Result<(), String> {
    match (kind, value) {
        ("published", None) => faults.published = true,
        ("published", Some(_)) => return Err("it takes no rate: it is on or off".to_owned()),
        ("features", value) => {
            let unknown = |name| format!("no such extension: {name:?}; {FEATURES}");
            faults.features = match value {
                None | Some("") => return Err(FEATURES.to_owned()),
                Some("none") => OfferedFeatures::NONE,
                Some(names) => OfferedFeatures::named(names.split('+')).map_err(unknown)?,
            };
        }
        ("seed", value) => {
            let number = value.and_then(|value| value.parse().ok());
            faults.seed = number.ok_or("write seed=N, a whole number from 0")?;
        }
        ("claims", value) => {
            let number = value.and_then(|value| value.parse().ok()).filter(|number| *number > 0);
            faults.claims = number.ok_or("write claims=N, a whole number from 1")?;
        }
        ("latency", None) => return Err("write latency=DURATION or latency=RATE:DURATION".to_owned()),
        ("latency", Some(value)) => {
            let (share, delay) = value.split_once(':').unwrap_or(("100%", value));
            (faults.latency, faults.delay) = (rate(share)?, late(delay)?);
        }
        (kind, None) => return Err(format!("write {kind}=RATE, such as {kind}=5%")),
        ("drop", Some(value)) => faults.drop = rate(value)?,
        ("reset", Some(value)) => faults.reset = rate(value)?,
        ("deadlock", Some(value)) => faults.deadlock = rate(value)?,
        ("html", Some(value)) => faults.html = rate(value)?,
        (_, Some(value)) => faults.ratelimit = rate(value)?,
    }
    Ok(())
}

/// Parses a share of the calls.
fn rate(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    let rate = number.parse().ok().map(|number: f64| number / whole);
    rate.filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| format!("{text:?} is not a rate: use 0 to 1, or 0% to 100%"))
}

fn late(text: &str) -> Result<Duration, String> {
    let delay = parse_duration(text)?;
    if delay > Faults::MAX_DELAY {
        let longest = Faults::MAX_DELAY.as_secs();
        return Err(format!("{text} is longer than {longest}s, after which the server drops a connection"));
    }
    Ok(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<Faults, UserError> {
        parse(&list.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn faults_are_parsed() {
        let faults = parsed(
            "drop=5%,reset=0.25,deadlock=0,html=100e-3,ratelimit=1%,claims=2,latency=50%:200ms,published,features=batch,seed=7",
        );
        let expected = Faults {
            drop: 0.05,
            reset: 0.25,
            deadlock: 0.0,
            html: 0.1,
            ratelimit: 0.01,
            claims: 2,
            latency: 0.5,
            delay: Duration::from_millis(200),
            published: true,
            features: OfferedFeatures { batch: true, renew: false },
            seed: 7,
        };
        assert_eq!(faults, Ok(expected));
        assert_eq!(parsed("drop=100%,latency=1:25s").map(|faults| (faults.drop, faults.latency)), Ok((1.0, 1.0)));
        for (text, features) in [("none", OfferedFeatures::NONE), ("batch+renew", OfferedFeatures::default())] {
            assert_eq!(parsed(&format!("features={text}")).map(|faults| faults.features), Ok(features));
        }
        let late = parsed("latency=20ms").map(|faults| (faults.latency, faults.delay));
        assert_eq!(late, Ok((1.0, Duration::from_millis(20))), "all calls");
        assert_eq!(parse(&[]).map(|faults| Faults { seed: 0, ..faults }), Ok(Faults::default()));
    }

    #[test]
    fn without_a_seed_a_random_one_is_used() {
        let seeds = [(); 8].map(|()| parsed("drop=1").unwrap().seed);
        assert!(seeds.iter().any(|seed| *seed != seeds[0]), "{seeds:?}");
    }

    #[test]
    fn invalid_fault_lists_are_refused_in_one_line() {
        for (list, message, hint) in [
            ("dorp=5%", "--fault dorp=5%: no such fault", "did you mean `drop`?"),
            ("published,rate-limit=1", "--fault rate-limit=1: no such fault", "did you mean `ratelimit`?"),
            ("", "--fault : no such fault", "use one of: drop, reset"),
            ("drop", "--fault drop: write drop=RATE, such as drop=5%", ""),
            ("drop=101%", "--fault drop=101%: \"101%\" is not a rate", ""),
            ("drop=1.01", "--fault drop=1.01: \"1.01\" is not a rate", ""),
            ("html=-0.1", "--fault html=-0.1: \"-0.1\" is not a rate", ""),
            ("html=nan", "--fault html=nan: \"nan\" is not a rate", ""),
            ("html=", "--fault html=: \"\" is not a rate", ""),
            ("latency", "--fault latency: write latency=DURATION or latency=RATE:DURATION", ""),
            ("latency=5%", "--fault latency=5%: \"5%\" is not a duration", ""),
            ("latency=5%:soon", "--fault latency=5%:soon: \"soon\" is not a duration", ""),
            ("latency=5%:26s", "--fault latency=5%:26s: 26s is longer than 25s", ""),
            ("published=5%", "--fault published=5%: it takes no rate", ""),
            ("claims", "--fault claims: write claims=N, a whole number from 1", ""),
            ("claims=0", "--fault claims=0: write claims=N", ""),
            ("features", "--fault features: write features=batch, features=renew", ""),
            ("features=", "--fault features=: write features=batch, features=renew", ""),
            ("features=batches", "--fault features=batches: no such extension: \"batches\"; write", ""),
            ("features=none+batch", "--fault features=none+batch: no such extension: \"none\"; write", ""),
            ("seed=x", "--fault seed=x: write seed=N", ""),
            ("drop=1%,drop=2%", "--fault drop=2%: drop is given twice", ""),
            ("drop=60%,html=50%", "--fault: drop, reset, deadlock, html and ratelimit add up to more than 100%", ""),
        ] {
            let error = parsed(list).unwrap_err();
            assert_eq!(error.exit, crate::exit::Exit::Usage);
            assert!(error.message.starts_with(message) && !error.message.contains('\n'), "{list}: {error}");
            assert!(error.hint.unwrap_or_default().starts_with(hint), "{list}");
        }
    }
}
