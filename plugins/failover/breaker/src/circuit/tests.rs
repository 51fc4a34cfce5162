use super::*;

const SECOND: u64 = 1_000_000;
const LINKERD: Rules = Rules { consecutive: 7, min_penalty_us: SECOND, max_penalty_us: 60 * SECOND, jitter: 0.5 };

/// Without jitter.
fn fail(circuit: &mut Circuit, now: u64, times: u32) -> Option<Step> {
    (0..times).fold(None, |_, _| circuit.fails(&LINKERD, now, 0))
}

fn ejected(penalty_s: u64, after_probe: bool) -> Option<Step> {
    Some(Step::Eject { penalty_us: penalty_s * SECOND, after_probe })
}

#[test]
fn seven_failures_in_a_row_eject_and_a_success_between_them_does_not() {
    let mut circuit = Circuit::default();
    assert_eq!(fail(&mut circuit, 0, 6), None);
    assert_eq!(circuit.works(), None);
    assert_eq!(fail(&mut circuit, 0, 6), None);
    assert_eq!(fail(&mut circuit, 0, 1), ejected(1, false));
    assert_eq!(fail(&mut circuit, 0, 100), None, "what was under way counts no more");
}

#[test]
fn a_penalty_ends_in_one_probe_that_readmits_or_doubles() {
    let mut circuit = Circuit::default();
    let mut now = 0;
    fail(&mut circuit, now, 7);
    for penalty_s in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(circuit.pass(now + penalty_s * SECOND - 1), None);
        now += penalty_s * SECOND;
        assert_eq!(circuit.pass(now), Some(Step::Probe));
        assert_eq!(circuit.pass(now + SECOND), None, "once");
        assert_eq!(circuit.on_probation_since(), Some(now));
        let next = (penalty_s * 2).min(60);
        assert_eq!(fail(&mut circuit, now, 1), ejected(next, true));
    }
    now += 60 * SECOND;
    assert_eq!(circuit.pass(now), Some(Step::Probe));
    assert_eq!(circuit.works(), Some(Step::Admit));
    assert_eq!(fail(&mut circuit, now, 7), ejected(1, false), "it begins anew");
}

#[test]
fn jitter_adds_up_to_half_and_never_passes_the_longest() {
    for n in 0..1_000_u64 {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        assert!((SECOND..SECOND * 3 / 2).contains(&LINKERD.penalty_us(0, random)));
        assert!((32 * SECOND..48 * SECOND).contains(&LINKERD.penalty_us(5, random)));
        assert_eq!(LINKERD.penalty_us(6, random), 60 * SECOND);
    }
    assert_eq!(LINKERD.penalty_us(u32::MAX, u64::MAX), 60 * SECOND);
}

#[test]
fn an_ejection_that_did_not_hold_is_not_counted() {
    let mut circuit = Circuit::default();
    for _ in 0..3 {
        assert_eq!(fail(&mut circuit, 0, 7), ejected(1, false));
        circuit.give_in();
    }
}

#[test]
fn what_was_saved_goes_on_where_it_was() {
    let mut circuit = Circuit::default();
    fail(&mut circuit, 0, 7);
    circuit.pass(SECOND);
    fail(&mut circuit, SECOND, 1);
    let (until, times) = circuit.saved();
    assert_eq!((until, times), (Some(3 * SECOND), 2));
    let mut next = Circuit::restored(until, times, SECOND);
    assert_eq!(next.pass(3 * SECOND - 1), None);
    assert_eq!(next.pass(3 * SECOND), Some(Step::Probe));
    let (since, times) = next.saved();
    let mut third = Circuit::restored(since, times, 4 * SECOND);
    assert_eq!(third.pass(4 * SECOND), Some(Step::Probe), "a probation is begun again");
    assert_eq!(fail(&mut third, 4 * SECOND, 1), ejected(4, true));
}
