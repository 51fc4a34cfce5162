//! How long an endpoint works on a request.

use std::time::Duration;

use super::random::{exponential, standard_normal};

/// A distribution of service times.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceTime {
    Constant {
        mean: Duration,
    },
    /// Standard deviation as large as the mean.
    Exponential {
        mean: Duration,
    },
    /// Below zero is zero.
    Normal {
        mean: Duration,
        sd: Duration,
    },
    /// What latencies of real services mostly look like: given by what is known of them.
    LogNormal {
        median: Duration,
        p99: Duration,
    },
    /// Two kinds of requests.
    Bimodal {
        fast: Duration,
        slow: Duration,
        /// 0 to 1.
        slow_share: f64,
    },
}

/// The standard normal distribution's 99th percentile.
const NORMAL_P99: f64 = 2.326_347_874;

impl ServiceTime {
    /// One request's, in microseconds; at least one.
    pub fn draw_us(&self, random: &mut fastrand::Rng) -> u64 {
        let us = match self {
            Self::Constant { mean } => micros(*mean),
            Self::Exponential { mean } => micros(*mean) * exponential(random),
            Self::Normal { mean, sd } => micros(*mean) + micros(*sd) * standard_normal(random),
            Self::LogNormal { median, p99 } => {
                let sigma = (micros(*p99) / micros(*median)).ln() / NORMAL_P99;
                micros(*median) * (sigma * standard_normal(random)).exp()
            }
            Self::Bimodal { fast, slow, slow_share } => micros(if random.f64() < *slow_share { *slow } else { *fast }),
        };
        whole_us(us)
    }
}

/// Of a time that is no longer than a service time may be; at least one.
pub fn whole_us(us: f64) -> u64 {
    // The longest that the command line shows, far below what the conversion holds.
    const LONGEST_US: f64 = 1e12;
    let us = us.clamp(1.0, LONGEST_US).round();
    // In range by the line above.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = us as u64;
    whole
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Mean, standard deviation and 99th percentile of 200,000 draws, in milliseconds.
    fn measured(service: &ServiceTime) -> (f64, f64, f64) {
        let mut random = fastrand::Rng::with_seed(3);
        let mut draws: Vec<f64> = (0..200_000).map(|_| service.draw_us(&mut random) as f64 / 1e3).collect();
        draws.sort_by(f64::total_cmp);
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance.sqrt(), draws[draws.len() * 99 / 100])
    }

    #[track_caller]
    fn assert_near(found: (f64, f64, f64), wanted: (f64, f64, f64)) {
        let near = |found: f64, wanted: f64| (found - wanted).abs() <= 0.02 * wanted.max(1.0);
        assert!(near(found.0, wanted.0) && near(found.1, wanted.1) && near(found.2, wanted.2), "{found:?} {wanted:?}");
    }

    #[test]
    fn draws_have_the_mean_the_deviation_and_the_tail_of_their_distribution() {
        assert_near(measured(&ServiceTime::Constant { mean: 5 * MS }), (5.0, 0.0, 5.0));
        assert_near(measured(&ServiceTime::Exponential { mean: 10 * MS }), (10.0, 10.0, 46.05));
        assert_near(measured(&ServiceTime::Normal { mean: 167 * MS, sd: 5 * MS }), (167.0, 5.0, 178.63));
        // exp(σ²/2) and its deviation, for σ = ln 10 / 2.326 = 0.98978.
        assert_near(measured(&ServiceTime::LogNormal { median: 10 * MS, p99: 100 * MS }), (16.32, 21.0, 100.0));
        assert_near(
            measured(&ServiceTime::Bimodal { fast: 10 * MS, slow: 110 * MS, slow_share: 0.1 }),
            (20.0, 30.0, 110.0),
        );
    }
}
