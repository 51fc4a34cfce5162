//! Sorting in little code.
//!
//! The library's sorts adapt to their input and are 4 to 8 KiB of WebAssembly for each type; heap sort is a few
//! hundred bytes, never worse than O(n log n), and only used where membership changes.

/// Sorts in place by heap sort (Williams 1964), not keeping the order of equals. `less` is a strict weak order;
/// where it is none, the order that results is any, and still ends.
pub fn sort_by<T>(items: &mut [T], mut less: impl FnMut(&T, &T) -> bool) {
    let mut start = items.len() / 2;
    let mut end = items.len();
    while end > 1 {
        if start > 0 {
            start -= 1;
        } else {
            end -= 1;
            items.swap(0, end);
        }
        sift_down(&mut items[..end], start, &mut less);
    }
}

/// Moves `heap[at]` down until no child of it is greater.
fn sift_down<T>(heap: &mut [T], mut at: usize, less: &mut impl FnMut(&T, &T) -> bool) {
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && less(&heap[child], &heap[child + 1]) {
            child += 1;
        }
        if !less(&heap[at], &heap[child]) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn it_sorts_as_the_library_does() {
        for len in 0..200 {
            let mut items: Vec<u64> = (0..len).map(|n| mix(len, n) % 50).collect();
            let mut wanted = items.clone();
            wanted.sort_unstable();
            sort_by(&mut items, |a, b| a < b);
            assert_eq!(items, wanted);
        }
    }

    #[test]
    fn an_order_that_is_none_still_ends() {
        let mut items: Vec<u32> = (0..100).collect();
        sort_by(&mut items, |_, _| true);
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
