//! Powers in little code: the library's `powf` is 2.5 KiB of WebAssembly, a square root is one instruction.

/// Binary digits of the exponent's fraction that count: the result is within a millionth.
const FRACTION_BITS: u32 = 24;

/// Most that an exponent's whole part may be.
const WHOLE_MAX: u32 = 64;

/// `base` to the power of `exponent`, both at least 0, `exponent` at most 64.
pub fn power(base: f64, exponent: f64) -> f64 {
    let whole = (exponent as u32).min(WHOLE_MAX);
    let mut result = (0..whole).fold(1.0, |product, _| product * base);
    let (mut root, mut fraction) = (base, exponent - f64::from(whole));
    for _ in 0..FRACTION_BITS {
        root = root.sqrt();
        fraction *= 2.0;
        if fraction >= 1.0 {
            fraction -= 1.0;
            result *= root;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_library_says() {
        for base in [0.0, 1e-6, 0.1, 0.5, 1.0, 2.0, 77.7, 100_000.0] {
            for exponent in [0.0, 0.1, 0.5, 1.0 / 3.0, 1.0, 1.5, 2.0, 3.7, 10.0] {
                let (is, wanted) = (power(base, exponent), f64::powf(base, exponent));
                assert!((is - wanted).abs() <= wanted * 2e-6, "{base}^{exponent}: {is}, not {wanted}");
            }
        }
    }
}
