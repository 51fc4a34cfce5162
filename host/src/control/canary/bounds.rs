//! Confidence bounds for a proportion that hold at every moment at once.
//!
//! A fixed-sample test that is repeated ten times a second finds a difference sooner or later where there is none. A
//! confidence sequence does not: with probability 1 − α its bounds hold the true proportion at *all* sample sizes,
//! however often and whenever one looks.
//!
//! For s of n trials and any p, M(p) = B(s + ½, n − s + ½) / (B(½, ½) · p^s · (1 − p)^(n − s)) is a martingale
//! that starts at 1 if p is the true proportion (a mixture of likelihood ratios over Jeffreys' prior). By Ville's
//! inequality it ever exceeds 1/α with probability at most α. The p for which it has not are the sequence (Robbins
//! 1970; Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence
//! sequences", §3.2).

/// The smallest proportion that `hits` of `trials` leave possible, at the level `alpha`.
pub fn lower_bound(hits: u64, trials: u64, alpha: f64) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let evidence = Evidence::new(hits, trials, alpha);
    bisect(0.0, hits as f64 / trials as f64, |p| evidence.excludes(p))
}

/// The largest.
pub fn upper_bound(hits: u64, trials: u64, alpha: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let evidence = Evidence::new(hits, trials, alpha);
    bisect(1.0, hits as f64 / trials as f64, |p| evidence.excludes(p))
}

struct Evidence {
    hits: f64,
    misses: f64,
    /// Of B(s + ½, n − s + ½) · α / B(½, ½).
    ln_limit: f64,
}

impl Evidence {
    fn new(hits: u64, trials: u64, alpha: f64) -> Self {
        let (hits, misses) = (hits as f64, trials.saturating_sub(hits) as f64);
        // B(½, ½) = π.
        let ln_limit = ln_beta(hits + 0.5, misses + 0.5) - std::f64::consts::PI.ln() + alpha.ln();
        Self { hits, misses, ln_limit }
    }

    /// Whether M(p) exceeds 1/α.
    fn excludes(&self, p: f64) -> bool {
        let ln_power = |count: f64, p: f64| if count == 0.0 { 0.0 } else { count * p.ln() };
        self.ln_limit > ln_power(self.hits, p) + ln_power(self.misses, 1.0 - p)
    }
}

/// The border between `outside`, which is excluded, and `inside`, which is not; on the excluded side, so that
/// rounding never makes a bound too tight.
fn bisect(mut outside: f64, mut inside: f64, excluded: impl Fn(f64) -> bool) -> f64 {
    // Halves [0, 1] to below 10^-9.
    for _ in 0..32 {
        let middle = f64::midpoint(outside, inside);
        if excluded(middle) { outside = middle } else { inside = middle }
    }
    outside
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series (Abramowitz and Stegun 6.1.41), to about 10^-12 from 10 on; smaller arguments are lifted by
/// Γ(x + 1) = x Γ(x).
fn ln_gamma(mut x: f64) -> f64 {
    let mut lifted = 0.0;
    while x < 10.0 {
        lifted += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - lifted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_gamma_is_right_where_it_is_known() {
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-10);
        assert!(ln_gamma(1.0).abs() < 1e-10);
        assert!((ln_gamma(11.0) - 3_628_800_f64.ln()).abs() < 1e-10);
        assert!((ln_gamma(10.5) - 1_133_278.388_948_785_5_f64.ln()).abs() < 1e-10);
    }

    #[test]
    fn bounds_hold_the_proportion_seen_and_tighten() {
        let mut width = 2.0;
        for trials in [10, 100, 1_000, 10_000, 1_000_000] {
            let hits = trials / 10;
            let (lower, upper) = (lower_bound(hits, trials, 1e-6), upper_bound(hits, trials, 1e-6));
            assert!(lower < 0.1 && upper > 0.1, "{lower} {upper}");
            assert!(upper - lower < width);
            width = upper - lower;
        }
        assert!(width < 0.005, "{width}");
    }

    #[test]
    fn nothing_seen_says_nothing() {
        assert_eq!((lower_bound(0, 0, 1e-6), upper_bound(0, 0, 1e-6)), (0.0, 1.0));
        assert_eq!((lower_bound(0, 9, 1e-6), upper_bound(9, 9, 1e-6)), (0.0, 1.0));
    }

    /// Ville's inequality, tried: looked at after every single trial, the bounds miss at most as often as they may.
    #[test]
    fn bounds_hold_under_continuous_looking() {
        let (alpha, runs, seed) = (0.05, 2_000, 7);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut missed = 0;
        for run in 0..runs {
            let p = [0.01, 0.1, 0.5, 0.97][run % 4];
            let mut hits = 0;
            let outside = (1..=500_u64).any(|trials| {
                hits += u64::from(random.f64() < p);
                Evidence::new(hits, trials, alpha).excludes(p)
            });
            missed += usize::from(outside);
        }
        let share = missed as f64 / runs as f64;
        assert!(share <= alpha, "{share}");
        assert!(share > 0.001, "they are not so wide that they say nothing: {share}");
    }
}
