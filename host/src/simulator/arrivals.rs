//! When requests arrive: an open loop, in which nobody waits for an answer before the next one is sent.

use super::{
    random::exponential,
    scenario::{Arrivals, Process},
};

/// The instants of arrivals, in seconds since the beginning, growing.
#[derive(Debug)]
pub struct ArrivalTimes<'a> {
    arrivals: &'a Arrivals,
    /// No more from here on.
    end_s: f64,
    now_s: f64,
    random: fastrand::Rng,
}

impl<'a> ArrivalTimes<'a> {
    pub fn new(arrivals: &'a Arrivals, end_s: f64, random: fastrand::Rng) -> Self {
        Self { arrivals, end_s, now_s: 0.0, random }
    }

    /// The rate now, and until when it stays.
    fn rate(&self) -> (f64, f64) {
        let within = |phase: &&super::scenario::Phase| phase.from_s <= self.now_s && self.now_s < phase.until_s;
        match self.arrivals.phases.iter().find(within) {
            Some(phase) => (phase.rate, phase.until_s),
            None => {
                let next = self.arrivals.phases.iter().map(|phase| phase.from_s).filter(|&from| from > self.now_s);
                (self.arrivals.rate, next.fold(self.end_s, f64::min))
            }
        }
    }
}

impl Iterator for ArrivalTimes<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        // In arrivals: what has to be expected until the next comes.
        let mut distance = match self.arrivals.process {
            Process::Poisson => exponential(&mut self.random),
            Process::Constant => 1.0,
        };
        while self.now_s < self.end_s {
            let (rate, until_s) = self.rate();
            let until_s = until_s.min(self.end_s);
            let expected = (until_s - self.now_s) * rate;
            if expected > distance {
                self.now_s += distance / rate;
                return Some(self.now_s);
            }
            distance -= expected;
            self.now_s = until_s;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::scenario::Phase;

    fn count(process: Process, from_s: f64, until_s: f64) -> usize {
        let phases = vec![Phase { from_s: 10.0, until_s: 20.0, rate: 300.0 }];
        let arrivals = Arrivals { rate: 100.0, process, phases };
        let times = ArrivalTimes::new(&arrivals, 30.0, fastrand::Rng::with_seed(5));
        times.filter(|at| (from_s..until_s).contains(at)).count()
    }

    #[test]
    fn each_phase_has_its_rate_and_nothing_comes_after_the_end() {
        let near = |found: usize, wanted: usize, tolerance: usize| found.abs_diff(wanted) <= tolerance;
        for (process, tolerance) in [(Process::Constant, 1), (Process::Poisson, 150)] {
            assert!(near(count(process, 0.0, 10.0), 1_000, tolerance));
            assert!(near(count(process, 10.0, 20.0), 3_000, tolerance));
            assert!(near(count(process, 20.0, 30.0), 1_000, tolerance));
            assert_eq!(count(process, 30.0, f64::MAX), 0);
        }
    }

    #[test]
    fn the_gaps_of_a_poisson_process_vary_as_much_as_they_last() {
        let arrivals = Arrivals { rate: 100.0, process: Process::Poisson, phases: Vec::new() };
        let times: Vec<f64> = ArrivalTimes::new(&arrivals, 1_000.0, fastrand::Rng::with_seed(5)).collect();
        let gaps: Vec<f64> = times.windows(2).map(|two| two[1] - two[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean - 0.01).abs() < 0.000_1 && (deviation - 0.01).abs() < 0.000_2, "{mean} {deviation}");
    }
}
