use super::*;

const SECOND: u64 = 1_000_000;

fn estimates(endpoints: u32, now: InstantUs) -> Estimates {
    let mut estimates = Estimates::new(10.0 * SECOND as f64, 30_000.0);
    estimates.update((0..endpoints).map(|slot| (slot, u64::from(slot) + 100)), now);
    estimates
}

fn rtt_us(estimates: &Estimates, slot: Slot, now: InstantUs) -> f64 {
    estimates.shrunk(estimates.cost(slot), now)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= b.abs() * 1e-6
}

#[test]
fn a_peak_is_taken_at_once_and_forgotten_with_e_to_the_minus_t() {
    let mut estimates = estimates(1, 5 * SECOND);
    assert!(near(rtt_us(&estimates, 0, 5 * SECOND), 30_000.0), "the initial estimate");
    estimates.observe(0, Sample::Exactly(200_000.0), 6 * SECOND);
    assert!(near(rtt_us(&estimates, 0, 6 * SECOND), 200_000.0));
    assert!(near(rtt_us(&estimates, 0, 16 * SECOND), 200_000.0 * (-1.0_f64).exp()), "reads decay");
    estimates.observe(0, Sample::Exactly(10_000.0), 16 * SECOND);
    let kept = (-1.0_f64).exp();
    assert!(near(rtt_us(&estimates, 0, 16 * SECOND), 200_000.0 * kept + 10_000.0 * (1.0 - kept)));
}

#[test]
fn what_took_at_least_so_long_never_lowers_an_estimate() {
    let mut estimates = estimates(1, 0);
    estimates.observe(0, Sample::AtLeast(1_000.0), 20 * SECOND);
    assert!(near(rtt_us(&estimates, 0, 20 * SECOND), 30_000.0), "nor lets it sink");
    estimates.observe(0, Sample::AtLeast(90_000.0), 21 * SECOND);
    assert!(near(rtt_us(&estimates, 0, 21 * SECOND), 90_000.0));
}

#[test]
fn estimates_stay_right_over_years_and_idle_endpoints_never_vanish() {
    let mut estimates = estimates(2, 0);
    let mut now = 0;
    for _ in 0..5_000 {
        now += 6 * 3_600 * SECOND;
        estimates.observe(0, Sample::Exactly(50_000.0), now);
        assert!(near(rtt_us(&estimates, 0, now), 50_000.0));
        assert!(estimates.cost(1) > 0.0);
        assert!(estimates.cost(0) > estimates.cost(1), "what was not measured for long is tried again");
    }
}

#[test]
fn completions_out_of_order_and_of_unknown_slots_do_no_harm() {
    let mut estimates = estimates(1, SECOND);
    estimates.observe(0, Sample::Exactly(100_000.0), 3 * SECOND);
    estimates.observe(0, Sample::Exactly(50_000.0), 2 * SECOND);
    assert!(near(rtt_us(&estimates, 0, 3 * SECOND), 100_000.0));
    estimates.observe(9, Sample::Exactly(50_000.0), 4 * SECOND);
    assert_eq!(estimates.iter().count(), 1);
}

#[test]
fn an_endpoint_that_stays_keeps_its_estimate_and_a_new_one_at_its_slot_does_not() {
    let mut estimates = estimates(2, 0);
    estimates.observe(0, Sample::Exactly(500_000.0), SECOND);
    estimates.observe(1, Sample::Exactly(500_000.0), SECOND);
    estimates.update([(0, 100), (1, 999)].into_iter(), SECOND);
    assert!(near(rtt_us(&estimates, 0, SECOND), 500_000.0));
    assert!(near(rtt_us(&estimates, 1, SECOND), 30_000.0));
}

#[test]
fn a_successor_knows_what_its_predecessor_knew_whatever_their_epochs() {
    let mut old = estimates(3, 0);
    for second in 1..2_000 {
        old.observe(1, Sample::Exactly(2_000_000.0), second * SECOND);
        old.observe(2, Sample::Exactly(5_000.0), second * SECOND);
    }
    let now = 2_000 * SECOND;
    let mut new = estimates(3, now);
    for estimate in old.iter() {
        new.restore(estimate);
    }
    new.restore(Estimate { key: 424_242, rtt_us: 1.0, at: now });
    for slot in 1..3 {
        assert!(near(rtt_us(&new, slot, now), rtt_us(&old, slot, now)), "slot {slot}");
    }
}

#[test]
fn a_state_of_nonsense_leaves_costs_that_can_be_compared() {
    let mut estimates = estimates(1, 7 * SECOND);
    for (rtt, at) in [(f64::MAX, u64::MAX), (0.0, 0), (f64::MIN_POSITIVE, 7 * SECOND)] {
        estimates.restore(Estimate { key: 100, rtt_us: rtt, at });
        let cost = estimates.cost(0);
        assert!(cost.is_finite() && cost > 0.0, "{rtt} at {at}: {cost}");
        estimates.observe(0, Sample::Exactly(40_000.0), 8 * SECOND);
        assert!(estimates.cost(0).is_finite());
    }
}
