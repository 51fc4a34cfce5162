use super::*;
use sluice_sdk::members::Candidate;

#[test]
fn shares_are_within_one_percent_of_the_weights() {
    for weights in [vec![1, 1, 1], vec![5, 3, 2], (1..=20).collect::<Vec<u32>>()] {
        let candidates = weights.iter().zip(0..).map(|(&weight, slot)| Candidate {
            slot,
            key: u64::from(slot),
            weight,
            priority: 0,
            available: true,
            since: 0,
        });
        let mut levels = Levels::new(Rules::default(), Draw::default());
        levels.update(candidates, 0);
        let picks = 4_000_000;
        let mut counts = vec![0_u32; weights.len()];
        for n in 0..picks {
            let random = mix(11, n);
            let slot = levels.pick(0, random, 0, |_| false, |draw, _, turn| draw.0.draw(mix(random, u64::from(turn))));
            counts[slot.expect("there are endpoints") as usize] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (index, count) in counts.into_iter().enumerate() {
            let wanted = picks as f64 * f64::from(weights[index]) / f64::from(total);
            // One percent, and for the rare three standard deviations of chance beyond.
            let allowed = (0.01 * wanted).max(3.0 * wanted.sqrt());
            assert!((f64::from(count) - wanted).abs() < allowed, "{index}: {count}, not {wanted}");
        }
    }
}
