//! How busy an endpoint is.

use sluice_sdk::power::power;

/// Loads of so many requests are computed beforehand: an endpoint rarely has more.
const KNOWN: u32 = 256;

/// Load follows Envoy's effective weight `w / (active + 1)^bias`: its inverse, less the part that an idle endpoint
/// has too, for that part is in the drawing of the candidates already and would count twice. With `bias` 1 it is
/// requests in flight a unit of weight; with `bias` 0 there is none, and only weights count.
#[derive(Clone, Debug)]
pub struct Load {
    bias: f64,
    /// Of an endpoint of weight 1, by its requests in flight.
    known: Vec<f64>,
}

impl Load {
    pub fn new(bias: f64) -> Self {
        Self { bias, known: (0..KNOWN).map(|active| total(active, bias)).collect() }
    }

    /// `share` is the endpoint's weight, in any unit.
    #[inline]
    pub fn of(&self, active: u32, share: u32) -> f64 {
        let total = self.known.get(active as usize).copied().unwrap_or_else(|| total(active, self.bias));
        total / f64::from(share)
    }
}

fn total(active: u32, bias: f64) -> f64 {
    if bias == 1.0 { f64::from(active) } else { power(f64::from(active) + 1.0, bias) - 1.0 }
}

#[cfg(test)]
mod tests;
