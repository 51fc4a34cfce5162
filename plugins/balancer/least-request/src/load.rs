//! How busy an endpoint is.

/// Load follows Envoy's effective weight `w / (active + 1)^bias`: its inverse, less the part that an idle endpoint
/// has too, for that part is in the drawing of the candidates already and would count twice. With `bias` 1 it is
/// requests in flight a unit of weight; with `bias` 0 there is none, and only weights count.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub bias: f64,
}

impl Load {
    /// `share` is the endpoint's weight, in any unit.
    #[inline]
    pub fn of(self, active: u32, share: u32) -> f64 {
        let active = f64::from(active);
        let load = if self.bias == 1.0 { active } else { (active + 1.0).powf(self.bias) - 1.0 };
        load / f64::from(share)
    }
}

#[cfg(test)]
mod tests;
