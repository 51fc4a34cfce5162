//! How many checks in a row decide.

/// Of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// So far as is known: before the first check an endpoint passes, as a gateway that has just started would have none
    /// otherwise.
    passing: bool,
    /// How the last ones ended, and how many did in a row. None before the first.
    streak: Option<(bool, u32)>,
}

impl Tally {
    pub fn new() -> Self {
        Self { passing: true, streak: None }
    }

    pub fn is_passing(&self) -> bool {
        self.passing
    }

    pub fn consecutive(&self) -> u32 {
        self.streak.map_or(0, |(_, length)| length)
    }

    /// Another question is asked from now on: answers to the old one count no longer, but what they decided stays.
    pub fn ask_anew(&mut self) {
        if let Some((_, length)) = &mut self.streak {
            *length = 0;
        }
    }

    /// Counts one check; answers what it decided, if that is news. The very first decides alone: an endpoint that is
    /// not there when the gateway starts shall not be believed in for `fall` intervals.
    pub fn count(&mut self, success: bool, fall: u32, rise: u32) -> Option<bool> {
        let is_first = self.streak.is_none();
        let length = match self.streak {
            Some((last, length)) if last == success => length.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((success, length));
        let needed = if success { rise } else { fall };
        let decides = is_first || length >= needed;
        let is_news = success != self.passing && decides;
        if is_news {
            self.passing = success;
        }
        is_news.then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a row of checks (`+` and `-`) decides: `.` nothing, `U` up, `D` down.
    fn decided(row: &str, fall: u32, rise: u32) -> String {
        let mut tally = Tally::new();
        let letter = |became| match became {
            None => '.',
            Some(true) => 'U',
            Some(false) => 'D',
        };
        row.chars().map(|check| letter(tally.count(check == '+', fall, rise))).collect()
    }

    #[test]
    fn an_endpoint_falls_after_so_many_failures_in_a_row_and_rises_after_so_many_successes() {
        assert_eq!(decided("+---++", 3, 2), "...D.U");
        assert_eq!(decided("+--+--+---", 3, 2), ".........D", "a success in between begins a new count");
        assert_eq!(decided("+---+-+-++", 3, 2), "...D.....U", "so does a failure");
        assert_eq!(decided("+-+-", 1, 1), ".DUD");
        assert_eq!(decided("+-------", 3, 2), "...D....", "what is decided is no news");
    }

    #[test]
    fn the_very_first_check_decides_alone() {
        assert_eq!(decided("-++", 3, 2), "D.U");
        assert_eq!(decided("+", 3, 2), ".");
        assert_eq!(decided("-+-++", 3, 2), "D...U");
    }

    #[test]
    fn another_question_needs_a_whole_row_of_its_own_answers() {
        let mut tally = Tally::new();
        for success in [true, false, false] {
            assert_eq!(tally.count(success, 3, 2), None);
        }
        tally.ask_anew();
        assert!(tally.is_passing());
        assert_eq!([(); 3].map(|()| tally.count(false, 3, 2)), [None, None, Some(false)]);
        tally.ask_anew();
        assert!(!tally.is_passing());
        assert_eq!([(); 2].map(|()| tally.count(true, 3, 2)), [None, Some(true)]);
    }
}
